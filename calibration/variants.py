"""Variants of a calibration: what it is given with one thing taken away or changed, for calibration.ablations to compare.

Made from outside, of targets, of what was seen and of configurations; slip alone needs a word of the meter's own
(MovementMeter.remove_slip). What cannot be taken away alone:
    one repetition      courses and their scale are found with both, for a take of one is refused as incomplete.
    flow alone          lids are known by appearance, so blinks are not left out either.
    binary              means cues with EUs; gaze stays graded.

Axes: T frame, E expression unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import CalibrateConfig
from calibration.courses import LEAST_GOOD, cameras_of, find_courses
from calibration.crops import crops_of
from calibration.features import TakeFeatures, features_of
from calibration.fit import FitConfig
from calibration.material import FitTake
from calibration.movement import CELLS, MovementMeter
from calibration.prompted import true_targets
from calibration.realign import moved_back, placed
from calibration.rested import neutral_of, rest_features
from calibration.seen import SeenTake, Sight, neutrals_of, see, see_camera
from calibration.segments import Phase, cut
from calibration.take_targets import TakeTargets
from calibration.targets import targets_from
from model_export.contract import CUES, EU_NAMES, Bundle, Camera, Head, Resting, Slip, Take, cue_by_name

FULL: Final = "full method"
VARIANTS: Final = {
    FULL: "the calibration as it is",
    "not placed": "crops stay as the rig cuts them",
    "not compared": "frames are compared with nothing, and offsets stay",
    "no resting": "the rest take moves no offsets",
    "no rest in the fit": "the rest take moves offsets, and no head is fitted to its frames",
    "pull / 10": "a tenth of the pull",
    "pull x 10": "ten times the pull",
    "no gate": "the fitted head is taken as it is",
    "labels fully": "every label counts fully, whatever its confidence",
    "unasked told 0": "EUs that a cue does not ask for are told 0, not half of what the head says",
    "unasked untold": "EUs that a cue does not ask for are told nothing",
    "no transitions": "frames of onsets and offsets are left out",
    "flow alone": "movement without appearance",
    "appearance alone": "movement without flow",
    "slip kept": "the headset's slip is not taken out of movement",
    "one repetition": "frames of a cue's later repetitions are left out",
    "one repetition, no gate": "the same without a gate, which judges movements by fits that never saw them then",
    "first 12 cues": f"only the cues {CUES[0].name} to {CUES[11].name}",
    "first 6 cues": f"only the cues {CUES[0].name} to {CUES[5].name}",
    "rest alone": "no other cue",
    "binary": "cues' EUs are 1 in the apexes and 0 at rest of the wearer's own segments; transitions left out",
    "binary at graded size": "the same with each take's apexes at the mean of its graded targets in them",
    "true values": "true values in place of ours, with our confidence",
    "truth": "true values, known everywhere: the ceiling",
}
"""Each variant's name, and what is changed."""
_FLOW: Final = slice(0, 2 * CELLS * CELLS)
_APPEARANCE: Final = slice(2 * CELLS * CELLS, None)
_Key = tuple[str, int]
"""Cue and first time: what a take is known by."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What the backbones see of takes, and how they look at them."""

    slips: Mapping[Camera, Slip]
    """What is taken out of the crops."""
    rest: Mapping[Camera, NDArray[np.float32]]
    """Features of the face at rest that frames are compared with; nothing: with nothing."""
    seen: tuple[TakeFeatures, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in one wearer's takes, once for all variants; take by take in the same order."""

    sight: Sight
    slipping: Sight
    """The same with slip left in."""
    placed: Looked
    unplaced: Looked
    uncompared: Looked
    """Placed, and compared with nothing."""
    truth: tuple[TakeTargets, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """What one calibration is given."""

    takes: tuple[FitTake, ...]
    head: Head
    """The universal head to begin with."""
    config: CalibrateConfig
    resting: Resting | None
    looked: Looked
    """How the takes' frames were looked at."""
    refused: int
    """Takes that the movement metric refused."""


def measure(takes: Sequence[Take], bundle: Bundle) -> Measured:
    """Movement, features and truth of takes, which should be rendered ones; most of what an ablation costs."""
    slips = placed(next(take for take in takes if take.cue == "rest"), bundle)
    uncompared = _look(takes, bundle, slips, {})
    return Measured(
        see(takes),
        _see_slipping(takes),
        _look(takes, bundle, slips, rest_features(uncompared.seen)),
        _look(takes, bundle, {}, rest_features([features_of(take, bundle) for take in takes if take.cue == "rest"])),
        uncompared,
        tuple(true_targets(take) for take in takes),
    )


def _look(
    takes: Sequence[Take], bundle: Bundle, slips: Mapping[Camera, Slip], rest: Mapping[Camera, NDArray[np.float32]]
) -> Looked:
    neutral = neutral_of(rest)
    return Looked(slips, rest, tuple(features_of(moved_back(take, slips), bundle, neutral) for take in takes))


def _see_slipping(takes: Sequence[Take]) -> Sight:
    neutral, unusable = neutrals_of(takes)
    seen = []
    for take in takes:
        cameras = {
            camera: see_camera(MovementMeter(camera, neutral[camera], remove_slip=False), crops_THW, seen_T)
            for camera, (crops_THW, seen_T) in crops_of(take).items()
            if camera in neutral
        }
        seen.append(SeenTake(take.cue, take.t_ns, cameras))
    return Sight(tuple(seen), unusable)


def variants_of(measured: Measured, bundle: Bundle, config: CalibrateConfig) -> dict[str, Variant]:
    """Every variant of VARIANTS; a second or two, fits not among it."""

    def seen_as(sight: Sight) -> Variant:
        found = targets_from(sight)
        takes = _paired(measured.placed.seen, found.accepted)
        return Variant(takes, bundle.head, config, bundle.resting, measured.placed, len(found.refused))

    def pulled(times: float) -> CalibrateConfig:
        fit = FitConfig(times * config.fit.eye_pull, times * config.fit.mouth_pull)
        return replace(config, fit=fit)

    full = seen_as(measured.sight)
    phases = phases_of(measured.sight)
    ungated = replace(config, use_gate=False)
    steady = tuple(without_transitions(take, phases.get(_key(take))) for take in full.takes)
    once = tuple(first_repetition(take) for take in full.takes)
    true = {(one.cue, int(one.t_ns[0])): one.values_TE for one in measured.truth}
    targets = [take.targets for take in full.takes]
    return {
        FULL: full,
        "not placed": replace(full, takes=_paired(measured.unplaced.seen, targets), looked=measured.unplaced),
        "not compared": replace(full, takes=_paired(measured.uncompared.seen, targets), looked=measured.uncompared),
        "no resting": replace(full, resting=None),
        "no rest in the fit": replace(full, takes=tuple(take for take in full.takes if take.seen.cue != "rest")),
        "pull / 10": replace(full, config=pulled(0.1)),
        "pull x 10": replace(full, config=pulled(10.0)),
        "no gate": replace(full, config=ungated),
        "labels fully": replace(full, takes=tuple(labels_fully(take) for take in full.takes)),
        "unasked told 0": replace(full, config=replace(config, material=replace(config.material, quiet_share=0.0))),
        "unasked untold": replace(full, config=replace(config, material=replace(config.material, quiet_weight=0.0))),
        "no transitions": replace(full, takes=steady),
        "flow alone": seen_as(_without(measured.sight, _APPEARANCE)),
        "appearance alone": seen_as(_without(measured.sight, _FLOW)),
        "slip kept": seen_as(measured.slipping),
        "one repetition": replace(full, takes=once),
        "one repetition, no gate": replace(full, takes=once, config=ungated),
        "first 12 cues": seen_as(_first(measured.sight, 12)),
        "first 6 cues": seen_as(_first(measured.sight, 6)),
        "rest alone": seen_as(_first(measured.sight, 1)),
        "binary": replace(full, takes=tuple(binary(take, phases.get(_key(take)), 1.0) for take in full.takes)),
        "binary at graded size": replace(
            full, takes=tuple(binary(take, phases.get(_key(take))) for take in full.takes)
        ),
        "true values": replace(full, takes=tuple(_with(take, values_TE=true[_key(take)]) for take in full.takes)),
        "truth": replace(full, takes=_paired(measured.placed.seen, measured.truth), refused=0),
    }


def phases_of(sight: Sight) -> dict[_Key, NDArray[np.int8]]:
    """A Phase for each frame of the takes of cues with EUs: the segments that targets_from cuts them into."""
    courses = find_courses(sight.takes)
    phases: dict[_Key, NDArray[np.int8]] = {}
    for number, take in enumerate(sight.takes):
        found = [
            courses.found[number, camera].course.activation_T
            for camera in cameras_of(cue_by_name(take.cue))
            if (number, camera) in courses.found and courses.good[number, camera].mean() >= LEAST_GOOD
        ]
        if found:
            phases[take.cue, int(take.t_ns[0])] = cut(np.mean(found, axis=0), take.t_ns).phases()
    return phases


def labels_fully(take: FitTake) -> FitTake:
    """Every label with a confidence of 1."""
    return _with(take, confidence_TE=(take.targets.confidence_TE > 0).astype(np.float32))


def without_transitions(take: FitTake, phases_T: NDArray[np.int8] | None) -> FitTake:
    """The take without frames of onsets and offsets; itself where it has no segments."""
    return take if phases_T is None else _kept(take, _steady(phases_T))


def first_repetition(take: FitTake) -> FitTake:
    """The take to the middle of the rest before its second repetition; itself where the cue asks for no EU."""
    repetition_T = take.targets.repetition_T
    later = np.flatnonzero(repetition_T > 0)
    if not cue_by_name(take.seen.cue).eus or not len(later):
        return take
    last = int(np.flatnonzero(repetition_T == 0)[-1])
    return _kept(take, np.arange(len(take.seen)) <= (last + int(later[0])) // 2)


def binary(take: FitTake, phases_T: NDArray[np.int8] | None, apex: float | None = None) -> FitTake:
    """The take without transitions, its cue's EUs at `apex` in every apex and 0 at rest; itself where it has no segments.

    Without `apex`, each EU's is the mean of its graded targets there, so that nothing but grades is lost.
    """
    if phases_T is None:
        return take
    targets = take.targets
    values_TE = targets.values_TE.copy()
    apex_T = phases_T == Phase.APEX
    for e in np.flatnonzero(_asked(take.seen.cue)):
        known_T = apex_T & (targets.confidence_TE[:, e] > 0)
        graded = float(values_TE[known_T, e].mean()) if known_T.any() else 0.0
        values_TE[:, e] = np.where(apex_T, graded if apex is None else apex, 0.0)
    return _kept(_with(take, values_TE=values_TE), _steady(phases_T))


def _steady(phases_T: NDArray[np.int8]) -> NDArray[np.bool_]:
    return np.asarray((phases_T == Phase.REST) | (phases_T == Phase.APEX))


def _asked(cue_name: str) -> NDArray[np.bool_]:
    """The EUs that a cue asks for, bool [E]; dots ask for eyeLook*."""
    cue = cue_by_name(cue_name)
    return np.array([name in cue.eus or (bool(cue.dots_deg) and "Look" in name) for name in EU_NAMES])


def _with(take: FitTake, **fields: NDArray[np.float32]) -> FitTake:
    return FitTake(take.seen, replace(take.targets, **fields))  # type: ignore[arg-type]  # names of its fields


def _kept(take: FitTake, kept_T: NDArray[np.bool_]) -> FitTake:
    """The take with these frames only."""
    targets, gaze_T4 = take.targets, take.targets.gaze_T4
    features = {camera: features_TF[kept_T] for camera, features_TF in take.seen.features.items()}
    return FitTake(
        TakeFeatures(take.seen.cue, take.seen.t_ns[kept_T], features),
        TakeTargets(
            targets.cue,
            targets.t_ns[kept_T],
            targets.values_TE[kept_T],
            targets.confidence_TE[kept_T],
            targets.repetition_T[kept_T],
            None if gaze_T4 is None else gaze_T4[kept_T],
        ),
    )


def _without(sight: Sight, features: slice) -> Sight:
    """What was seen, with these features at 0."""
    takes = []
    for take in sight.takes:
        cameras = {}
        for camera, seen in take.cameras.items():
            left_TF = seen.features_TF.copy()
            left_TF[:, features] = 0.0
            cameras[camera] = replace(seen, features_TF=left_TF)
        takes.append(replace(take, cameras=cameras))
    return replace(sight, takes=tuple(takes))


def _first(sight: Sight, count: int) -> Sight:
    names = {cue.name for cue in CUES[:count]}
    return replace(sight, takes=tuple(take for take in sight.takes if take.cue in names))


def _paired(seen: Sequence[TakeFeatures], targets: Sequence[TakeTargets]) -> tuple[FitTake, ...]:
    by_start = {(take.cue, int(take.t_ns[0])): take for take in seen}
    return tuple(FitTake(by_start[one.cue, int(one.t_ns[0])], one) for one in targets)


def _key(take: FitTake) -> _Key:
    return take.seen.cue, int(take.seen.t_ns[0])
