"""Training: one visible loop from shards of rendered wearers to averaged weights.

Axes: E task (losses.TASK_NAMES), T frame, B crop.

Under torchrun each process takes its own batches, gradients are averaged (DistributedDataParallel; gloo on CPU, nccl on
CUDA), and rank 0 alone writes. A run can be killed at any time and resumed: batches depend on seed, step and rank only.
"""

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model_export.augment import NO_AUGMENTATION
from model_export.balancing import balancer_by_name
from model_export.balancing.equal import START_STEPS
from model_export.batches import Batch, BatchSource, batches
from model_export.begin import begin_with
from model_export.checkpoint import (
    CHECKPOINT_FILE,
    RECORD_FILE,
    RUN_FORMAT,
    RUN_VERSION,
    WEIGHTS_FILE,
    Progress,
    RunState,
    code_revision,
    read_checkpoint,
    write_checkpoint,
    write_file,
)
from model_export.data import (
    ShardEntry,
    check_digest,
    data_digest,
    dataset_config,
    list_shards,
    split_wearers,
    values_mean,
)
from model_export.errors import TrainingError
from model_export.losses import ignorant_losses, losses, points_loss
from model_export.metrics import pearson
from model_export.muon import Muon
from model_export.network import (
    EYE_EU_COUNT,
    MOUTH_EU_COUNT,
    ExpressionNetwork,
    Neutral,
)
from model_export.places import Places
from model_export.processes import mean_over_ranks, require_same_everywhere, shared_clock, this_place
from model_export.run_log import RunLog
from model_export.train_config import PRECISIONS, TrainConfig
from model_export.wearer_names import names_in, ranges_of

_WARM_UP: Final = 0.03
"""Share of the run in which the learning rate rises."""
_LAST_RATE: Final = 0.005
"""Learning rate at the end, share of its peak."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run says of itself."""

    steps: int
    elapsed_s: float
    crops_per_s: float
    """Crops trained on a second, over all processes, since this start."""
    loss: float | None
    """Mean of the tasks' losses, unbalanced, at the last step; None when this start had nothing left to do."""
    unseen_r: float | None
    """Mean Pearson r over the EUs on wearers never seen; None when none were held out."""
    rested_r: float | None
    """The same where each is compared with its face at rest."""
    weights_sha256: str


