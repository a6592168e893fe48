"""Whether a take shows the movement that was asked for: seen at all, strong enough, repeated alike, in the right direction.

Judged by the movement alone. Pure numpy. Axes: T frame, F feature, R C cells.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from calibration.activation import Floats
from calibration.courses import LEAST_GOOD, CueCourse, cameras_of
from calibration.movement import CELLS, Gate
from calibration.seen import SeenTake, Sight
from calibration.segments import Reason, Refusal, Segments
from model_export.contract.cues import Cue
from model_export.contract.frames import Camera

LEAST_STRENGTH: Final = 3.0
"""Least `Course.strength`; 99 of 100 takes whose course followed the truth (r over .95) had 3.6 or more."""
SURER: Final = {"eyes_wide": 4.5}
"""Cues that must stand out more. Lids go up by two or three pixels in wide eyes, and with every glance up: below this the
course's r with the truth was 0.2 to 0.9."""
LEAST_LIKENESS: Final = 0.45
"""Least cosine of the templates of two repetitions; 99 of 100 such takes had 0.50 or more."""
LEAST_AGREEMENT: Final = 0.7
"""Least correlation of one eye's course with that of both; an eye below it gets no targets."""

_REASONS: Final = {
    Gate.DARK: (Reason.DARK, "Check that the camera's light is on."),
    Gate.COVERED: (Reason.COVERED, "Take away what covers the camera."),
    Gate.RESIDUAL: (Reason.COVERED, "Take away what covers the camera."),
    Gate.DISAGREES: (Reason.COVERED, "Take away what covers the camera."),
    Gate.SLIPPED: (Reason.SLIPPED, "Hold the head still, and do not touch the headset."),
    Gate.BLINK: (Reason.BLINKED, "Keep the eyes open for these seconds."),
}


def unseen(sight: Sight, take: SeenTake, cue: Cue, usable: Sequence[Camera]) -> Refusal | None:
    """Why none of the cameras that a cue needs saw enough of a take; None where one did."""
    if usable:
        return None
    needed = cameras_of(cue)
    wanted = (
        f"The {' or the '.join(camera.label.replace('_', ' ') for camera in needed)} camera should see the movement."
    )
    present = [camera for camera in needed if camera in take.cameras]
    if not present:
        blind = [str(sight.unusable[camera]) for camera in needed if camera in sight.unusable]
        if blind:
            return Refusal(cue.name, Reason.NO_REST, wanted, "no usable rest of that camera", blind[0])
        return Refusal(
            cue.name, Reason.CAMERA_MISSING, wanted, "no frames of it", "Check the camera, or skip this cue."
        )
    gates = Counter(gate for camera in present for gate in take.cameras[camera].gates if gate is not None)
    if not gates:
        found = f"{len(take)} frames" if len(take) < 16 else f"less than {LEAST_GOOD:.0%} of the frames, or eyes closed"
        reason = Reason.TOO_SHORT if len(take) < 16 else Reason.BLINKED
        return Refusal(cue.name, reason, wanted, found, "Do it again with the eyes open, to the end of the countdown.")
    gate, count = gates.most_common(1)[0]
    reason, remedy = _REASONS[gate]
    total = len(take) * len(present)
    return Refusal(cue.name, reason, wanted, f"{count} of {total} frames in which {gate.value}", remedy)


