"""How a camera's values are held, fade and end when it does not come any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.contract import Validity
from service.regions import NEW_CLOCK_NS, RegionClock

MS = 1_000_000
GAP_NS = 1000 * MS


def clock_at(*times_ms: int) -> RegionClock:
    clock = RegionClock()
    for t_ms in times_ms:
        clock.step(t_ms * MS, GAP_NS)
    return clock


@pytest.mark.parametrize(
    ("age_ms", "validity", "weight"),
    [
        (0, Validity.HELD, 1.0),
        (100, Validity.HELD, 1.0),
        (101, Validity.FADING, 1 - 1 / 400),
        (300, Validity.FADING, 0.5),
        (499, Validity.FADING, 1 / 400),
        (500, Validity.UNSEEN, 0.0),
        (90_000, Validity.UNSEEN, 0.0),
    ],
)
def test_a_missing_camera_is_held_then_fades_then_is_unseen(age_ms: int, validity: Validity, weight: float) -> None:
    seen = clock_at(1000, 1011).state((1011 + age_ms) * MS, None)
    assert seen.validity is validity
    assert seen.weight == pytest.approx(weight)


def test_a_camera_that_never_came_is_unseen() -> None:
    assert RegionClock().state(5 * MS, None).validity is Validity.UNSEEN


def test_a_slow_camera_is_held_for_one_and_a_half_of_its_periods() -> None:
    assert clock_at(0, 125).state((125 + 187) * MS, None).validity is Validity.HELD
    assert clock_at(0, 125).state((125 + 188) * MS, None).validity is Validity.FADING
    # a pause is no period: the hold that is measured has a bound, only a declared rate goes beyond
    assert clock_at(0, 900).state((900 + 301) * MS, None).validity is Validity.FADING
    assert clock_at(0).state(1400 * MS, 1.0).validity is Validity.HELD


def test_steps_are_seconds_between_frames_and_nothing_after_a_gap() -> None:
    clock = RegionClock()
    steps = [clock.step(t_ms * MS, GAP_NS) for t_ms in (5000, 5011, 6011, 7012, 7020)]
    assert steps == pytest.approx([0.0, 0.011, 1.0, 0.0, 0.008])


def test_a_late_frame_is_told_from_a_clock_that_began_again() -> None:
    clock = clock_at(5000)
    assert clock.is_late(5000 * MS)
    assert clock.is_late(4000 * MS)
    assert not clock.is_late(5000 * MS + 1)
    assert not clock.is_late(5000 * MS - NEW_CLOCK_NS - 1)
    assert clock.step(0, GAP_NS) == 0.0
    assert clock.last_ns == 0


def test_values_of_a_clock_that_is_over_are_not_held() -> None:
    assert clock_at(5000).state(10 * MS, None).validity is Validity.UNSEEN


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=30).map(sorted))
def test_once_a_camera_is_missing_its_weight_only_falls(ages_ms: list[int]) -> None:
    clock = clock_at(0, 11)
    weights = [clock.state((11 + age_ms) * MS, None).weight for age_ms in ages_ms]
    assert weights == sorted(weights, reverse=True)
    assert all(0 <= weight <= 1 for weight in weights)
