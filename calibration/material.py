"""What a region's head is fitted to: features, target outputs, how much each counts, and which side of a fold a frame is on.

Axes: T frame, F feature, O head output.

Targets come with gaps, and three kinds of frames fill them:
    own         EUs that happen all the time (blinks, gaze, pupils) are told what the head says already, outside of cues that ask
                for them: nobody stops blinking while smiling, so a target of 0 there would unlearn the blink.
    quiet       EUs that a cue did not ask for are told a share of what the head says already: towards 0, for what shows is
                mostly the wearer's face read wrongly, but not to 0, for faces do move together.
    unknown     all other frames without a target do not count.

An EU that no take asks for is not fitted at all: all that takes say of it is that it does not move, and a head that learns that
misses it when it does. Nor is tongueOut: movement sees the jaw and the lips that let it out, and with its targets tongues came
out .011 worse in free movement (docs/experiments.md), with true ones not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.features import GAZE_OUTPUTS, REGION_EUS, TakeFeatures, to_wearer
from calibration.take_targets import TakeTargets
from model_export.contract import EU_INDEX, EU_NAMES, EYE_MOVEMENTS, FEATURE_COUNT, Camera, RegionHead, cue_by_name
from model_export.contract.head import OUTPUT_COUNT

ALWAYS: Final = tuple(index for name, index in EU_INDEX.items() if name.startswith(("eyeBlink", "eyeLook", "pupil")))
"""EUs that happen all the time, whatever was asked for."""
UNFITTED: Final = frozenset({EU_INDEX["tongueOut"]})
"""EUs that no movement target is good enough for."""
EVERY_FIT: Final = -1
"""Fold of frames that every fit sees and none is judged by: the rest take, which anchors the zero."""
FOLDS: Final = 2
_LIDS_NEARLY_SHUT: Final = 0.5


@dataclass(frozen=True, slots=True)
class FitTake:
    """One take, seen and labelled."""

    seen: TakeFeatures
    targets: TakeTargets

    def __post_init__(self) -> None:
        if len(self.seen) != len(self.targets) or self.seen.cue != self.targets.cue:
            raise ValueError(
                "Features and targets should be of the same take. "
                f"Found {self.seen.cue!r} with {len(self.seen)} frames and {self.targets.cue!r} with {len(self.targets)}."
            )


@dataclass(frozen=True, slots=True)
class MaterialConfig:
    """How gaps are filled and frames are weighed."""

    own_always: bool = True
    """Whether EUs that happen all the time are told what the head says already, outside of their cues; else what targets say."""
    own_weight: float = 0.3
    """Weight of a frame whose target is the head's own value."""
    quiet_weight: float = 0.3
    """Weight of an EU that was not asked for; 0 turns suppression off."""
    quiet_share: float = 0.5
    """Target of an EU that was not asked for, as a share of the head's own value; 0 suppresses it wholly."""

    def __post_init__(self) -> None:
        for name in ("own_weight", "quiet_weight", "quiet_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` should lie in [0, 1]. Found {getattr(self, name)}.")


@dataclass(frozen=True, slots=True)
class Material:
    """All frames of one region."""

    camera: Camera
    features_TF: NDArray[np.float32]
    targets_TO: NDArray[np.float32]
    """Target outputs; 0 where the weight is 0."""
    weights_TO: NDArray[np.float32]
    """How much each counts in the fit; the weights of an output sum to 1, or are 0 where nothing is known of it."""
    known_TO: NDArray[np.float32]
    """Confidence of what targets say, without what fills their gaps: what a head may be judged by."""
    asked_O: NDArray[np.bool_]
    """Outputs that a take asks for: EUs of its cue, gaze and eyeLook* where it shows dots."""
    unit_T: NDArray[np.int32]
    """The take and repetition that a frame belongs to: frames of a unit are neighbours and stay together."""
    fold_T: NDArray[np.int32]
    """0 or 1, or EVERY_FIT."""

    def __len__(self) -> int:
        return len(self.features_TF)


