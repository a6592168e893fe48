"""Re-centring: a head's offsets moved so that a resting face reads as rest; nothing is trained.

Axes: T frame set, F feature, O head output.

For output o, with r the outputs of the frames in which the wearer rests:     bias_o  <-  bias_o - median(r_o)

so that the resting face reads 0. The median leaves out the blinks of a few seconds of rest. What has no zero at rest stays as
it is: pupils, and the confidence. Used after a calibration's rest cue, when a headset was put on again, and as the baseline "rest
offset only" that every fit has to beat.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.features import TakeFeatures
from model_export.contract import EYE_MOVEMENTS, FEATURE_COUNT, Camera, Head, RegionHead
from model_export.contract.head import OUTPUT_COUNT

LEAST_FRAMES: Final = 10
"""A camera that saw fewer frames of rest is left as it was: a median of less may be a blink."""
_NO_REST: Final = ("pupilDilate",)


def recentre(head: Head, rest: Sequence[TakeFeatures]) -> Head:
    """The head with the offsets of this fitting; its version, parent and report stay, cameras without rest too."""
    regions: list[RegionHead] = []
    for camera in Camera:
        rows = [take.features[camera] for take in rest if camera in take.features]
        rest_TF = np.concatenate(rows) if rows else np.empty((0, FEATURE_COUNT), np.float32)
        regions.append(recentre_region(camera, head[camera], rest_TF[np.isfinite(rest_TF).all(axis=1)]))
    return replace(head, left_eye=regions[0], right_eye=regions[1], mouth=regions[2])


def recentre_region(camera: Camera, region: RegionHead, rest_TF: NDArray[np.float32]) -> RegionHead:
    """The same for one camera; `rest_TF` holds frames that were seen."""
    if len(rest_TF) < LEAST_FRAMES:
        return region
    shift_O = np.median(region.apply(rest_TF), axis=0)
    shift_O[~_resting_outputs(camera)] = 0.0
    return replace(region, bias_O=(region.bias_O - shift_O).astype(np.float32))


def _resting_outputs(camera: Camera) -> NDArray[np.bool_]:
    """Outputs, bool [O], that are zero while the face rests and the eyes look ahead."""
    resting_O = np.ones(OUTPUT_COUNT[camera], bool)
    resting_O[-1] = False
    if camera is not Camera.MOUTH:
        resting_O[[EYE_MOVEMENTS.index(name) for name in _NO_REST]] = False
    return resting_O
