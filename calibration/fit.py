"""One region's head fitted to one wearer: a linear correction with a closed form, anchored to free movement of others.

Axes: T frame, F feature, G features and a constant 1 behind them, O head output.

With x_t the features of frame t freed of mean and spread and a 1 behind them, r_to what the head in use leaves of the target
(0 where the target is an end of the scale and the answer lies beyond it: it is clipped when served), and w_to the weights of the
material, at most 1, the correction d of output o is the smallest of

    c sum_t w_to (r_to - x_t d)^2  +  anchors mean_s (x_s d)^2  +  pull |d|^2

where s runs over free movement of wearers of the training, whose second moments the bundle carries (contract.anchors), and c
makes a repetition count as 45 frames, whatever the cameras' rate. The second term says: do not change what you answer to faces
that combine movements, for takes show them one by one. Without it, true labels make mouths 3 % worse on free movement, with it
2 % better (docs/experiments.md). A bundle without anchors has the third term alone.

Outputs share nothing here, so their losses need no balancing. The fit is one solve of 257 equations for an output.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.features import GAZE_OUTPUTS
from calibration.material import FOLDS, Material
from model_export.contract import Camera, RegionHead

_REPETITION_FRAMES: Final = 45
"""Frames that a repetition counts for: 1.5 s at 30 Hz."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a head is fitted."""

    anchors: float = 1100.0
    """Frames of free movement that the anchors count for; a whole calibration is 2,200."""
    pull: float = 300.0
    """Weight of the size of a correction to features of unit spread."""

    def __post_init__(self) -> None:
        for name in ("anchors", "pull"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` should be 0 or more. Found {getattr(self, name)}.")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted head, and what heads fitted without them say of held-out frames."""

    region: RegionHead
    """Fitted to all frames; the base itself where there was nothing to fit."""
    held_out_TO: NDArray[np.float32]
    """Outputs for each frame of the material, by the fit that did not see it; NaN where every fit did."""


def fit_region(
    base: RegionHead, material: Material, moment_GG: NDArray[np.float32] | None, config: FitConfig | None = None
) -> Fitted:
    """Fits a head to all repetitions, and two to one half each, to be judged by the other. `moment_GG`: the anchors' or None."""
    config = config or FitConfig()
    sides = [material.weights_TO[material.fold_T != fold] for fold in range(FOLDS)]
    held_out_TO = np.full_like(material.targets_TO, np.nan)
    if not all(side_TO.any() for side_TO in sides) or not np.isfinite(config.pull):
        return Fitted(base, held_out_TO)
    for fold in range(FOLDS):
        judged_T = material.fold_T == fold
        held_out_TO[judged_T] = _fit(base, material, material.fold_T != fold, moment_GG, config).apply(
            material.features_TF[judged_T]
        )
    return Fitted(_fit(base, material, np.ones(len(material), bool), moment_GG, config), held_out_TO)


def _fit(
    base: RegionHead,
    material: Material,
    chosen_T: NDArray[np.bool_],
    moment_GG: NDArray[np.float32] | None,
    config: FitConfig,
) -> RegionHead:
    features_TF = material.features_TF[chosen_T].astype(np.float64)
    mean_F, spread = _scale(features_TF, moment_GG)
    x_TG = np.concatenate([(features_TF - mean_F) / spread, np.ones((len(features_TF), 1))], axis=1)
    left_TO = _left(material, chosen_T, base.apply(material.features_TF[chosen_T]))
    weights_TO = material.weights_TO[chosen_T].astype(np.float64)
    weights_TO /= np.maximum(material.weights_TO.max(axis=0), 1e-12)
    weights_TO *= _REPETITION_FRAMES * len(np.unique(material.unit_T[chosen_T])) / len(features_TF)
    held_GG = config.pull * np.eye(x_TG.shape[1])
    if moment_GG is not None:
        held_GG += config.anchors * _standardised(moment_GG.astype(np.float64), mean_F, spread)
    held_GG += 1e-6 * np.eye(len(held_GG)) * max(len(features_TF), 1)
    correction_GO = np.zeros((x_TG.shape[1], left_TO.shape[1]))
    for o in np.flatnonzero(weights_TO.any(axis=0)):
        weighted_TG = x_TG * weights_TO[:, o, None]
        correction_GO[:, o] = np.linalg.solve(x_TG.T @ weighted_TG + held_GG, weighted_TG.T @ left_TO[:, o])
    return _corrected(base, correction_GO[:-1] / spread, correction_GO[-1] - mean_F @ correction_GO[:-1] / spread)


def _scale(
    features_TF: NDArray[np.float64], moment_GG: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], float]:
    """Mean of each feature and spread of all, of the anchors where there are any."""
    if moment_GG is None:
        mean_F = features_TF.mean(axis=0)
        return mean_F, max(float((features_TF - mean_F).std()), 1e-6)
    mean_F = moment_GG[-1, :-1].astype(np.float64)
    variance = float(np.mean(np.diag(moment_GG)[:-1].astype(np.float64) - mean_F**2))
    return mean_F, max(variance, 1e-12) ** 0.5


def _standardised(moment_GG: NDArray[np.float64], mean_F: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """The moment of the same frames when features are freed of mean and spread."""
    change_GG = np.diag(np.append(np.full(len(mean_F), 1 / spread), 1.0))
    change_GG[-1, :-1] = -mean_F / spread
    return change_GG.T @ moment_GG @ change_GG


def _left(material: Material, chosen_T: NDArray[np.bool_], out_TO: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the base leaves of the targets: nothing where the target is an end of the scale and the answer lies beyond it."""
    targets_TO = material.targets_TO[chosen_T]
    beyond_TO = ((targets_TO <= 0) & (out_TO < 0)) | ((targets_TO >= 1) & (out_TO > 1))
    if material.camera is not Camera.MOUTH:
        beyond_TO[:, GAZE_OUTPUTS] = False
    return np.where(beyond_TO, 0.0, targets_TO - out_TO).astype(np.float64)


def _corrected(base: RegionHead, added_FO: NDArray[np.float64], added_O: NDArray[np.float64]) -> RegionHead:
    """The base with this added to what the features say; its adapter, which reads the same last layer, adds what it added."""
    weight_FO = base.weight_FO + added_FO
    more_AO = base.up_AF.astype(np.float64) @ base.weight_FO
    up_AF = base.up_AF + (more_AO - base.up_AF @ weight_FO) @ np.linalg.pinv(weight_FO)
    return RegionHead(
        down_FA=base.down_FA,
        down_bias_A=base.down_bias_A,
        up_AF=np.ascontiguousarray(up_AF, np.float32),
        weight_FO=np.ascontiguousarray(weight_FO, np.float32),
        bias_O=(base.bias_O + added_O).astype(np.float32),
    )
