"""The face at rest, as features: what frames are compared with, and what a head's offsets are moved to (contract.resting).

Axes: T frame set, F feature, M feature of the map.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.features import TakeFeatures
from model_export.contract import LAST_COUNT, Camera

LEAST_FRAMES: Final = 10
"""A camera that saw fewer frames of rest tells nothing: a median of less may be a blink."""


def rest_features(takes: Sequence[TakeFeatures]) -> dict[Camera, NDArray[np.float32]]:
    """Features [1280] of the face at rest for each camera that saw it: medians over the rest takes of `takes`.

    They are to be compared with nothing: that is what this is for.
    """
    found: dict[Camera, NDArray[np.float32]] = {}
    for camera in Camera:
        rows = [take.features[camera] for take in takes if take.cue == "rest" and camera in take.features]
        if not rows:
            continue
        rest_TF = np.concatenate(rows)
        rest_TF = rest_TF[np.isfinite(rest_TF).all(axis=1)]
        if len(rest_TF) >= LEAST_FRAMES:
            found[camera] = np.median(rest_TF, axis=0).astype(np.float32)
    return found


def neutral_of(rest: Mapping[Camera, NDArray[np.float32]]) -> dict[Camera, NDArray[np.float32]]:
    """The maps [1024] of these features: what frames are compared with."""
    return {camera: rest_F[LAST_COUNT:] for camera, rest_F in rest.items()}
