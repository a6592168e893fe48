"""Rest, onset, apex, offset: the repetitions of a movement cut from its course, and the reasons to ask for a take again.

Pure numpy. Repetitions are judged by the movement itself and by how alike they are, never by what a universal model says:
that throws away the takes of exactly those wearers whom the model does not fit. Axes: T frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

ENTER: Final = 0.4
"""Share of the mean apex above which a movement is under way ..."""
LEAVE: Final = 0.2
"""... until it falls below this."""
FOOT: Final = 0.1
"""Share of a repetition's own peak at which its onset begins and its offset ends."""
TOP: Final = 0.85
"""Share of a repetition's own peak above which it is at its apex."""


class Phase(IntEnum):
    """What a frame belongs to."""

    REST = 0
    ONSET = 1
    APEX = 2
    OFFSET = 3


class Reason(StrEnum):
    """Why a take is refused."""

    CAMERA_MISSING = "camera_missing"
    DARK = "dark"
    COVERED = "covered"
    SLIPPED = "slipped"
    BLINKED = "blinked"
    TOO_SHORT = "too_short"
    NO_REST = "no_rest"
    NO_MOVEMENT = "no_movement"
    TOO_WEAK = "too_weak"
    ODD_LENGTH = "odd_length"
    MISSING_REPETITION = "missing_repetition"
    NOT_REPEATED = "not_repeated"
    WRONG_MOVEMENT = "wrong_movement"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One take that is not used, and what to do about it."""

    cue: str
    reason: Reason
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.expected} Found {self.found}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Repetition:
    """One movement from rest to the apex and back: frame numbers, each phase ending where the next starts."""

    onset: int
    apex: int
    offset: int
    end: int
    """First frame after the offset."""
    peak: float
    """90th percentile of the course at the apex."""

    def __post_init__(self) -> None:
        if not 0 <= self.onset <= self.apex < self.offset <= self.end:
            raise ValueError(f"Phases of a repetition should follow one another. Found {self}.")


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """Which repetitions are odd."""

    least_s: float = 0.2
    """Shortest time above half the peak."""
    most_s: float = 4.0
    weakest: float = 0.35
    """Least peak as a share of the strongest repetition's."""
    length_ratio: float = 3.5
    """Greatest length against the shortest repetition's."""


@dataclass(frozen=True, slots=True)
class Segments:
    """A take cut into repetitions."""

    repetitions: tuple[Repetition, ...]
    dropped: tuple[Reason, ...]
    """Why each movement that was seen is not among the repetitions."""
    frames: int

    def phases(self) -> NDArray[np.int8]:
        """A Phase for each frame, int8 [T]."""
        phases_T = np.full(self.frames, Phase.REST, np.int8)
        for one in self.repetitions:
            phases_T[one.onset : one.apex] = Phase.ONSET
            phases_T[one.apex : one.offset] = Phase.APEX
            phases_T[one.offset : one.end] = Phase.OFFSET
        return phases_T

    def numbers(self) -> NDArray[np.int32]:
        """The repetition that each frame belongs to, int32 [T], from 0; -1 outside of any."""
        numbers_T = np.full(self.frames, -1, np.int32)
        for number, one in enumerate(self.repetitions):
            numbers_T[one.onset : one.end] = number
        return numbers_T


def cut(course_T: NDArray[np.float64], t_ns: NDArray[np.int64], limits: SegmentLimits | None = None) -> Segments:
    """The repetitions in a course that is 0 at rest and about 1 at the apex: hysteresis, then each one's own feet and top."""
    limits = limits or SegmentLimits()
    times_s_T = (t_ns - t_ns[0]) * 1e-9
    found: list[Repetition] = []
    dropped: list[Reason] = []
    for start, end in _runs(course_T):
        one = _shape(course_T, start, end)
        above = np.flatnonzero(course_T[one.onset : one.end] > 0.5 * one.peak) + one.onset
        frame_s = float(times_s_T[-1]) / max(1, len(times_s_T) - 1)
        length_s = float(times_s_T[above[-1]] - times_s_T[above[0]]) + frame_s
        if not limits.least_s <= length_s <= limits.most_s:
            dropped.append(Reason.ODD_LENGTH)
        else:
            found.append(one)
    if found:
        strongest = max(one.peak for one in found)
        weak = [one for one in found if one.peak < limits.weakest * strongest]
        dropped += [Reason.TOO_WEAK] * len(weak)
        found = [one for one in found if one not in weak]
        shortest = min(one.end - one.onset for one in found)
        odd = [one for one in found if one.end - one.onset > limits.length_ratio * shortest]
        dropped += [Reason.ODD_LENGTH] * len(odd)
        found = [one for one in found if one not in odd]
    return Segments(tuple(found), tuple(dropped), len(course_T))


def refusal_of(cue: str, expected: int, segments: Segments) -> Refusal | None:
    """Why these repetitions are not those that were asked for; None where all are there, or one too many."""
    count = len(segments.repetitions)
    if expected <= count <= expected + 1:
        return None
    wanted = f"The movement should be made {expected} times, from rest to its full extent and back."
    if count > expected + 1:
        return Refusal(cue, Reason.ODD_LENGTH, wanted, f"{count} movements", "Move once for each prompt, and hold it.")
    if count:
        remedy = "Move once for each prompt, each time as far as you can, and relax between."
        return Refusal(cue, Reason.MISSING_REPETITION, wanted, f"{count}", remedy)
    if segments.dropped:
        reason = segments.dropped[0]
        remedy = "Make it stronger." if reason is Reason.TOO_WEAK else "Hold it for about half a second, then relax."
        return Refusal(cue, reason, wanted, reason.value.replace("_", " ") + " movements only", remedy)
    return Refusal(cue, Reason.NO_MOVEMENT, wanted, "none", "Wait for the prompt, move as far as you can, and relax.")


def _runs(course_T: NDArray[np.float64]) -> Sequence[tuple[int, int]]:
    """Frames between rising above ENTER and falling below LEAVE, as (first, first after)."""
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for place, value in enumerate(course_T.tolist()):
        if start is None and value > ENTER:
            start = place
        elif start is not None and value < LEAVE:
            runs.append((start, place))
            start = None
    if start is not None:
        runs.append((start, len(course_T)))
    return runs


def _shape(course_T: NDArray[np.float64], start: int, end: int) -> Repetition:
    peak = float(np.quantile(course_T[start:end], 0.9))
    top = np.flatnonzero(course_T[start:end] >= min(TOP * peak, float(course_T[start:end].max()))) + start
    onset = int(top[0])
    while onset > 0 and course_T[onset - 1] > FOOT * peak and course_T[onset - 1] < course_T[onset] + 0.05 * peak:
        onset -= 1
    last = int(top[-1]) + 1
    stop = last
    while stop < len(course_T) and course_T[stop] > FOOT * peak and course_T[stop] < course_T[stop - 1] + 0.05 * peak:
        stop += 1
    return Repetition(onset, int(top[0]), last, stop, peak)
