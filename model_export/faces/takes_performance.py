"""What a simulated wearer does when asked for a cue: badly on purpose, as people do.

Timetable of a cue of S seconds with R repetitions, the same for whoever prompts: repetition r has the slot [r, r + 1) S / R;
the wearer is asked to move at the start of the slot, to hold in its middle half and to be at rest at its end.
Axes: T time, E expression units.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.cues import CUES, Cue
from model_export.contract.expression_units import EU_COUNT, EU_INDEX, EU_NAMES
from model_export.faces.performance import Movement, evaluate, minimum_jerk, perform, settle
from model_export.faces.wearer import Wearer

_EYE_COMPANIONS: Final = ("eyeSquint", "cheekSquint", "browDown", "browInnerUp", "browOuterUp", "eyeWide")
_MOUTH_COMPANIONS: Final = (
    "jawOpen", "mouthShrugLower", "mouthShrugUpper", "mouthSmile", "mouthDimple", "mouthStretch", "mouthPress",
    "mouthLowerDown", "mouthUpperUp", "noseSneer", "mouthFrown", "mouthPucker", "mouthRollLower",
)  # fmt: skip
_HABITS: Final = {
    "eyes_wide": ("browInnerUp", "browOuterUp"),
    "squint": ("browDown", "noseSneer"),
    "brows_up": ("eyeWide",),
    "brows_down": ("eyeSquint", "noseSneer"),
    "smile": ("cheekSquint", "mouthDimple", "mouthUpperUp"),
    "frown": ("mouthShrugLower", "mouthPress"),
    "sneer": ("browDown", "eyeSquint"),
    "jaw_open": ("mouthLowerDown",),
    "tongue": ("mouthLowerDown",),
}
"""EUs that come along with a cue on most faces."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How badly cues are performed."""

    amplitude: tuple[float, float] = (0.6, 1.0)
    """Least and greatest apex, as a share of the wearer's range."""
    companion: tuple[float, float] = (0.05, 0.25)
    """Least and greatest value of EUs that come along."""
    jitter_s: float = 0.12
    """Spread of the start of a movement."""
    shift_s: float = 0.0
    """Each repetition starts up to this much too early or too late."""
    wrong_share: float = 0.0
    """Share of repetitions in which another cue is performed."""

    @staticmethod
    def of(sloppy: float) -> "Manner":
        """The manner of a level from 0 (as people do) to 1 (half a second off, one in twelve wrong, weak ones)."""
        return Manner((0.6 - 0.25 * sloppy, 1.0), (0.05, 0.25 + 0.1 * sloppy), 0.12, 0.5 * sloppy, 0.08 * sloppy)


def perform_cue(
    rng: np.random.Generator, wearer: Wearer, cue: Cue, times_s_T: NDArray[np.float64], manner: Manner
) -> NDArray[np.float32]:
    """EU values of a wearer who follows a cue, float32 [T, 56] in 0..1."""
    if cue.name == "free":
        return perform_freely(rng, times_s_T)
    movements: list[Movement] = []
    for repetition in range(cue.repetitions if cue.eus else 0):
        movements += _repetition(rng, cue, repetition, manner)
    if cue.name != "eyes_closed":
        movements += _blinks(rng, cue.seconds)
    values_TE = evaluate(movements, times_s_T)
    values_TE = np.maximum(values_TE, _drift(rng, times_s_T))
    values_TE = np.maximum(values_TE, _looks(rng, wearer, cue, times_s_T))
    return settle(values_TE)


def perform_freely(rng: np.random.Generator, times_s_T: NDArray[np.float64], lively: int = 34) -> NDArray[np.float32]:
    """A free performance in which at least `lively` EUs rise above 0.3, float32 [T, 56]; short ones with fewer."""
    wanted = min(lively, int(3.5 * times_s_T[-1]))
    while True:
        values_TE = perform(rng, times_s_T)
        if int((values_TE.max(axis=0) > 0.3).sum()) >= wanted:
            return values_TE


