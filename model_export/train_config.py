"""What a training run is told: one value, checked when it is made."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from model_export.augment import AugmentConfig
from model_export.balancing import balancer_by_name
from model_export.errors import TrainingError
from model_export.network import EYE_BACKBONE, MOUTH_BACKBONE, BackboneConfig

PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OPTIMISERS: Final = ("adamw", "muon")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What a run is; two runs with equal configuration and data give the same weights on one machine."""

    data: tuple[Path, ...]
    """Folders with dataset.json and its shards; a wearer is held out of all of them or of none."""
    out: Path
    """Run folder: checkpoint, log, weights, record."""
    epochs: float | None = 20.0
    """Passes over the training wearers; None when `minutes` is given."""
    minutes: float | None = None
    """Wall-clock budget; the schedule follows the clock, so such a run does not repeat to the bit."""
    batch: int = 64
    """Frame sets a step and process: twice as many eye crops, as many mouth crops."""
    together: int = 4
    """Frame sets of one fitting that come after each other, so that they can be compared with each other."""
    balancer: str = "equal"
    """Name in balancing.BALANCER_NAMES."""
    start_from: Path | None = None
    """Run folder of a finished training, or a bundle, whose weights this run begins with; None begins anew."""
    placed_by: Path | None = None
    """Bundle that tells where a face at rest is: most crops are then cut there (`augmentation.placed`). None: as rendered."""
    seed: int = 0
    """Of initial weights, order and augmentation."""
    held_out: float = 0.1
    """Share of the wearers kept unseen for judging."""
    learning_rate: float = 3e-3
    """AdamW's, at its peak."""
    optimiser: str = "muon"
    """Of kernels and matrices inside the backbones, one of OPTIMISERS; heads, biases and norms take AdamW."""
    weight_decay: float = 0.02
    """AdamW's, on matrices and kernels only."""
    points: float = 0.25
    """Weight of locating points of the face, beside the balanced loss."""
    gradient_limit: float = 5.0
    """Largest norm of the gradient."""
    average_horizon: float = 0.999
    """Decay of the averaged weights, once the run is long enough."""
    eye: BackboneConfig = EYE_BACKBONE
    """Eye backbone."""
    mouth: BackboneConfig = MOUTH_BACKBONE
    """Mouth backbone."""
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    """What happens to crops in training."""
    workers: int = 0
    """Processes that make batches; 0 makes them in the training process, best on two cores."""
    threads: int = 1
    """Threads of each training process on the CPU."""
    device: str = "auto"
    """cpu, cuda or auto."""
    precision: str = "float32"
    """Of the backbones' layers in training, one of PRECISIONS; bfloat16 is 1.6 times as fast on a CPU that has it in hardware."""
    resume: bool = False
    """Go on from the checkpoint in `out`, if there is one."""
    checkpoint_s: float = 60.0
    """Seconds between checkpoints."""
    checkpoint_steps: int = 500
    """Steps between checkpoints."""
    judgements: int = 8
    """How many times a run is judged on unseen wearers on the way."""

    def __post_init__(self) -> None:
        if not self.data:
            raise TrainingError("`data` should name one folder of rendered wearers or more. Found none.")
        if (self.epochs is None) == (self.minutes is None):
            raise TrainingError(f"Give either epochs or minutes. Found {self.epochs} and {self.minutes}.")
        for name in ("batch", "together", "threads", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise TrainingError(f"`{name}` should be 1 or more. Found {getattr(self, name)}.")
        if self.batch < 2:
            raise TrainingError("`batch` should be 2 or more, because batch norm needs a spread. Found 1.")
        if (self.epochs or self.minutes or 0) <= 0 or self.learning_rate <= 0:
            raise TrainingError("Epochs, minutes and the learning rate should be above 0.")
        if self.precision not in PRECISIONS:
            raise TrainingError(f"`precision` should be one of {', '.join(PRECISIONS)}. Found {self.precision!r}.")
        if self.optimiser not in OPTIMISERS:
            raise TrainingError(f"`optimiser` should be one of {', '.join(OPTIMISERS)}. Found {self.optimiser!r}.")
        balancer_by_name(self.balancer)

    def essence(self) -> dict[str, Any]:
        """What decides the weights, as JSON values: not where files lie, not how the work is spread over threads."""
        aside = {"data", "out", "start_from", "placed_by", "workers", "threads", "device", "resume"}
        aside |= {"checkpoint_s", "checkpoint_steps", "judgements"}
        kept = {name: value for name, value in asdict(self).items() if name not in aside}
        return dict(json.loads(json.dumps(kept, default=str)))
