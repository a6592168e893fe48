"""Cutting courses into repetitions: hand-made courses, and properties of any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calibration.segments import Phase, Reason, Repetition, Segments, cut, refusal_of


def clock(count: int, rate_hz: float = 30.0) -> NDArray[np.int64]:
    return (np.arange(count) * 1e9 / rate_hz).astype(np.int64)


def course(*parts: tuple[float, float, int]) -> NDArray[np.float64]:
    """Straight lines: (from, to, frames)."""
    return np.concatenate([np.linspace(first, last, frames, endpoint=False) for first, last, frames in parts])


ONE = ((0.0, 0.0, 10), (0.0, 1.0, 8), (1.0, 1.0, 15), (1.0, 0.0, 8))
WEAK = ((0.0, 0.0, 10), (0.0, 0.45, 8), (0.45, 0.45, 12), (0.45, 0.0, 8), (0.0, 0.0, 5))


def test_a_trapezoid_is_cut_where_it_bends() -> None:
    segments = cut(course(*ONE, (0.0, 0.0, 9)), clock(50))
    (one,) = segments.repetitions
    assert (one.onset, one.apex, one.offset, one.end) == (11, 17, 35, 41)
    assert one.peak == pytest.approx(1.0)
    phases = segments.phases()
    assert [int((phases == phase).sum()) for phase in Phase] == [50 - 30, 6, 18, 6]
    assert segments.numbers().tolist() == [-1] * 11 + [0] * 30 + [-1] * 9


def test_two_repetitions_are_two_and_accepted() -> None:
    segments = cut(course(*ONE, *ONE, (0.0, 0.0, 5)), clock(87))
    assert len(segments.repetitions) == 2
    assert refusal_of("smile", 2, segments) is None


def test_no_movement_is_refused() -> None:
    refusal = refusal_of("smile", 2, cut(np.zeros(90), clock(90)))
    assert refusal is not None
    assert refusal.reason is Reason.NO_MOVEMENT


def test_one_of_two_is_a_missing_repetition() -> None:
    missing = refusal_of("smile", 2, cut(course(*ONE, (0.0, 0.0, 40)), clock(81)))
    assert missing is not None
    assert missing.reason is Reason.MISSING_REPETITION
    assert "2 times" in str(missing)
    assert "Found 1" in str(missing)


def test_a_movement_much_weaker_than_the_other_does_not_count() -> None:
    strong = tuple((first * 1.5, last * 1.5, frames) for first, last, frames in ONE)
    segments = cut(course(*strong, *WEAK), clock(84))
    assert len(segments.repetitions) == 1
    assert segments.dropped == (Reason.TOO_WEAK,)


def test_a_twitch_is_dropped_and_named() -> None:
    segments = cut(course((0.0, 0.0, 20), (0.0, 1.0, 1), (1.0, 0.0, 3), (0.0, 0.0, 30)), clock(54))
    assert segments.repetitions == ()
    refusal = refusal_of("smile", 2, segments)
    assert refusal is not None
    assert refusal.reason is Reason.ODD_LENGTH


def test_a_movement_held_far_longer_than_the_other_is_odd() -> None:
    long = ((0.0, 1.0, 8), (1.0, 1.0, 150), (1.0, 0.0, 8), (0.0, 0.0, 9))
    short = ((0.0, 0.0, 10), (0.0, 1.0, 4), (1.0, 1.0, 6), (1.0, 0.0, 4), (0.0, 0.0, 9))
    segments = cut(course(*short, *long), clock(208), None)
    assert len(segments.repetitions) == 1
    assert segments.dropped == (Reason.ODD_LENGTH,)


def test_too_many_movements_are_refused() -> None:
    refusal = refusal_of("smile", 1, cut(course(*ONE, *ONE, *ONE), clock(123)))
    assert refusal is not None
    assert refusal.reason is Reason.ODD_LENGTH


def test_a_movement_that_does_not_end_in_the_take_ends_with_it() -> None:
    segments = cut(course(*ONE[:3]), clock(33))
    assert segments.repetitions[0].end == 33


@given(arrays(np.float64, st.integers(2, 120), elements=st.floats(-0.5, 1.6)))
def test_any_course_is_cut_into_ordered_repetitions(values_T: NDArray[np.float64]) -> None:
    segments = cut(values_T, clock(len(values_T)))
    numbers, phases = segments.numbers(), segments.phases()
    assert len(numbers) == len(phases) == len(values_T)
    assert numbers.max() < len(segments.repetitions)
    for one in segments.repetitions:
        assert 0 <= one.onset <= one.apex < one.offset <= one.end <= len(values_T)


def test_phases_out_of_order_are_no_repetition() -> None:
    with pytest.raises(ValueError, match="follow one another"):
        Repetition(5, 4, 8, 9, 1.0)
    assert Segments((), (), 3).phases().tolist() == [0, 0, 0]
