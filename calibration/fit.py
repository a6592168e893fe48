"""One region's head fitted to one wearer: a linear correction read off the map below the last layer, with a closed form.

Axes: T frame, M feature of the map, O head output.

The last layer was trained to keep what faces have in common; what sets this one apart is still in the map that it reads. With x_t
the map of frame t freed of the map at rest and of its spread, r_to what the head in use leaves of the target (0 where the target
is an end of the scale and the answer lies beyond it: it is clipped when served), and w_to the weights of the material, at most 1,
the correction d of output o, with an offset b, is the smallest of

    c sum_t w_to (r_to - x_t d - b)^2  +  pull (|d|^2 + b^2)

where c makes a repetition count as 45 frames, whatever the cameras' rate. Mouths are pulled harder than eyes: their movements
overlap in one picture, and takes show them one by one. The same correction of the last layer's 256 features is worth a third
less, one of the larger map before this one no more (docs/experiments.md).

Outputs share nothing here, so their losses need no balancing. There are more features than frames, so each output is one solve in
as many unknowns as frames (ridge regression in its dual form, Saunders 1998), of at most 500 frames: neighbours are alike, and
1,000 are no better.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.features import GAZE_OUTPUTS
from calibration.material import EVERY_FIT, FOLDS, Material
from model_export.contract import LAST_COUNT, MAP_COUNT, Camera, RegionHead

_REPETITION_FRAMES: Final = 45
"""Frames that a repetition counts for: 1.5 s at 30 Hz."""
_MOST_FRAMES: Final = 500


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a head is fitted."""

    eye_pull: float = 3e3
    """Weight of the size of a correction to a map of unit spread; a whole calibration counts for 2,200 frames."""
    mouth_pull: float = 3e4

    def __post_init__(self) -> None:
        for name in ("eye_pull", "mouth_pull"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` should be more than 0. Found {getattr(self, name)}.")

    def pull(self, camera: Camera) -> float:
        """The one of a camera's region."""
        return self.mouth_pull if camera is Camera.MOUTH else self.eye_pull


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted head, and what heads fitted without them say of held-out frames."""

    region: RegionHead
    """Fitted to all frames; the base itself where there was nothing to fit."""
    held_out_TO: NDArray[np.float32]
    """Outputs for each frame of the material, by the fit that did not see it; NaN where every fit did."""


def fit_region(base: RegionHead, material: Material, config: FitConfig | None = None) -> Fitted:
    """Fits a head to all repetitions, and two to one half each, to be judged by the other."""
    pull = (config or FitConfig()).pull(material.camera)
    sides = [material.weights_TO[material.fold_T != fold] for fold in range(FOLDS)]
    held_out_TO = np.full_like(material.targets_TO, np.nan)
    if not all(side_TO.any() for side_TO in sides) or not np.isfinite(pull):
        return Fitted(base, held_out_TO)
    for fold in range(FOLDS):
        judged_T = material.fold_T == fold
        held_out_TO[judged_T] = _fit(base, material, material.fold_T != fold, pull).apply(
            material.features_TF[judged_T]
        )
    return Fitted(_fit(base, material, np.ones(len(material), bool), pull), held_out_TO)


def _fit(base: RegionHead, material: Material, chosen_T: NDArray[np.bool_], pull: float) -> RegionHead:
    rest_M = _rest_of(material)
    used = np.flatnonzero(chosen_T)
    used = used[:: -(-len(used) // _MOST_FRAMES)]
    features_TF = material.features_TF[used]
    x_TM = features_TF[:, LAST_COUNT:] - rest_M
    spread = max(float(np.sqrt(np.square(x_TM).mean())), 1e-6)
    x_TM /= spread
    alike_TT = x_TM @ x_TM.T + 1.0
    left_TO = _left(material, used, base.apply(features_TF))
    weights_TO = material.weights_TO[used] / np.maximum(material.weights_TO.max(axis=0), 1e-12)
    weights_TO *= _REPETITION_FRAMES * len(np.unique(material.unit_T[chosen_T])) / len(used)
    correction_MO = np.zeros((MAP_COUNT, left_TO.shape[1]), np.float32)
    offset_O = np.zeros(left_TO.shape[1], np.float32)
    for o in np.flatnonzero(weights_TO.any(axis=0)):
        rows = np.flatnonzero(weights_TO[:, o])
        root_R = np.sqrt(weights_TO[rows, o])
        system_RR = root_R[:, None] * alike_TT[np.ix_(rows, rows)] * root_R
        system_RR[np.diag_indices(len(rows))] += pull
        dual_R = root_R * np.linalg.solve(system_RR, root_R * left_TO[rows, o])
        correction_MO[:, o] = dual_R @ x_TM[rows] / spread
        offset_O[o] = dual_R.sum()
    read_MO = correction_MO if base.map_MO is None else base.map_MO + correction_MO
    return replace(base, map_MO=read_MO, bias_O=base.bias_O + offset_O - rest_M @ correction_MO)


def _rest_of(material: Material) -> NDArray[np.float32]:
    """The map at rest, [M]: the median over frames of rest takes, over all frames where there are none."""
    map_TM = material.features_TF[:, LAST_COUNT:]
    rest_T = material.fold_T == EVERY_FIT
    return np.asarray(np.median(map_TM[rest_T] if rest_T.any() else map_TM, axis=0), np.float32)


def _left(material: Material, used: NDArray[np.intp], out_TO: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the base leaves of the targets: nothing where the target is an end of the scale and the answer lies beyond it."""
    targets_TO = material.targets_TO[used]
    beyond_TO = ((targets_TO <= 0) & (out_TO < 0)) | ((targets_TO >= 1) & (out_TO > 1))
    if material.camera is not Camera.MOUTH:
        beyond_TO[:, GAZE_OUTPUTS] = False
    return np.where(beyond_TO, np.float32(0.0), targets_TO - out_TO)
