"""What a wearer does with the face: EU values over time, as cued repetitions, free combinations, blinks, saccades and rest.

A performance is a list of movements (EU, start, onset, apex, offset, size); values are evaluated at any times, so a slow
sampling of a long performance costs no more than a short one.
Ramps are minimum-jerk (Flash and Hogan 1985): s(u) = 10 u^3 - 15 u^4 + 6 u^5.
Axes: T time, E expression units.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_COUNT, EU_INDEX, EU_NAMES


@dataclass(frozen=True, slots=True)
class Movement:
    """One EU (or several together) going up, staying and coming back."""

    units: tuple[int, ...]
    sizes: tuple[float, ...]
    """Value of each unit at the apex, 0..1."""
    start_s: float
    onset_s: float
    apex_s: float
    offset_s: float


def _unit(name: str) -> tuple[int, ...]:
    """Indices of an EU of the whole face, or of both halves."""
    if name in EU_INDEX:
        return (EU_INDEX[name],)
    return EU_INDEX[f"{name}Left"], EU_INDEX[f"{name}Right"]


LIDS: Final = ("eyeBlink", "eyeWide", "eyeSquint")
BROWS: Final = ("browDown", "browInnerUp", "browOuterUp", "cheekSquint")
MOUTH: Final = (
    "jawOpen", "jawForward", "jawLeft", "jawRight", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthRollUpper", "mouthRollLower", "mouthShrugUpper", "mouthShrugLower", "mouthSmile", "mouthFrown", "mouthDimple",
    "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp", "cheekPuff", "noseSneer", "tongueOut",
)  # fmt: skip

OPPOSED: Final = (
    ("jawLeft", "jawRight"),
    ("mouthLeft", "mouthRight"),
    ("eyeWide", "eyeBlink"),
    ("eyeWide", "eyeSquint"),
    ("browDown", "browOuterUp"),
    ("mouthSmile", "mouthPucker"),
    ("mouthSmile", "mouthFrown"),
    ("mouthStretch", "mouthPucker"),
    ("mouthStretch", "mouthFunnel"),
    ("mouthRollUpper", "mouthFunnel"),
    ("mouthRollLower", "mouthFunnel"),
    ("mouthPress", "tongueOut"),
    ("mouthClose", "tongueOut"),
    ("mouthRollUpper", "tongueOut"),
    ("mouthRollLower", "tongueOut"),
    ("mouthUpperUp", "mouthRollUpper"),
    ("mouthLowerDown", "mouthRollLower"),
    ("mouthPress", "mouthLowerDown"),
    ("mouthPress", "mouthUpperUp"),
    ("cheekPuff", "tongueOut"),
    ("cheekPuff", "jawOpen"),
)
"""EUs that a face does not do strongly together: the later one is scaled by what the earlier one leaves."""
_NEVER: Final = frozenset({("jawLeft", "jawRight"), ("mouthLeft", "mouthRight")})

HARD_PAIRS: Final = (
    ("mouthPucker", "mouthFunnel"),
    ("mouthPress", "mouthRollLower"),
    ("mouthPress", "mouthRollUpper"),
    ("mouthShrugLower", "mouthClose"),
    ("mouthShrugLower", "mouthShrugUpper"),
    ("mouthSmile", "mouthStretch"),
    ("mouthSmile", "mouthDimple"),
    ("eyeSquint", "eyeBlink"),
    ("eyeBlink", "eyeLookDown"),
    ("eyeSquint", "cheekSquint"),
    ("jawOpen", "mouthFunnel"),
    ("mouthUpperUp", "noseSneer"),
)
"""EUs that look alike; each appears alone and with the other."""


def minimum_jerk(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """s(u) = 10 u^3 - 15 u^4 + 6 u^5, u clipped to 0..1: smooth from 0 to 1 with no velocity or acceleration at the ends."""
    u = np.clip(share, 0.0, 1.0)
    ramp: NDArray[np.float64] = u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
    return ramp


def perform(rng: np.random.Generator, times_s_T: NDArray[np.float64]) -> NDArray[np.float32]:
    """EU values at these times, float32 [T, 56] in 0..1; a kind of performance is drawn: cued, free, mixed or mostly at rest."""
    length_s = float(times_s_T[-1]) + 0.1
    kind = rng.choice(4, p=[0.22, 0.66, 0.08, 0.04])
    movements: list[Movement] = []
    if kind == 0:
        movements += _cued(rng, length_s)
    elif kind == 1:
        movements += _free(rng, length_s, rng.uniform(0.24, 0.46))
    elif kind == 2:
        movements += _pairs(rng, length_s)
    else:
        movements += _free(rng, length_s, 0.03)
    movements += _blinks(rng, length_s)
    values_TE = evaluate(movements, times_s_T)
    values_TE = np.maximum(values_TE, _gaze(rng, times_s_T, wide=kind != 3))
    values_TE = np.maximum(values_TE, _pupils(rng, times_s_T))
    return settle(values_TE)


def evaluate(movements: list[Movement], times_s_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """The greatest of all movements of a unit at each time, float64 [T, 56]."""
    values_TE = np.zeros((len(times_s_T), EU_COUNT))
    for movement in movements:
        since = times_s_T - movement.start_s
        rise = minimum_jerk(since / movement.onset_s)
        fall = minimum_jerk((since - movement.onset_s - movement.apex_s) / movement.offset_s)
        bump_T = rise - fall
        for unit, size in zip(movement.units, movement.sizes, strict=True):
            np.maximum(values_TE[:, unit], size * bump_T, out=values_TE[:, unit])
    return values_TE


def settle(values_TE: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values that a face can have together: opposed EUs give way, lips close no further than the jaw is open."""
    values_TE = np.clip(values_TE, 0.0, 1.0)
    for first, second in OPPOSED:
        for one, other in zip(_unit(first), _unit(second), strict=False):
            stronger = np.maximum(values_TE[:, one], values_TE[:, other])
            weaker = np.minimum(values_TE[:, one], values_TE[:, other])
            left = 0.0 if (first, second) in _NEVER else np.clip(1.3 - stronger, 0.0, 1.0)
            keep = weaker * left
            first_wins = values_TE[:, one] >= values_TE[:, other]
            values_TE[:, one] = np.where(first_wins, stronger, keep)
            values_TE[:, other] = np.where(first_wins, keep, stronger)
    for side in ("Left", "Right"):
        for one_way, other_way in (("In", "Out"), ("Up", "Down")):
            one, other = EU_INDEX[f"eyeLook{one_way}{side}"], EU_INDEX[f"eyeLook{other_way}{side}"]
            net_T = values_TE[:, one] - values_TE[:, other]
            values_TE[:, one], values_TE[:, other] = np.maximum(0.0, net_T), np.maximum(0.0, -net_T)
    tongue, jaw, close = EU_INDEX["tongueOut"], EU_INDEX["jawOpen"], EU_INDEX["mouthClose"]
    # a tongue shows only through open lips, and the lips meet when close equals open
    values_TE[:, jaw] = np.maximum(values_TE[:, jaw], np.minimum(0.32, 0.5 * values_TE[:, tongue]))
    values_TE[:, close] = np.minimum(values_TE[:, close], values_TE[:, jaw])
    return values_TE.astype(np.float32)


