"""From takes to targets: for each frame and EU a value found from movement, and how far to trust it.

What measures each EU (r with the truth on simulated wearers stands in docs/experiments.md):
- EUs asked for by a cue: the course of the cue's movement, flow and brightness together, in the part of the picture that belongs
  to it; both sides of the mouth by their own side; lids and tongue by the same features, of which brightness then carries most.
- eyeLook* and gaze: a regression on the dots of the look cue.
- all EUs but lids, gaze and pupils in the frames of a rest: 0.
- free movement: nothing. Many movements at once are no sum of templates (r .43 with the truth), and heads were no better for it.
- everything else, confidence 0: EUs that a take did not ask for come along at .05 to .25, and lids, gaze and pupils move all the
  time. What fills these gaps is the fit's affair (calibration.material).
Value: clip((m - rest median) / (apex P90 - rest median)) times the share of one's range that people reach when asked. Pure numpy.
Axes: T frame set, E expression unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.activation import Floats, monotone
from calibration.courses import (
    EYES,
    LEAST_GOOD,
    Courses,
    CueCourse,
    camera_of,
    cameras_of,
    find_courses,
    half_course,
)
from calibration.gaze_targets import look_values
from calibration.judgement import LEAST_AGREEMENT, repeatability, unlike, unseen
from calibration.seen import SeenTake, Sight, see
from calibration.segments import Phase, Refusal, Segments, cut, refusal_of
from calibration.take_targets import TakeTargets
from model_export.contract import EU_COUNT, EU_INDEX, EU_NAMES
from model_export.contract.cues import SCRIPT, cue_by_name
from model_export.contract.frames import Camera
from model_export.contract.take import Take

LEAST_APEX: Final = 0.6
"""Share of their range that people reach at the least when asked for all of it; the strongest of n repetitions is expected at
0.6 + 0.4 n / (n + 1), which is what 1 in a course counts as."""
REST_CONFIDENCE: Final = 0.5
"""Of a rest's zeros: a face at rest wanders by some hundredths."""
TRANSITION: Final = 0.8
"""Share of a confidence that is left in onsets and offsets, where a course's shape matters most."""
_NEVER_AT_REST: Final = ("eyeBlink", "eyeLook", "pupilDilate")
"""A rest tells nothing of them: they move all the time."""


@dataclass(frozen=True, slots=True)
class CalibrationTargets:
    """What the takes of one fitting teach."""

    accepted: tuple[TakeTargets, ...]
    refused: tuple[Refusal, ...]
    """Takes that are not used, with reason and remedy."""


def targets_of(takes: Sequence[Take]) -> CalibrationTargets:
    """Targets of every take that shows what its cue asks for; about 0.8 ms a frame and camera.

    All takes are of one fitting; one of them should be a rest, and those of eyes closed and of dots make the others better.
    """
    return targets_from(see(takes))


def targets_from(sight: Sight) -> CalibrationTargets:
    """Targets from what was seen; 0.2 s for a whole calibration."""
    sight = replace(sight, takes=tuple(take for take in sight.takes if cue_by_name(take.cue) in SCRIPT))
    courses = find_courses(sight.takes)
    outcomes = [_targets(sight, courses, number) for number in range(len(sight.takes))]
    return CalibrationTargets(
        tuple(outcome for outcome in outcomes if isinstance(outcome, TakeTargets)),
        tuple(outcome for outcome in outcomes if isinstance(outcome, Refusal)),
    )


def _targets(sight: Sight, courses: Courses, number: int) -> TakeTargets | Refusal:
    """What one take teaches, or why it does not."""
    cue = cue_by_name(sight.takes[number].cue)
    if cue.eus:
        return _cued(sight, courses, number)
    return _looked(sight, courses, number) if cue.dots_deg else _rested(sight, sight.takes[number])


def apex_share(repetitions: int) -> float:
    """Expected value of the strongest of so many repetitions, each anywhere from LEAST_APEX to 1."""
    return LEAST_APEX + (1.0 - LEAST_APEX) * repetitions / (repetitions + 1)


def _cued(sight: Sight, courses: Courses, number: int) -> TakeTargets | Refusal:
    take = sight.takes[number]
    cue = cue_by_name(take.cue)
    usable = [
        camera
        for camera in cameras_of(cue)
        if (number, camera) in courses.found and courses.good[number, camera].mean() >= LEAST_GOOD
    ]
    refusal = unseen(sight, take, cue, usable)
    if refusal is not None:
        return refusal
    found = [courses.found[number, camera] for camera in usable]
    mean_T = np.mean([one.course.activation_T for one in found], axis=0)
    # a course falls apart into noise where nothing moved
    segments = cut(mean_T, take.t_ns)
    refusal = refusal_of(cue.name, cue.repetitions, segments) or unlike(cue, found, segments)
    if refusal is not None:
        return refusal
    found = [one for one in found if _agreement(one.course.activation_T, mean_T) >= LEAST_AGREEMENT]
    values_TE = np.zeros((len(take), EU_COUNT), np.float32)
    confidence_TE = np.zeros((len(take), EU_COUNT), np.float32)
    phases_T = segments.phases()
    for one in found:
        moving_T = (phases_T == Phase.ONSET) | (phases_T == Phase.OFFSET)
        trust_T = _quality(one, segments) * one.good_T * np.where(moving_T, TRANSITION, 1.0)
        for eu in cue.eus:
            if camera_of(eu) is not one.camera:
                continue
            half = _half_of(eu)
            sided = one.camera is Camera.MOUTH and half
            course_T = half_course(one, take, half) if sided else one.course.activation_T
            values_TE[:, EU_INDEX[eu]] = scale(course_T, segments, one)
            confidence_TE[:, EU_INDEX[eu]] = trust_T
    return TakeTargets(cue.name, take.t_ns, values_TE, confidence_TE, segments.numbers())