def _halves(name: str) -> tuple[str, ...]:
    return (name,) if name in EU_INDEX else (f"{name}Left", f"{name}Right")


def _repetition(rng: np.random.Generator, cue: Cue, repetition: int, manner: Manner) -> list[Movement]:
    slot_s = cue.seconds / cue.repetitions
    asked = cue.eus
    if rng.random() < manner.wrong_share:
        others = [other for other in CUES if other.eus and other.name != cue.name]
        asked = others[int(rng.integers(len(others)))].eus
    delay_s = abs(rng.normal(0.0, manner.jitter_s)) + rng.uniform(-manner.shift_s, manner.shift_s)
    onset_s, offset_s = float(rng.uniform(0.18, 0.36)), float(rng.uniform(0.2, 0.4))
    start_s = repetition * slot_s + 0.12 + float(delay_s)
    apex_s = max(0.12, (repetition + 0.78) * slot_s - start_s - onset_s + float(rng.normal(0.0, 0.5 * manner.jitter_s)))
    apex_s = min(apex_s, 0.7 * slot_s)
    size = float(rng.uniform(*manner.amplitude))
    sizes: dict[str, float] = {}
    for name in asked:
        # several EUs asked for together do not come equally strong; halves differ less
        partner = sizes.get(name.removesuffix("Right") + "Left")
        sizes[name] = float(np.clip((partner or size * rng.uniform(0.85, 1.1)) * rng.normal(1.0, 0.05), 0.0, 1.0))
    movements = [
        Movement(
            tuple(EU_INDEX[name] for name in asked),
            tuple(sizes[name] for name in asked),
            start_s,
            onset_s,
            apex_s,
            offset_s,
        )
    ]
    return movements + _companions(rng, cue, asked, manner, (start_s, onset_s, apex_s, offset_s))


def _companions(
    rng: np.random.Generator,
    cue: Cue,
    asked: tuple[str, ...],
    manner: Manner,
    course_s: tuple[float, float, float, float],
) -> list[Movement]:
    """EUs that were not asked for: habits of the cue, and one to three others, each with its own timing."""
    start_s, onset_s, apex_s, offset_s = course_s
    names = [name for name in _HABITS.get(cue.name, ()) if rng.random() < 0.6]
    near_eye = any("eye" in name or "brow" in name for name in asked)
    pool = _EYE_COMPANIONS if near_eye else _MOUTH_COMPANIONS
    names += [str(name) for name in rng.choice(pool, int(rng.integers(1, 4)), replace=False)]
    movements = []
    for name in dict.fromkeys(names):
        halves = [half for half in _halves(name) if half not in asked]
        if not halves:
            continue
        size = float(rng.uniform(*manner.companion))
        early_s = float(rng.normal(0.0, 0.1))
        sizes = tuple(float(np.clip(size * rng.normal(1.0, 0.15), 0.0, 1.0)) for _ in halves)
        movements.append(
            Movement(tuple(EU_INDEX[half] for half in halves), sizes, start_s + early_s, onset_s, apex_s, offset_s)
        )
    return movements


def _blinks(rng: np.random.Generator, seconds: float) -> list[Movement]:
    """Natural blinks of 130 to 330 ms, one in about three seconds."""
    movements = []
    time_s = float(rng.exponential(3.0))
    while time_s < seconds:
        closing, hold, opening = (
            float(rng.uniform(0.05, 0.1)),
            float(rng.uniform(0.0, 0.04)),
            float(rng.uniform(0.08, 0.19)),
        )
        size = float(rng.uniform(0.85, 1.0))
        units = tuple(EU_INDEX[name] for name in _halves("eyeBlink"))
        movements.append(Movement(units, (size, size), time_s, closing, hold, opening))
        time_s += closing + hold + opening + 0.4 + float(rng.exponential(2.8))
    return movements