def _size(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.75, 1.0) if rng.random() < 0.3 else rng.uniform(0.15, 1.0))


def _movement(rng: np.random.Generator, name: str, start_s: float, apex_s: float, alone: bool = False) -> Movement:
    units = _unit(name)
    size = _size(rng)
    sizes = [size] * len(units)
    if len(units) == 2:
        kind = rng.random()
        if kind < 0.28:  # one half only, or nearly
            sizes[int(rng.integers(2))] *= float(rng.choice([0.0, 0.3]))
        elif kind < 0.75:
            sizes[int(rng.integers(2))] *= float(rng.uniform(0.6, 1.0))
    slow = rng.uniform(0.15, 0.9)
    if name == "mouthClose" and not alone:
        jaw = min(1.0, size * float(rng.uniform(1.0, 1.35)))
        units, sizes = (*units, EU_INDEX["jawOpen"]), [*sizes, jaw]
    elif name == "mouthClose":
        units, sizes = (*units, EU_INDEX["jawOpen"]), [*sizes, size]
    return Movement(units, tuple(sizes), start_s, slow, apex_s, float(slow * rng.uniform(0.8, 1.6)))


def _free(rng: np.random.Generator, length_s: float, duty: float) -> list[Movement]:
    """Each EU comes and goes on its own; `duty` is the share of time that it is under way."""
    movements = []
    for name in (*MOUTH, *BROWS, "eyeWide", "eyeSquint", "eyeBlink"):
        share = duty * _RARITY.get(name, 1.0)
        time_s = -float(rng.exponential(1.5))
        while True:
            apex_s = float(rng.exponential(0.9) + 0.2)
            gap_s = (apex_s + 0.9) * (1.0 - share) / share
            time_s += float(rng.exponential(gap_s))
            if time_s > length_s:
                break
            movements.append(_movement(rng, name, time_s, apex_s))
            time_s += apex_s + 0.9
    return movements