def scale(course_T: Floats, segments: Segments, one: CueCourse) -> NDArray[np.float32]:
    """The EU value of a course, float32 [T] in [0, 1]: rising through onsets, falling through offsets."""
    phases_T = segments.phases()
    rest_T = one.good_T & (phases_T == Phase.REST)
    apex_T = one.good_T & (phases_T == Phase.APEX)
    if not apex_T.any():
        return np.zeros(len(course_T), np.float32)
    low = float(np.median(course_T[rest_T])) if rest_T.any() else float(np.quantile(course_T, 0.1))
    high = float(np.quantile(course_T[apex_T], 0.9))
    if high - low < 1e-6:
        return np.zeros(len(course_T), np.float32)
    value_T = (course_T - low) / (high - low) * apex_share(len(segments.repetitions))
    for one_repetition in segments.repetitions:
        onset = slice(one_repetition.onset, one_repetition.apex)
        offset = slice(one_repetition.offset, one_repetition.end)
        value_T[onset] = monotone(value_T[onset])
        value_T[offset] = -monotone(-value_T[offset])
    return np.clip(value_T, 0.0, 1.0).astype(np.float32)


def _half_of(eu: str) -> str:
    """The side of the face that an EU belongs to; empty for EUs of the whole mouth, mouthLeft and mouthRight among them."""
    if eu in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return ""
    return "Left" if eu.endswith("Left") else "Right" if eu.endswith("Right") else ""


def _agreement(course_T: Floats, mean_T: Floats) -> float:
    if course_T.std() < 1e-9 or mean_T.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(course_T, mean_T)[0, 1])


def _quality(one: CueCourse, segments: Segments) -> float:
    """Confidence of a camera's apexes and rests, 0.3 to 1: how alike the repetitions are, how far the movement stands out.

    Each eye by its own: a half of the face that moves a third as far as the other is measured less surely.
    """
    alike = (repeatability([one], segments) - 0.4) / 0.5
    strong = one.course.strength / 6.0
    return float(np.clip(min(alike, strong), 0.3, 1.0))


def _looked(sight: Sight, courses: Courses, number: int) -> TakeTargets | Refusal:
    take = sight.takes[number]
    cue = cue_by_name(take.cue)
    usable = [camera for camera in EYES if (number, camera) in courses.gaze]
    refusal = unseen(sight, take, cue, usable)
    if refusal is not None:
        return refusal
    values_TE = np.zeros((len(take), EU_COUNT), np.float32)
    confidence_TE = np.zeros((len(take), EU_COUNT), np.float32)
    gaze_T4 = np.full((len(take), 4), np.nan, np.float32)
    for camera in usable:
        gaze = courses.gaze[number, camera]
        known_T = gaze.confidence_T > 0
        gaze_T4[known_T, 2 * camera : 2 * camera + 2] = gaze.gaze_T2[known_T]
        side = "Left" if camera is Camera.LEFT_EYE else "Right"
        for way, value_T in look_values(gaze.gaze_T2, camera).items():
            values_TE[:, EU_INDEX[f"eyeLook{way}{side}"]] = value_T
            confidence_TE[:, EU_INDEX[f"eyeLook{way}{side}"]] = gaze.confidence_T
    dots_T = courses.gaze[number, usable[0]].dot_T
    return TakeTargets(cue.name, take.t_ns, values_TE, confidence_TE, dots_T, gaze_T4)


def _rested(sight: Sight, take: SeenTake) -> TakeTargets | Refusal:
    """Zeros for all but lids, gaze and pupils."""
    if not any(seen.good_T.any() for seen in take.cameras.values()):
        refusal = unseen(sight, take, replace(cue_by_name(take.cue), eus=EU_NAMES), ())
        assert refusal is not None
        return refusal
    values_TE = np.zeros((len(take), EU_COUNT), np.float32)
    confidence_TE = np.zeros((len(take), EU_COUNT), np.float32)
    for name, index in EU_INDEX.items():
        camera = camera_of(name)
        if camera in take.cameras and not name.startswith(_NEVER_AT_REST):
            confidence_TE[:, index] = REST_CONFIDENCE * take.cameras[camera].good_T
    return TakeTargets(take.cue, take.t_ns, values_TE, confidence_TE, np.full(len(take), -1, np.int32))
