"""The course of every cue's movement in the takes of one wearer: lids, glances, then two rounds over all cues; pure numpy.

The first round finds each cue's template alone; the second takes the other cues' templates out as companions, at the size at
which movements usually come along unasked. Blinks are no nuisance of a fixed size: frames of a closing eye are left out.
Axes: T frame, F feature, N nuisance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.activation import (
    APPEARANCE_WEIGHT,
    Bools,
    Course,
    Floats,
    bridge,
    find_course,
    principal,
    region,
    smooth,
    timetable,
    weighted,
    whitening,
)
from calibration.gaze_targets import GazeTargets, gaze_targets
from calibration.movement import CELLS
from calibration.seen import Seen, SeenTake
from model_export.contract.cues import Cue, cue_by_name
from model_export.contract.expression_units import LEFT_EYE_EUS, RIGHT_EYE_EUS
from model_export.contract.frames import Camera

_ROUNDS: Final = 2
COMPANION: Final = 0.15
"""Usual size of a movement that comes along unasked."""
CLOSING: Final = 0.5
"""Share of the wearer's own closed eye from which on an eye picture tells of nothing but the lid. Squinting reaches 0.4."""
LEAST_GOOD: Final = 0.5
"""Least share of a take's frames that must be good."""
EYES: Final = (Camera.LEFT_EYE, Camera.RIGHT_EYE)
_LEAST_CLOSING: Final = 0.2
"""Change of brightness that some cell of an eye must show, as a share of the picture's spread; closing changes some by 1."""
_GLANCES: Final = 16
"""Principal components of glances."""
_GLANCE_FRAMES: Final = 250
_CLOSING_S: Final = 0.05
"""How long before and after a gated blink the lid is already or still on its way."""


def camera_of(eu: str) -> Camera:
    """The camera that sees an EU."""
    if eu in LEFT_EYE_EUS:
        return Camera.LEFT_EYE
    return Camera.RIGHT_EYE if eu in RIGHT_EYE_EUS else Camera.MOUTH


def cameras_of(cue: Cue) -> tuple[Camera, ...]:
    """The cameras that see the EUs of a cue, or its dots."""
    if cue.dots_deg:
        return EYES
    return tuple(sorted({camera_of(eu) for eu in cue.eus}))


@dataclass(frozen=True, slots=True)
class Lids:
    """What the closed eye of this wearer looks like."""

    template_A: Floats
    """Change of brightness of the lids' cells from open to closed, float64 [256]."""

    def closure(self, seen: Seen) -> Floats:
        """How far the eye is closed, 0 open to about 1, float64 [T]."""
        brightness_TA = seen.features_TF[:, 2 * CELLS * CELLS :].astype(np.float64)
        open_A = np.median(brightness_TA[seen.good_T], axis=0) if seen.good_T.any() else brightness_TA[0]
        share_T: Floats = (brightness_TA - open_A) @ self.template_A / float(self.template_A @ self.template_A)
        return share_T


@dataclass(frozen=True, slots=True)
class CueCourse:
    """The course of one cue's movement as one camera saw it in one take."""

    take: int
    """Which of the takes."""
    cue: Cue
    camera: Camera
    good_T: Bools
    nuisance_NF: Floats
    course: Course
    clean_TF: Floats
    """Whitened features in the region."""


@dataclass(frozen=True, slots=True)
class Courses:
    """All that was found in the takes of a wearer."""

    found: Mapping[tuple[int, Camera], CueCourse]
    gaze: Mapping[tuple[int, Camera], GazeTargets]
    good: Mapping[tuple[int, Camera], Bools]
    """Good frames of each take and camera, blinks left out."""
    closure: Mapping[tuple[int, Camera], Floats]
    """How far the eye is closed; only for eyes with a take of closing them."""
    glances: Mapping[Camera, Floats]
    """What glances do to the picture of each eye, float64 [N, 768]."""


def find_courses(takes: Sequence[SeenTake]) -> Courses:
    """Courses, gaze and blinks in the takes of one fitting."""
    lids = _lids(takes)
    closure: dict[tuple[int, Camera], Floats] = {}
    good: dict[tuple[int, Camera], Bools] = {}
    for number, take in enumerate(takes):
        for camera, seen in take.cameras.items():
            good[number, camera] = seen.good_T
            if camera in lids:
                closure[number, camera] = lids[camera].closure(seen)
                if take.cue != "eyes_closed":
                    good[number, camera] = seen.good_T & ~_blinks(closure[number, camera], take.rate_hz)
    gaze: dict[tuple[int, Camera], GazeTargets] = {}
    glances = {camera: _glances(takes, camera, good) for camera in EYES}
    for number, take in enumerate(takes):
        cue = cue_by_name(take.cue)
        for camera in EYES:
            if not cue.dots_deg or camera not in take.cameras:
                continue
            targets = gaze_targets(take.cameras[camera], take.t_ns, cue, camera, good[number, camera])
            if targets is not None:
                gaze[number, camera] = targets
    found: dict[tuple[int, Camera], CueCourse] = {}
    for _ in range(_ROUNDS):
        # in the first round no template is known yet
        templates = {(one.cue.name, camera): one.course.template_F for (_, camera), one in found.items()}
        found = {
            (number, camera): _cue_course(takes, number, camera, good[number, camera], glances, templates)
            for number, take in enumerate(takes)
            for camera in cameras_of(cue_by_name(take.cue))
            if cue_by_name(take.cue).eus and camera in take.cameras and good[number, camera].sum() >= 8
        }
    return Courses(found, gaze, good, closure, glances)


