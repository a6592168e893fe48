"""A run on disk: everything that a killed run needs to go on, and the weights it ends with.

Checkpoint versions (checkpoint.safetensors, metadata "format": "mien-checkpoint")
    1   tensors "network.*", "average.*", "optimiser.<parameter>.<moment>", "balancer.*"; metadata progress and config as JSON.
Run versions (training.json, "format": "mien-run"), written last
    1   config, data, code revision, metrics, sha256 of weights.safetensors (the averaged network); the record of the run
        that it began with as `parent`, where there was one. Wearers by name, or as ranges (model_export.wearer_names).

No pickle: tensors as safetensors, numbers as JSON. Files are written aside, fsynced and renamed, so that a kill leaves the
old file or the new one.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from model_export.balancing import Balancer
from model_export.errors import CheckpointError

RUN_FORMAT: Final = "mien-run"
RUN_VERSION: Final = 1
CHECKPOINT_FORMAT: Final = "mien-checkpoint"
CHECKPOINT_VERSION: Final = 1
CHECKPOINT_FILE: Final = "checkpoint.safetensors"
WEIGHTS_FILE: Final = "weights.safetensors"
RECORD_FILE: Final = "training.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    """Steps done."""
    elapsed_s: float = 0.0
    """Seconds of training, over all its starts."""


def write_file(path: Path, data: bytes) -> None:
    """Replaces a file as a whole: written aside, fsynced, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


@dataclass(frozen=True, slots=True)
class RunState:
    """What a checkpoint stores, by reference."""

    config: Mapping[str, Any]
    """What decides the weights; a resumed run must have the same."""
    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    balancer: Balancer


def write_checkpoint(folder: Path, progress: Progress, state: RunState) -> None:
    """Stores the run's whole state in `folder`."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
    tensors |= {f"balancer.{name}": tensor for name, tensor in state.balancer.state().items()}
    for index, values in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in values.items()}
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "version": str(CHECKPOINT_VERSION),
        "step": str(progress.step),
        "elapsed_s": repr(progress.elapsed_s),
        "config": json.dumps(state.config),
    }
    # contiguous() because channels-last weights are not, and safetensors stores rows
    packed = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    write_file(folder / CHECKPOINT_FILE, packed)


def read_checkpoint(folder: Path, state: RunState) -> Progress:
    """Restores the run's state in place; raises CheckpointError when it is absent or of another configuration."""
    path = folder / CHECKPOINT_FILE
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} should be a checkpoint. Found: {error}. Start without resuming.") from None
    found = (metadata.get("format"), metadata.get("version"))
    if found != (CHECKPOINT_FORMAT, str(CHECKPOINT_VERSION)):
        raise CheckpointError(f"{path} should be of {CHECKPOINT_FORMAT} version {CHECKPOINT_VERSION}. Found {found}.")
    stored = json.loads(metadata["config"])
    if differing := sorted(
        key for key in stored.keys() | state.config.keys() if stored.get(key) != state.config.get(key)
    ):
        raise CheckpointError(
            f"A resumed run should keep its configuration. Found other {', '.join(differing)}: "
            f"{[state.config.get(key) for key in differing]} for {[stored.get(key) for key in differing]}."
        )
    try:
        state.network.load_state_dict(_under("network.", tensors))
        state.average.load_state_dict(_under("average.", tensors))
    except RuntimeError as error:
        raise CheckpointError(f"{path} should hold this network. Found: {error}.") from None
    state.balancer.restore(_under("balancer.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimiser.", tensors).items():
        index, moment = name.split(".")
        moments.setdefault(int(index), {})[moment] = tensor
    state.optimiser.load_state_dict({"state": moments, "param_groups": state.optimiser.state_dict()["param_groups"]})
    return Progress(int(metadata["step"]), float(metadata["elapsed_s"]))


def read_record(folder: Path) -> tuple[dict[str, Any], bytes]:
    """training.json and the weights of a finished run; raises CheckpointError unless they belong together."""
    try:
        record = json.loads((folder / RECORD_FILE).read_bytes())
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{folder} should hold {RECORD_FILE} and {WEIGHTS_FILE}. Found: {error.strerror}. Let the training finish."
        ) from None
    found = (record.get("format"), record.get("version"))
    if found != (RUN_FORMAT, RUN_VERSION):
        raise CheckpointError(f"{RECORD_FILE} should be of {RUN_FORMAT} version {RUN_VERSION}. Found {found}.")
    digest, expected = hashlib.sha256(weights).hexdigest(), record["result"]["weights_sha256"]
    if digest != expected:
        raise CheckpointError(
            f"{WEIGHTS_FILE} should have sha256 {expected[:12]}, as {RECORD_FILE} says. Found {digest[:12]}."
        )
    return record, weights


def load_finished(folder: Path, network: nn.Module) -> dict[str, Any]:
    """Puts the averaged weights of a finished run into `network` and gives the run's record; raises CheckpointError."""
    record, weights = read_record(folder)
    try:
        network.load_state_dict(load_tensors(weights))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS_FILE} of {folder} should fit this network. Found: {error}.") from None
    return record


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def code_revision() -> str:
    """The git revision of this code, with "+" where files differ from it; "unknown" outside a clone."""
    where = Path(__file__).resolve().parent
    try:
        revision = _git(where, "rev-parse", "HEAD")
        return revision + ("+" if _git(where, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(where: Path, *arguments: str) -> str:
    command = ["git", "-C", str(where), *arguments]  # constant words and our own folder
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()  # noqa: S603