def learning_rate(done: float, peak: float) -> float:
    """The rate when `done` of the run (0 to 1) lies behind: linear warm-up, then half a cosine."""
    warm = min(1.0, (done + 1e-4) / _WARM_UP)
    return peak * warm * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def _optimiser(network: ExpressionNetwork, config: TrainConfig) -> Muon:
    parameters = list(network.parameters())
    ends = (network.eye_head, network.mouth_head, network.eye_points, network.mouth_points)
    heads = {id(p) for end in ends for p in end.parameters()}
    inner = [p for p in parameters if p.ndim >= 2 and id(p) not in heads]
    groups: list[dict[str, Any]] = [
        {"params": inner, "weight_decay": config.weight_decay, "orthogonal": config.optimiser == "muon"},
        {"params": [p for p in parameters if p.ndim >= 2 and id(p) in heads], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return Muon(groups, lr=config.learning_rate)


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, step: int, horizon: float) -> None:
    """Moves the averaged weights (and batch statistics) a little towards the network's."""
    rate = 1 - min(horizon, (1 + step) / (10 + step))
    for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if slow.dtype.is_floating_point:
            slow.lerp_(fast, rate)
        else:
            slow.copy_(fast)


def train(config: TrainConfig) -> TrainResult | None:  # noqa: PLR0912, PLR0915 - one visible loop, not a framework
    """Trains until the epochs or minutes are over; writes weights.safetensors and training.json into `config.out`.

    None in the processes of a run whose rank is not 0. A finished run that is resumed only says its result again.
    """
    with this_place(config.device, config.threads) as place:
        entries, unseen = split_wearers(
            [entry for folder in config.data for entry in list_shards(folder)], config.held_out
        )
        if place.rank == 0:
            config.out.mkdir(parents=True, exist_ok=True)
            for entry in (*entries, *unseen):
                check_digest(entry)
        torch.manual_seed(config.seed)
        network = ExpressionNetwork(config.eye, config.mouth, PRECISIONS[config.precision]).to(place.device)
        parent = None if config.start_from is None else begin_with(config.start_from, network, entries)
        # twice as fast as rows of pixels for convolutions on a CPU; torch has no type for this argument
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = copy.deepcopy(network).eval()
        model = DistributedDataParallel(network) if place.ranks > 1 else network
        optimiser, balancer = _optimiser(network, config), balancer_by_name(config.balancer)
        places = None if config.placed_by is None else Places.read(config.placed_by)
        source = BatchSource(
            *(entries, config.batch, config.augmentation, places),
            seed=config.seed,
            rank=place.rank,
            ranks=place.ranks,
            together=config.together,
        )
        if parent is not None:  # what a task counts for is seen from where a network that knows nothing begins
            for step in range(START_STEPS):
                balancer.update(mean_over_ranks(ignorant_losses(source[step].to(place.device)), place))
        essence = config.essence() | {"ranks": place.ranks, "data_sha256": data_digest(entries)}
        essence |= {"start_from": parent and parent["result"]["weights_sha256"]}
        essence |= {"placed_by": places and places.bundle.digest}
        state = RunState(essence, network, average, optimiser, balancer)
        start = Progress()
        if config.resume and (config.out / CHECKPOINT_FILE).exists():
            start = read_checkpoint(config.out, state)
        steps = None if config.epochs is None else max(1, round(config.epochs * source.steps_per_epoch))
        elapsed_s = shared_clock(place, start.elapsed_s)
        step, now_s, stored_s, judged = start.step, start.elapsed_s, start.elapsed_s, 0.0
        crops = 3 * config.batch * place.ranks
        losses_E: Tensor | None = None
        with RunLog(config.out, start.step, steps, config.minutes, quiet=place.rank > 0) as log:
            for batch in batches(source, start.step, config.workers):
                now_s = elapsed_s()
                done = step / steps if steps else now_s / (60 * (config.minutes or 1))
                if done >= 1:
                    break
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(done, config.learning_rate)

                batch_there = batch.to(place.device)
                neutrals = neutrals_of(average, batch_there)
                outputs = model(batch_there.eye_pixels_BHW, batch_there.mouth_pixels_BHW, *neutrals)
                losses_E, off = losses(outputs, batch_there), points_loss(outputs, batch_there)
                balancer.update(mean_over_ranks(losses_E.detach(), place))
                loss = balancer(losses_E) + config.points * off
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                norm = nn.utils.clip_grad_norm_(network.parameters(), config.gradient_limit)
                if not norm.isfinite():
                    raise TrainingError(
                        f"The gradient should be finite. Found {norm.item()} at step {step}. Lower the learning rate."
                    )
                optimiser.step()
                _follow(average, network, step, config.average_horizon)
                step += 1

                if place.rank == 0:
                    rate = learning_rate(done, config.learning_rate)
                    log.note(step, now_s, crops, rate=rate, losses_E=losses_E.detach(), points=off.detach())
                    if unseen and done - judged >= 1 / config.judgements:
                        judged = done
                        found_r = unseen_pearson(average, unseen, place.device, places)
                        log.say(step=step, elapsed_s=now_s, **found_r)
                    if step % config.checkpoint_steps == 0 or now_s - stored_s >= config.checkpoint_s:
                        stored_s = now_s
                        write_checkpoint(config.out, Progress(step, now_s), state)
            require_same_everywhere(network, place)
            if place.rank > 0:
                return None
            write_checkpoint(config.out, Progress(step, now_s), state)
            found_r = unseen_pearson(average, unseen, place.device, places) if unseen else {}
            log.say(step=step, elapsed_s=now_s, **found_r)
        weights = save_tensors({name: tensor.cpu().contiguous() for name, tensor in average.state_dict().items()})
        result = TrainResult(
            steps=step,
            elapsed_s=now_s,
            crops_per_s=(step - start.step) * crops / max(now_s - start.elapsed_s, 1e-9),
            loss=None if losses_E is None else float(losses_E.detach().mean()),
            unseen_r=found_r.get("unseen_r"),
            rested_r=found_r.get("rested_r"),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
        )
        write_file(config.out / WEIGHTS_FILE, weights)
        write_file(config.out / RECORD_FILE, _record(config, essence, entries, unseen, result, parent=parent))
        return result


def _record(
    config: TrainConfig,
    essence: dict[str, Any],
    entries: Sequence[ShardEntry],
    unseen: Sequence[ShardEntry],
    result: TrainResult,
    *,
    parent: Mapping[str, Any] | None,
) -> bytes:
    """training.json: what stands next to the weights. Wearers that the run it began with was trained on count as trained on."""
    seen_before = names_in(parent["data"]["trained_wearers"]) if parent else set[str]()
    if parent:  # its wearers are named with ours, once
        named = ("trained_wearers", "held_out_wearers")
        parent = {**parent, "data": {name: value for name, value in parent["data"].items() if name not in named}}
    record = {
        "format": RUN_FORMAT,
        "version": RUN_VERSION,
        "config": essence,
        "data": {
            "sha256": data_digest(entries),
            "shards": len(entries),
            "frame_sets": sum(entry.frames for entry in entries),
            "trained_wearers": ranges_of({entry.wearer for entry in entries} | seen_before),
            "held_out_wearers": ranges_of({entry.wearer for entry in unseen}),
            "held_out_sha256": data_digest(unseen),
            "values_mean_E": [round(float(value), 5) for value in values_mean(entries)],
            "render_configs": [dataset_config(folder) for folder in config.data],
        },
        "result": asdict(result),
        "parent": parent,
        "code_revision": code_revision(),
        "torch": torch.__version__,
    }
    return (json.dumps(record, indent=1) + "\n").encode()


@torch.no_grad()
def neutrals_of(network: ExpressionNetwork, batch: Batch) -> tuple[Neutral, Neutral]:
    """What eyes and mouths of a batch are compared with, `network` seeing the faces at rest."""
    eye_rests_RM = network.map_of(network.eye, batch.eye_rests_RHW).float()
    mouth_rests_RM = network.map_of(network.mouth, batch.mouth_rests_RHW).float()
    return (
        Neutral(batch.eye_of_crops_BB, batch.eye_of_rests_BR @ eye_rests_RM),
        Neutral(batch.mouth_of_crops_BB, batch.mouth_of_rests_BR @ mouth_rests_RM),
    )


@torch.no_grad()
def unseen_pearson(
    network: ExpressionNetwork,
    entries: Sequence[ShardEntry],
    device: torch.device,
    places: Places | None = None,
    most: int = 2048,
) -> dict[str, float]:
    """Mean Pearson r over all 56 EUs on crops as rendered, or as placed; at most `most` frame sets spread over the shards.

    "unseen_r" where faces are compared with nothing, "rested_r" where each is compared with itself at rest.
    """
    network.eval()
    source = BatchSource(entries, min(128, sum(entry.frames for entry in entries)), NO_AUGMENTATION, places, seed=0)
    estimates: dict[str, list[NDArray[np.float32]]] = {"unseen_r": [], "rested_r": []}
    truths: list[NDArray[np.float32]] = []
    for step in range(min(most // 128 + 1, source.steps_per_epoch)):
        batch = source[step].to(device)
        rested = neutrals_of(network, batch)
        nothing = [Neutral(*map(torch.zeros_like, neutral)) for neutral in rested]
        for name, neutrals in (("unseen_r", nothing), ("rested_r", rested)):
            outputs = network(batch.eye_pixels_BHW, batch.mouth_pixels_BHW, *neutrals)
            eye_BE, mouth_BE = outputs.eye_BO[:, :EYE_EU_COUNT], outputs.mouth_BO[:, :MOUTH_EU_COUNT]
            estimates[name].append(_whole_faces(eye_BE, mouth_BE))
        truths.append(_whole_faces(batch.eye_values_BE, batch.mouth_values_BE))
    truth_NE = np.concatenate(truths)
    return {name: float(np.nanmean(pearson(np.concatenate(rows), truth_NE))) for name, rows in estimates.items()}


def _whole_faces(eye_BE: Tensor, mouth_BE: Tensor) -> NDArray[np.float32]:
    """Values [N, 56] of left eyes, right eyes behind them, and mouths."""
    values_NE: NDArray[np.float32] = torch.cat([*eye_BE.chunk(2), mouth_BE], 1).clamp(0, 1).cpu().numpy()
    return values_NE