def nuisances(
    cue_name: str, camera: Camera, glances: Mapping[Camera, Floats], templates: Mapping[tuple[str, Camera], Floats]
) -> Floats:
    """What else happens while a cue is performed, each at its usual size, float64 [N, 768]."""
    rows = [
        COMPANION * template_F[None]
        for (name, own), template_F in templates.items()
        if own is camera and name != cue_name
    ]
    if camera in EYES and cue_name != "eyes_closed":
        rows.append(glances[camera])
    return np.concatenate(rows) if rows else np.zeros((0, 3 * CELLS * CELLS))


def _cue_course(  # noqa: PLR0917 - all that a course depends on
    takes: Sequence[SeenTake],
    number: int,
    camera: Camera,
    good_T: Bools,
    glances: Mapping[Camera, Floats],
    templates: Mapping[tuple[str, Camera], Floats],
) -> CueCourse:
    take = takes[number]
    cue = cue_by_name(take.cue)
    inside_F = region(cue.name, camera)
    nuisance_NF = nuisances(cue.name, camera, glances, templates)
    clean = whitening(nuisance_NF, inside_F)
    features_TF = weighted(take.cameras[camera].features_TF)
    course = find_course(features_TF, good_T, inside_F, clean, timetable(cue, len(take)), take.rate_hz)
    return CueCourse(number, cue, camera, good_T, nuisance_NF, course, clean(features_TF * inside_F))


def half_course(one: CueCourse, take: SeenTake, half: str) -> Floats:
    """The course of a mouth cue as one side of the mouth shows it, float64 [T]: 0 at rest, 1 at the mean apex."""
    inside_F = region(one.cue.name, one.camera, half)
    clean_TF = whitening(one.nuisance_NF, inside_F)(weighted(take.cameras[one.camera].features_TF) * inside_F)
    rest_F = clean_TF[one.course.rest_T].mean(axis=0)
    template_F = clean_TF[one.course.apex_T].mean(axis=0) - rest_F
    power = float(template_F @ template_F)
    if power < 1e-9:
        return np.zeros(len(take))
    return smooth(bridge((clean_TF - rest_F) @ template_F / power, one.good_T), take.rate_hz)


def _glances(takes: Sequence[SeenTake], camera: Camera, good: Mapping[tuple[int, Camera], Bools]) -> Floats:
    """What an eye's picture does while nothing is asked of it: principal components, each as long as it is usual.

    The takes of the mouth show dozens of small glances, that of the dots the great ones.
    """
    still: list[Floats] = []
    for number, take in enumerate(takes):
        cue = cue_by_name(take.cue)
        if (number, camera) in good and camera not in (camera_of(eu) for eu in cue.eus):
            chosen_TF = weighted(take.cameras[camera].features_TF[good[number, camera]])
            if len(chosen_TF):
                still.append(chosen_TF - np.median(chosen_TF, axis=0))
    if not still:
        return np.zeros((0, 3 * CELLS * CELLS))
    frames_TF = np.concatenate(still)
    # a frame in three tells as much: glances last longer
    frames_TF = frames_TF[:: max(1, len(frames_TF) // _GLANCE_FRAMES)]
    size_N, basis_NF = principal(frames_TF)
    rows_NF: Floats = basis_NF[:_GLANCES] * (size_N[:_GLANCES, None] / np.sqrt(len(frames_TF)))
    return rows_NF


def _lids(takes: Sequence[SeenTake]) -> dict[Camera, Lids]:
    """Closed eyes from the take of closing them, where closing changed the picture."""
    lids: dict[Camera, Lids] = {}
    for take in takes:
        if take.cue != "eyes_closed":
            continue
        for camera in EYES:
            seen = take.cameras.get(camera)
            if seen is None or seen.good_T.sum() < 8:
                continue
            inside_F = region(take.cue, camera)
            course = find_course(
                weighted(seen.features_TF),
                seen.good_T,
                inside_F,
                whitening(np.zeros((0, len(inside_F))), inside_F),
                timetable(cue_by_name(take.cue), len(take)),
                take.rate_hz,
            )
            template_A = (course.template_F * inside_F)[2 * CELLS * CELLS :]
            if float(np.abs(template_A).max()) > _LEAST_CLOSING * APPEARANCE_WEIGHT:
                lids[camera] = Lids(template_A / APPEARANCE_WEIGHT)
    return lids


def _blinks(closure_T: Floats, rate_hz: float) -> NDArray[np.bool_]:
    closing_T = closure_T > CLOSING
    reach = max(1, round(_CLOSING_S * rate_hz))
    return np.convolve(closing_T, np.ones(2 * reach + 1), mode="same") > 0.5