_RARITY: Final = {
    "eyeBlink": 0.45,
    "jawOpen": 1.1,
    "jawLeft": 1.5,
    "jawRight": 1.5,
    "mouthLeft": 1.5,
    "mouthRight": 1.5,
    "mouthClose": 1.15,
    "tongueOut": 1.1,
    "cheekPuff": 1.5,
    "mouthFunnel": 1.35,
    "mouthPucker": 1.35,
    "mouthRollUpper": 1.5,
    "mouthRollLower": 1.5,
    "mouthPress": 1.5,
    "mouthFrown": 1.15,
    "mouthSmile": 1.15,
    "mouthStretch": 1.25,
    "mouthLowerDown": 1.25,
    "mouthUpperUp": 1.2,
    "eyeWide": 1.3,
    "eyeSquint": 1.25,
    "browDown": 1.15,
    "browOuterUp": 1.15,
}
"""How much more time an EU gets so that, after opposed ones gave way, it is still active often enough."""


def _cued(rng: np.random.Generator, length_s: float) -> list[Movement]:
    """Repetitions of one or two EUs, as a calibration asks for."""
    names = (*MOUTH, *BROWS, *LIDS)
    movements = []
    time_s = -float(rng.uniform(0.0, 1.0))
    while time_s < length_s:
        name = str(rng.choice(names))
        for _ in range(int(rng.integers(1, 3))):
            movement = _movement(rng, name, time_s, float(rng.uniform(0.2, 1.2)), alone=True)
            movements.append(movement)
            time_s += movement.onset_s + movement.apex_s + movement.offset_s + float(rng.uniform(0.0, 0.3))
    return movements


def _pairs(rng: np.random.Generator, length_s: float) -> list[Movement]:
    """EUs that look alike, alone and together, in turn."""
    movements = []
    time_s = -float(rng.uniform(0.0, 1.0))
    while time_s < length_s:
        pair = HARD_PAIRS[int(rng.integers(len(HARD_PAIRS)))]
        which = int(rng.integers(3))
        apex_s = float(rng.uniform(0.3, 1.2))
        for position, name in enumerate(pair):
            if which in (position, 2):
                movements.append(_movement(rng, name, time_s + float(rng.uniform(0.0, 0.2)), apex_s))
        time_s += apex_s + 1.2
    return movements


def _blinks(rng: np.random.Generator, length_s: float) -> list[Movement]:
    """Blinks of 100 to 300 ms, both eyes, mostly whole; now and then a wink or eyes held closed."""
    movements = []
    time_s = float(rng.exponential(1.0))
    while time_s < length_s:
        closing, opening = float(rng.uniform(0.04, 0.10)), float(rng.uniform(0.06, 0.18))
        hold = float(rng.uniform(0.0, 0.05))
        if rng.random() < 0.3:
            closing, hold, opening = (
                float(rng.uniform(0.1, 0.3)),
                float(rng.uniform(0.2, 1.5)),
                float(rng.uniform(0.1, 0.4)),
            )
        size = float(rng.uniform(0.85, 1.0) if rng.random() < 0.8 else rng.uniform(0.3, 0.85))
        sizes = [size, size]
        if rng.random() < 0.12:
            sizes[int(rng.integers(2))] *= float(rng.uniform(0.0, 0.4))
        movements.append(Movement(_unit("eyeBlink"), (sizes[0], sizes[1]), time_s, closing, hold, opening))
        time_s += closing + hold + opening + float(rng.exponential(1.3))
    return movements


