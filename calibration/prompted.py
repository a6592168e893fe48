"""Targets from other sources than movement, to compare with: what was prompted, and the truth of rendered takes.

Timetable of a cue of S seconds with R repetitions, the same for whoever prompts: repetition r has the slot [r, r + 1) S / R;
the wearer is asked to move at the start of the slot, to hold in its middle half and to be at rest at its end.
Axes: T frame set, E expression unit, 4 gaze.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.take_targets import TakeTargets
from model_export.contract import EU_COUNT, EU_INDEX, Cue, Take, cue_by_name

_RANGE_DEG: Final = {"In": 35.0, "Out": 35.0, "Up": 26.0, "Down": 26.0}
"""Rotation of an eye that the population reaches; a prompted dot is a share of it."""


@dataclass(frozen=True, slots=True)
class PromptedStyle:
    """How a prompt becomes labels."""

    apex: float = 1.0
    """Label of an EU while it is asked for."""
    transitions: bool = True
    """Whether the quarters of a slot in which the wearer comes and goes are labelled too, as moving; else they do not count."""


AS_PEERS_TRAIN: Final = PromptedStyle()
"""1 while the prompt asks for the movement, 0 otherwise."""
AT_ITS_BEST: Final = PromptedStyle(apex=0.85, transitions=False)
"""Transitions dropped, and an apex below 1, for few wearers reach their limit when asked."""


def slot_repetitions(take: Take) -> NDArray[np.int32]:
    """int32 [T]: the repetition or dot that a frame belongs to by the timetable."""
    cue = cue_by_name(take.cue)
    share_T = _shares(take, cue)
    return np.asarray(share_T, np.int32)


def _shares(take: Take, cue: Cue) -> NDArray[np.float64]:
    """Where a frame stands in the timetable, in slots."""
    since_s_T = (take.t_ns - take.t_ns[0]) / 1e9
    slots = len(cue.dots_deg) or cue.repetitions
    return np.asarray((since_s_T * slots / cue.seconds).clip(0, slots - 1e-6))


def prompted_targets(take: Take, style: PromptedStyle) -> TakeTargets:
    """Labels from the prompts alone: every EU is labelled in every cue, as binary training does."""
    cue = cue_by_name(take.cue)
    share_T = _shares(take, cue)
    within_T = share_T % 1.0
    values_TE = np.zeros((len(take), EU_COUNT), np.float32)
    confidence_TE = np.ones((len(take), EU_COUNT), np.float32)
    confidence_TE[:, [EU_INDEX["pupilDilateLeft"], EU_INDEX["pupilDilateRight"]]] = 0.0
    gaze_T4 = np.full((len(take), 4), np.nan, np.float32)
    if cue.eus:
        asked_T = (within_T < 0.75) if style.transitions else (within_T >= 0.25) & (within_T < 0.75)
        for e in cue.eu_indices:
            values_TE[asked_T, e] = style.apex
        if not style.transitions:
            confidence_TE[(within_T < 0.25) | (within_T >= 0.75)] = 0.0
    if cue.dots_deg:
        dots_T2 = np.array(cue.dots_deg, np.float32)[share_T.astype(int)]
        gaze_T4[:, :2] = gaze_T4[:, 2:] = dots_T2
        for side, outward in (("Left", 1.0), ("Right", -1.0)):
            for way, course_T in (
                ("Out", outward * dots_T2[:, 0]),
                ("In", -outward * dots_T2[:, 0]),
                ("Up", dots_T2[:, 1]),
                ("Down", -dots_T2[:, 1]),
            ):
                values_TE[:, EU_INDEX[f"eyeLook{way}{side}"]] = (course_T / _RANGE_DEG[way]).clip(0, 1)
        if not style.transitions:
            travelling_T = within_T < 0.4
            confidence_TE[travelling_T] = 0.0
            gaze_T4[travelling_T] = np.nan
    return TakeTargets(take.cue, take.t_ns, values_TE, confidence_TE, slot_repetitions(take), gaze_T4)


def true_targets(take: Take) -> TakeTargets:
    """The truth of a rendered take, known everywhere; raises ValueError where the take holds none."""
    if take.values_TE is None:
        raise ValueError(
            f"Take {take.cue!r} should hold its true values. Found none; render takes with `mien render-takes`."
        )
    return TakeTargets(
        take.cue,
        take.t_ns,
        take.values_TE.clip(0, 1),
        np.ones((len(take), EU_COUNT), np.float32),
        slot_repetitions(take),
        take.gaze_T4,
    )
