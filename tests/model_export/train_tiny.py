"""A training run in a process of its own, small enough for tests: `python -m tests.model_export.train_tiny DATA OUT ...`."""

import sys
from dataclasses import asdict
from pathlib import Path

from model_export.network import BackboneConfig
from model_export.train import train
from model_export.train_config import TrainConfig

TINY = BackboneConfig(stem=8, middle=8, middle_blocks=0, top=16, top_blocks=0)


def tiny_config(
    data: Path, out: Path, *, epochs: float = 4.0, resume: bool = False, balancer: str = "equal"
) -> TrainConfig:
    return TrainConfig(
        data=(data,),
        out=out,
        epochs=epochs,
        batch=16,
        balancer=balancer,
        eye=TINY,
        mouth=TINY,
        learning_rate=1e-2,
        held_out=0.2,
        device="cpu",
        checkpoint_steps=5,
        judgements=1,
        resume=resume,
    )


if __name__ == "__main__":
    data, out, epochs = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    result = train(tiny_config(data, out, epochs=epochs, resume="resume" in sys.argv[4:]))
    if result is not None:
        print(asdict(result))  # noqa: T201 - a process speaks through stdout
