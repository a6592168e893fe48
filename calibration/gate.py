"""The gate: a new head is used for those outputs only for which held-out frames say that it is better.

Axes: T frame, F feature, A adapter, O head output.

Judged output by output, on frames of repetitions that the fit behind an answer did not see, with c the targets' confidence:

    error = sqrt(sum_t c_t (clip(out_t) - y_t)^2 / sum_t c_t)

where c is raised on frames in which the output moves until they have `moving_share` of it: a calibration shows each EU for a few
of its seconds, life does more often, and a head that merely learned to be still must not pass. The new head is taken for an
output that a take asked for when its error is smaller by more than `margin`, and in at least `share` of the repetitions in which
the output moves, `least_moving` at the least. Everything else keeps the old head.

Heads are composed exactly, although all outputs share an adapter: with the adapters of both heads side by side, output o is

    f W_o + relu(f D + d) M_o + b_o        M_o = U W_o on the rows of its own head's adapter, 0 on the other's

and one matrix U' with U' W' = M exists as long as the columns of W' are independent, which those of 33 outputs in 256 features
are: U' = M W'^+, W'^+ the pseudo-inverse. Adapter units that no output uses are left out. What outputs read of the map is theirs
alone.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.material import Material, balanced
from model_export.contract import LEFT_EYE_EUS, MOUTH_EUS, RIGHT_EYE_EUS, Camera, HeadError, RegionHead

OUTPUT_NAMES: Final = {
    Camera.LEFT_EYE: (*LEFT_EYE_EUS, "gazeYawLeft", "gazePitchLeft", "confidence"),
    Camera.RIGHT_EYE: (*RIGHT_EYE_EUS, "gazeYawRight", "gazePitchRight", "confidence"),
    Camera.MOUTH: (*MOUTH_EUS, "confidence"),
}
"""Names of a head's outputs: EUs, gaze, confidence."""
_MOVES_FROM: Final = 0.2
"""An EU whose target reaches this moves in a repetition."""
_GAZE_MOVES_DEG: Final = 5.0
_TOLERANCE: Final = 1e-4
"""Largest difference between what adapters add in a composed head and in its parts, as a share of the most they add."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What held-out frames must say before an output takes the new head."""

    margin: float = 0.03
    """Least improvement of the error, as a share of it."""
    share: float = 0.6
    """Least share of the repetitions in which the output moves that must improve."""
    moving_share: float = 0.35
    """Least share of an error's weight that lies on frames in which the output moves."""
    least_moving: int = 1
    """Repetitions in which the output must move for it to be judged at all."""

    def __post_init__(self) -> None:
        shares_fit = 0 <= self.share <= 1 and 0 <= self.moving_share <= 1
        if not (0 <= self.margin < 1 and shares_fit and self.least_moving >= 1):
            raise ValueError(
                "`margin` should lie in [0, 1), `share` and `moving_share` in [0, 1], `least_moving` be 1 or more. "
                f"Found {asdict(self)}."
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What held-out frames say of one output."""

    name: str
    before: float | None
    """Error of the old head; None where nothing is known of the output."""
    after: float | None
    """Error of the new head."""
    repetitions: int
    """In which the output moves."""
    improved: int
    """Of these."""
    better: bool
    """Whether the new head is taken."""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def judge(
    material: Material,
    before_TO: NDArray[np.float32],
    after_TO: NDArray[np.float32],
    config: GateConfig | None = None,
) -> tuple[Verdict, ...]:
    """A verdict for each output; frames for which `after_TO` is NaN are not judged."""
    config = config or GateConfig()
    judged_T = np.isfinite(after_TO).all(axis=1)
    targets_TO = material.targets_TO[judged_T]
    weights_TO = balanced(targets_TO, material.known_TO[judged_T], config.moving_share).astype(np.float64)
    squares = [
        (_as_served(material.camera, out_TO[judged_T]) - targets_TO).astype(np.float64) ** 2
        for out_TO in (before_TO, after_TO)
    ]
    units_T = material.unit_T[judged_T]
    verdicts = []
    for o, name in enumerate(OUTPUT_NAMES[material.camera]):
        weights_T = weights_TO[:, o]
        if not weights_T.any():
            verdicts.append(Verdict(name, None, None, 0, 0, better=False))
            continue
        before, after = (float(np.sqrt(np.average(square_TO[:, o], weights=weights_T))) for square_TO in squares)
        moves_from = _GAZE_MOVES_DEG if name.startswith("gaze") else _MOVES_FROM
        moving_T = (np.abs(targets_TO[:, o]) > moves_from) & (weights_T > 0)
        moving = np.unique(units_T[moving_T])
        improved = 0
        for unit in moving:
            weights_U = np.where(units_T == unit, weights_T, 0.0)
            error_before, error_after = (np.average(square_TO[:, o], weights=weights_U) for square_TO in squares)
            improved += bool(error_after < error_before)
        better = (
            after < before * (1 - config.margin)
            and bool(material.asked_O[o])
            and len(moving) >= config.least_moving
            and improved >= config.share * len(moving)
        )
        verdicts.append(Verdict(name, before, after, len(moving), improved, better))
    return tuple(verdicts)


def _as_served(camera: Camera, out_TO: NDArray[np.float32]) -> NDArray[np.float32]:
    count = len(OUTPUT_NAMES[camera]) - (1 if camera is Camera.MOUTH else 3)
    served_TO = out_TO.copy()
    served_TO[:, :count] = served_TO[:, :count].clip(0, 1)
    return served_TO


def compose(old: RegionHead, new: RegionHead, new_O: NDArray[np.bool_]) -> RegionHead:
    """A head that answers with `new` where `new_O` says so and with `old` elsewhere; exactly one of the two if that is all.

    Raises HeadError when the two cannot be composed within 1e-4: columns of the last layer that depend on each other.
    """
    if not new_O.any():
        return old
    if new_O.all():
        return new
    weight_FO = np.where(new_O, new.weight_FO, old.weight_FO).astype(np.float64)
    old_AO = old.up_AF.astype(np.float64) @ old.weight_FO.astype(np.float64) * ~new_O
    new_AO = new.up_AF.astype(np.float64) @ new.weight_FO.astype(np.float64) * new_O
    down_FA, bias_A, more_AO = _merged(
        np.concatenate([old.down_FA, new.down_FA], axis=1),
        np.concatenate([old.down_bias_A, new.down_bias_A]),
        np.concatenate([old_AO, new_AO]),
    )
    up_AF = more_AO @ np.linalg.pinv(weight_FO)
    found_AO = up_AF.astype(np.float32) @ weight_FO.astype(np.float32)
    off = float(np.abs(found_AO - more_AO).max(initial=0.0) / max(float(np.abs(more_AO).max(initial=0.0)), 1e-9))
    if not off <= _TOLERANCE:
        raise HeadError(
            f"Two heads should compose within {_TOLERANCE:g}. Found {off:g}: columns of `weight_FO` depend on each other. "
            "Use one of the two heads for all outputs."
        )
    return RegionHead(
        down_FA=down_FA,
        down_bias_A=bias_A,
        up_AF=np.ascontiguousarray(up_AF, np.float32),
        weight_FO=np.ascontiguousarray(weight_FO, np.float32),
        bias_O=np.where(new_O, new.bias_O, old.bias_O).astype(np.float32),
        map_MO=_merged_maps(old.map_MO, new.map_MO, new_O),
    )


def _merged_maps(
    old_MO: NDArray[np.float32] | None, new_MO: NDArray[np.float32] | None, new_O: NDArray[np.bool_]
) -> NDArray[np.float32] | None:
    """Each output's column from its own head, zeros where that reads no map; None when neither does."""
    if old_MO is None and new_MO is None:
        return None
    zero = np.float32(0.0)
    merged_MO = np.where(new_O, zero if new_MO is None else new_MO, zero if old_MO is None else old_MO)
    return np.ascontiguousarray(merged_MO, np.float32)


def _merged(
    down_FA: NDArray[np.float32], bias_A: NDArray[np.float32], more_AO: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Equal adapter units become one, unused ones go, so that heads composed again and again do not grow for nothing."""
    units, which_A = np.unique(np.concatenate([down_FA, bias_A[None]]), axis=1, return_inverse=True)
    summed_AO = np.zeros((units.shape[1], more_AO.shape[1]))
    np.add.at(summed_AO, which_A.reshape(-1), more_AO)
    used_A = np.abs(summed_AO).max(axis=1) > 0
    return (
        np.ascontiguousarray(units[:-1, used_A], np.float32),
        np.ascontiguousarray(units[-1, used_A], np.float32),
        summed_AO[used_A],
    )