def _gaze(rng: np.random.Generator, times_s_T: NDArray[np.float64], wide: bool) -> NDArray[np.float64]:
    """Fixations joined by saccades (30 to 80 ms), now and then a smooth pursuit; both eyes together but for vergence."""
    values_TE = np.zeros((len(times_s_T), EU_COUNT))
    end = float(times_s_T[-1]) + 0.1
    time_s, here = -0.3, np.zeros(3)
    course = []  # (start, duration, from, to) of (yaw share, pitch share, vergence share)
    while time_s < end:
        spread = 1.0 if wide and rng.random() < 0.72 else 0.25
        goal = np.array([rng.uniform(-1, 1) * spread, rng.uniform(-1, 1) * spread, abs(rng.normal(0.0, 0.05))])
        if wide and rng.random() < 0.06:
            goal[2] = rng.uniform(0.15, 0.5)  # looking at the nose
        travel = float(rng.uniform(0.4, 1.2) if rng.random() < 0.15 else 0.03 + 0.05 * np.abs(goal - here).max())
        course.append((time_s, travel, here, goal))
        here = goal
        time_s += travel + float(rng.uniform(0.15, 1.1))
    way_T3 = np.zeros((len(times_s_T), 3))
    for start, travel, before, after in course:
        share_T = minimum_jerk((times_s_T - start) / travel)
        under_way = times_s_T >= start
        way_T3[under_way] = (before + share_T[:, None] * (after - before))[under_way]
    yaw_T, pitch_T, together_T = way_T3.T
    for side, outward in (("Left", 1.0), ("Right", -1.0)):
        own_T = np.clip(outward * yaw_T - together_T, -1.0, 1.0)
        values_TE[:, EU_INDEX[f"eyeLookOut{side}"]] = np.maximum(0.0, own_T)
        values_TE[:, EU_INDEX[f"eyeLookIn{side}"]] = np.maximum(0.0, -own_T)
        values_TE[:, EU_INDEX[f"eyeLookUp{side}"]] = np.maximum(0.0, pitch_T)
        values_TE[:, EU_INDEX[f"eyeLookDown{side}"]] = np.maximum(0.0, -pitch_T)
    return values_TE


def _pupils(rng: np.random.Generator, times_s_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pupils that follow slow changes of light, both nearly alike."""
    values_TE = np.zeros((len(times_s_T), EU_COUNT))
    level, swing, period = rng.uniform(0.0, 0.9), rng.uniform(0.0, 0.3), rng.uniform(2.0, 8.0)
    common_T = level + swing * np.sin(2 * np.pi * times_s_T / period + rng.uniform(0.0, 6.3))
    for name in ("pupilDilateLeft", "pupilDilateRight"):
        values_TE[:, EU_INDEX[name]] = np.clip(common_T + rng.normal(0.0, 0.03), 0.0, 1.0)
    return values_TE


def rest_values(rng: np.random.Generator) -> NDArray[np.float32]:
    """A face that is told to rest and to look ahead: float32 [56], pupils of any size and glances of up to a tenth."""
    values_E = np.zeros(EU_COUNT, np.float32)
    pupil = rng.uniform(0.1, 0.7)
    across, up = rng.uniform(-0.1, 0.1, 2)
    for side, outward in (("Left", 1.0), ("Right", -1.0)):
        values_E[EU_INDEX[f"pupilDilate{side}"]] = pupil
        values_E[EU_INDEX[f"eyeLook{'Out' if outward * across > 0 else 'In'}{side}"]] = abs(across)
        values_E[EU_INDEX[f"eyeLook{'Up' if up > 0 else 'Down'}{side}"]] = abs(up)
    return values_E


def activity(values_TE: NDArray[np.float32], above: float = 0.1) -> dict[str, float]:
    """Share of frames in which each EU is above a value."""
    shares = (values_TE > above).mean(axis=0)
    return {name: float(share) for name, share in zip(EU_NAMES, shares, strict=True)}