def material_of(
    camera: Camera, base: RegionHead, takes: Sequence[FitTake], config: MaterialConfig | None = None
) -> Material:
    """The frames of all takes that this camera saw; `base` says what fills the gaps."""
    config = config or MaterialConfig()
    parts = [_part(camera, base, take, config) for take in takes if camera in take.seen.features]
    outputs = OUTPUT_COUNT[camera]
    if not parts:
        empty_TO = np.empty((0, outputs), np.float32)
        none_T = np.empty(0, np.int32)
        none_O = np.zeros(outputs, bool)
        none_TF = np.empty((0, FEATURE_COUNT), np.float32)
        return Material(camera, none_TF, empty_TO, empty_TO, empty_TO, none_O, none_T, none_T)
    units, folds, first = [], [], 0
    for number, part in enumerate(parts):
        units.append(first + part.repetition_T)
        folds.append(_folds(part.repetition_T, part.cue, number))
        first += int(part.repetition_T.max(initial=0)) + 1
    targets_TO = np.concatenate([part.targets_TO for part in parts])
    asked_O = np.any([part.asked_O for part in parts], axis=0)
    weights_TO = np.concatenate([part.weights_TO for part in parts]) * asked_O
    return Material(
        camera,
        np.concatenate([part.features_TF for part in parts]),
        targets_TO,
        balanced(targets_TO, weights_TO, 0.0),
        np.concatenate([part.known_TO for part in parts]),
        asked_O,
        np.concatenate(units).astype(np.int32),
        np.concatenate(folds),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One take's frames, not yet weighed against the others."""

    cue: str
    features_TF: NDArray[np.float32]
    targets_TO: NDArray[np.float32]
    weights_TO: NDArray[np.float32]
    known_TO: NDArray[np.float32]
    asked_O: NDArray[np.bool_]
    repetition_T: NDArray[np.int32]


def _part(camera: Camera, base: RegionHead, take: FitTake, config: MaterialConfig) -> _Part:
    features_TF = take.seen.features[camera]
    seen_T = np.isfinite(features_TF).all(axis=1)
    features_TF = features_TF[seen_T]
    targets, cue = take.targets, cue_by_name(take.targets.cue)
    base_TO = base.apply(features_TF)
    eus = REGION_EUS[camera]
    count = eus.stop - eus.start
    targets_TO, known_TO = np.zeros_like(base_TO), np.zeros_like(base_TO)
    targets_TO[:, :count] = targets.values_TE[seen_T, eus]
    known_TO[:, :count] = targets.confidence_TE[seen_T, eus]
    own_O, quiet_O, asked_O = (np.zeros(base_TO.shape[1], bool) for _ in range(3))
    quiet_O[:count] = cue.name != "rest"
    for e in range(eus.start, eus.stop):
        asked = (e in cue.eu_indices and e not in UNFITTED) or (bool(cue.dots_deg) and "Look" in EU_NAMES[e])
        asked_O[e - eus.start] = asked
        if e in ALWAYS and not asked and config.own_always:
            own_O[e - eus.start] = True
        quiet_O[e - eus.start] &= not asked and e not in ALWAYS
    if camera is not Camera.MOUTH:
        own_O[GAZE_OUTPUTS] = not cue.dots_deg
        asked_O[GAZE_OUTPUTS] = bool(cue.dots_deg)
        if targets.gaze_T4 is not None and cue.dots_deg:
            gaze_T2 = to_wearer(camera, targets.gaze_T4[seen_T, 2 * camera : 2 * camera + 2])
            open_T = base_TO[:, EYE_MOVEMENTS.index("eyeBlink")] < _LIDS_NEARLY_SHUT
            known_TO[:, GAZE_OUTPUTS] = np.isfinite(gaze_T2) & open_T[:, None]
            targets_TO[:, GAZE_OUTPUTS] = np.nan_to_num(gaze_T2)
    known_TO[:, own_O] = 0.0
    weights_TO = known_TO.copy()
    clipped_TO = base_TO.copy()
    clipped_TO[:, :count] = clipped_TO[:, :count].clip(0, 1)
    for rows_O, weight, share in ((own_O, config.own_weight, 1.0), (quiet_O, config.quiet_weight, config.quiet_share)):
        gaps_TO = rows_O & (known_TO == 0)
        targets_TO[gaps_TO] = share * clipped_TO[gaps_TO]
        weights_TO[gaps_TO] = weight
    return _Part(
        cue.name,
        features_TF,
        np.where(weights_TO > 0, targets_TO, 0).astype(np.float32),
        weights_TO.astype(np.float32),
        known_TO.astype(np.float32),
        asked_O,
        _nearest_repetition(targets)[seen_T],
    )


def _nearest_repetition(targets: TakeTargets) -> NDArray[np.int32]:
    """The repetition of each frame; frames outside of any go with the nearest in time."""
    repetition_T = targets.repetition_T
    inside = np.flatnonzero(repetition_T >= 0)
    if not len(inside):
        return np.zeros_like(repetition_T)
    t_ns, inside_ns = targets.t_ns, targets.t_ns[inside]
    after = np.searchsorted(inside_ns, t_ns).clip(0, len(inside) - 1)
    before = (after - 1).clip(0)
    nearer = np.where(np.abs(inside_ns[after] - t_ns) < np.abs(t_ns - inside_ns[before]), after, before)
    return np.asarray(repetition_T[inside[nearer]], np.int32)


def _folds(repetition_T: NDArray[np.int32], cue: str, number: int) -> NDArray[np.int32]:
    """Repetitions in turn; takes in turn begin with the other side, so that single repetitions are on both."""
    if cue == "rest":
        return np.full_like(repetition_T, EVERY_FIT)
    return ((repetition_T + number) % FOLDS).astype(np.int32)


def balanced(
    targets_TO: NDArray[np.float32], weights_TO: NDArray[np.float32], moving_share: float
) -> NDArray[np.float32]:
    """Weights that sum to 1 for each output, at least `moving_share` of it on frames in which the EU moves, if it ever does."""
    moving_TO = (np.abs(targets_TO) > 0.1) & (weights_TO > 0)
    moving_O, still_O = (
        np.where(chosen_TO, weights_TO, 0).sum(axis=0, dtype=np.float64) for chosen_TO in (moving_TO, ~moving_TO)
    )
    total_O = np.maximum(moving_O + still_O, 1e-9)
    shares_O = np.where(moving_O == 0, 0.0, np.where(still_O == 0, 1.0, np.maximum(moving_share, moving_O / total_O)))
    factor_TO = np.where(moving_TO, shares_O / np.maximum(moving_O, 1e-9), (1 - shares_O) / np.maximum(still_O, 1e-9))
    return np.asarray(weights_TO * factor_TO, np.float32)
