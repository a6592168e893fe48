"""What tests of the profile store share: a clock that is set, takes, what lies in the folder."""

from pathlib import Path

import numpy as np

from model_export.contract import Camera, Take
from model_export.contract.take import Encoding

DAY_S = 86_400


class Clock:
    def __init__(self) -> None:
        self.unix_s = 1_800_000_000

    def __call__(self) -> float:
        return float(self.unix_s)


def a_take(seed: int = 0, cue: str = "smile") -> Take:
    images = np.random.default_rng(seed).integers(0, 256, (2, 64), np.uint8)
    return Take(
        cue, Encoding.GRAY8, np.array([1, 2], np.int64), {Camera.MOUTH: tuple(map(bytes, images))}, size_px=(8, 8)
    )


def files_of(folder: Path) -> set[str]:
    return {path.name for path in (folder / "files").iterdir()}
