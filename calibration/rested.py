"""The face at rest, as features: what a head's offsets are moved to (model_export.contract.resting).

Axes: T frame set, F feature.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.features import TakeFeatures
from model_export.contract import Camera

LEAST_FRAMES: Final = 10
"""A camera that saw fewer frames of rest tells nothing: a median of less may be a blink."""


def rest_features(takes: Sequence[TakeFeatures]) -> dict[Camera, NDArray[np.float32]]:
    """Features [1280] of the face at rest for each camera that saw it: medians over the rest takes of `takes`."""
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