def unlike(cue: Cue, courses: Sequence[CueCourse], segments: Segments) -> Refusal | None:
    """Why the movement in a take is not the one asked for, weak, or not the same each time; None where it is."""
    strength = max(one.course.strength for one in courses)
    least = SURER.get(cue.name, LEAST_STRENGTH)
    if strength < least:
        return Refusal(
            cue.name,
            Reason.TOO_WEAK,
            f"The movement should stand out {least} times from rest and glances.",
            f"{strength:.1f} times",
            "Move as far as you can, and hold it for half a second.",
        )
    likeness = repeatability(courses, segments)
    if likeness < LEAST_LIKENESS:
        return Refusal(
            cue.name,
            Reason.NOT_REPEATED,
            f"The repetitions should look alike (cosine {LEAST_LIKENESS} or more).",
            f"{likeness:.2f}",
            "Make the same movement each time, and nothing else.",
        )
    wrong = _wrong_way(cue, courses)
    if wrong is not None:
        return Refusal(
            cue.name,
            Reason.WRONG_MOVEMENT,
            f"The movement should be the one asked for: {cue.prompt}",
            wrong,
            "Read the cue again; skip it if you cannot make this movement.",
        )
    return None


def repeatability(courses: Sequence[CueCourse], segments: Segments) -> float:
    """Least cosine between the whitened templates of two successive repetitions, all cameras together; 1 for a single one."""
    templates = []
    for one in segments.repetitions:
        parts: list[Floats] = []
        for course in courses:
            top_T = np.zeros(segments.frames, bool)
            top_T[one.apex : one.offset] = True
            top_T &= course.good_T
            if top_T.any():
                parts.append(course.clean_TF[top_T].mean(axis=0) - course.clean_TF[course.course.rest_T].mean(axis=0))
            else:
                parts.append(np.zeros(course.clean_TF.shape[1]))
        templates.append(np.concatenate(parts))
    cosines = [
        float(first @ second) / (float(np.linalg.norm(first) * np.linalg.norm(second)) + 1e-9)
        for first, second in pairwise(templates)
    ]
    return min(cosines, default=1.0)


def directions(camera: Camera, template_F: Floats) -> Mapping[str, float]:
    """Mean flow of a template where movements differ most, px to the picture's right and down: brows, or corners of the mouth."""
    flow_RCK = template_F[: 2 * CELLS * CELLS].reshape(CELLS, CELLS, 2)
    if camera is not Camera.MOUTH:
        return {
            "brow_down": float(flow_RCK[1:6, 2:14, 1].mean()),
            "lower_lid_down": float(flow_RCK[9:13, 3:13, 1].mean()),
        }
    right_2, left_2 = flow_RCK[5:10, 2:6].mean(axis=(0, 1)), flow_RCK[5:10, 10:14].mean(axis=(0, 1))
    return {
        "corners_down": float(right_2[1] + left_2[1]) / 2,
        "corners_left": float(right_2[0] + left_2[0]) / 2,
        "corners_apart": float(left_2[0] - right_2[0]),
        "chin_down": float(flow_RCK[11:, 4:12, 1].mean()),
    }


_WAYS: Final = {
    "brows_up": ("brow_down", -1.0, 0.8),
    "brows_down": ("brow_down", 1.0, 0.3),
    "squint": ("lower_lid_down", -1.0, 0.3),
    "smile": ("corners_down", -1.0, 0.3),
    "frown": ("corners_down", 1.0, 0.65),
    "mouth_left": ("corners_left", 1.0, 0.8),
    "mouth_right": ("corners_left", -1.0, 0.8),
    "stretch": ("corners_apart", 1.0, 0.3),
}
"""For a cue: what moves, which way (1: as the name says), and how many px the other way are still let pass. Only what every
wearer does stands here: anatomy, no model of a population. Slip removal takes some of a brow's way, hence larger margins."""


def _wrong_way(cue: Cue, courses: Sequence[CueCourse]) -> str | None:
    if cue.name not in _WAYS:
        return None
    name, sign, margin = _WAYS[cue.name]
    moved_px = float(np.mean([directions(one.camera, one.course.template_F)[name] for one in courses]))
    if sign * moved_px >= -margin:
        return None
    opposite = {"down": "up", "left": "right", "apart": "together"}
    what, way = name.rsplit("_", 1)
    # moved_px counts the way of the name
    seen = way if moved_px > 0 else opposite[way]
    return f"{what.replace('_', ' ')} that moved {abs(moved_px):.1f} px {seen}"