def _drift(rng: np.random.Generator, times_s_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """No face is ever quite still: a few EUs wander by some hundredths; pupils follow the light."""
    values_TE = np.zeros((len(times_s_T), EU_COUNT))
    moving = [index for index, name in enumerate(EU_NAMES) if "Look" not in name and name != "tongueOut"]
    for unit in rng.choice(moving, 8, replace=False):
        period_s, phase = rng.uniform(1.5, 6.0), rng.uniform(0.0, 2 * np.pi)
        values_TE[:, unit] = rng.uniform(0.0, 0.04) * (0.5 + 0.5 * np.sin(2 * np.pi * times_s_T / period_s + phase))
    level, period_s, phase = rng.uniform(0.2, 0.6), rng.uniform(2.0, 8.0), rng.uniform(0.0, 2 * np.pi)
    for name in _halves("pupilDilate"):
        values_TE[:, EU_INDEX[name]] = level + 0.1 * np.sin(2 * np.pi * times_s_T / period_s + phase)
    return values_TE


def _looks(rng: np.random.Generator, wearer: Wearer, cue: Cue, times_s_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the eyes look: near the dots of the cue after a latency, else about straight ahead, with saccades."""
    goals: list[tuple[float, float, float]] = []  # start s, yaw deg, pitch deg
    if cue.dots_deg:
        slot_s = cue.seconds / len(cue.dots_deg)
        for place, (yaw, pitch) in enumerate(cue.dots_deg):
            start_s = place * slot_s + float(rng.uniform(0.16, 0.34))
            goals.append((start_s, yaw + float(rng.normal(0.0, 1.2)), pitch + float(rng.normal(0.0, 1.2))))
            if rng.random() < 0.6:  # a small correction
                later_s = start_s + float(rng.uniform(0.12, 0.3))
                goals.append((later_s, yaw + float(rng.normal(0.0, 0.8)), pitch + float(rng.normal(0.0, 0.8))))
    else:
        time_s = -0.2
        while time_s < cue.seconds:
            away = 2.5 if rng.random() < 0.2 else 1.0
            goals.append((time_s, float(rng.normal(0.0, 3.0 * away)), float(rng.normal(0.0, 2.2 * away))))
            time_s += float(rng.uniform(0.3, 1.5))
    way_T2 = np.zeros((len(times_s_T), 2))
    here_2 = np.array(goals[0][1:]) * (0.0 if cue.dots_deg else 1.0)
    way_T2[:] = here_2
    for start_s, yaw, pitch in goals:
        goal_2 = np.array([yaw, pitch])
        travel_s = 0.025 + 0.0022 * float(np.abs(goal_2 - here_2).max())
        share_T = minimum_jerk((times_s_T - start_s) / travel_s)[:, None]
        late_T = times_s_T >= start_s
        way_T2[late_T] = (here_2 + share_T * (goal_2 - here_2))[late_T]
        here_2 = goal_2
    return _gaze_values(wearer, way_T2, float(abs(rng.normal(0.0, 0.8))))


def _gaze_values(wearer: Wearer, way_T2: NDArray[np.float64], vergence_deg: float) -> NDArray[np.float64]:
    """Values of eyeLook* of both eyes for yaw and pitch in degrees, the inverse of `gaze_degrees`."""
    into, out, up, down = wearer.gaze_range_deg
    values_TE = np.zeros((len(way_T2), EU_COUNT))
    for side, outward in (("Left", 1.0), ("Right", -1.0)):
        own_T = outward * way_T2[:, 0] - vergence_deg
        for name, course_T in (
            ("Out", own_T / out),
            ("In", -own_T / into),
            ("Up", way_T2[:, 1] / up),
            ("Down", -way_T2[:, 1] / down),
        ):
            values_TE[:, EU_INDEX[f"eyeLook{name}{side}"]] = np.clip(course_T, 0.0, 1.0)
    return values_TE
