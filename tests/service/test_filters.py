"""The One-Euro filter: against the paper's algorithm written plainly, and on blinks, saccades and noise."""

from math import pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_export.contract import EU_NAMES, Camera
from service.filters import FilterConfig, GroupFilter, OneEuro
from service.signals import EUS_S, GAZE_S, REGION_SIGNALS, SIGNAL_COUNT, SIGNALS, filter_group
from service.wire import FILTER_GROUPS


class PaperFilter:
    """Algorithm 1 of Casiez 2012 for one signal, word for word: the slow reference."""

    def __init__(self, group: GroupFilter, first: float) -> None:
        self.group, self.value, self.slope = group, first, 0.0

    def step(self, signal: float, period_s: float) -> float:
        speed = (signal - self.value) / period_s
        self.slope += self.alpha(self.group.slope_cutoff_hz, period_s) * (speed - self.slope)
        cutoff = self.group.min_cutoff_hz + self.group.beta * abs(self.slope)
        self.value += self.alpha(cutoff, period_s) * (signal - self.value)
        return self.value

    @staticmethod
    def alpha(cutoff_hz: float, period_s: float) -> float:
        tau_s = 1 / (2 * pi * cutoff_hz)
        return 1 / (1 + tau_s / period_s)


def of(signal: str, value: float) -> NDArray[np.float32]:
    raw_S = np.zeros(SIGNAL_COUNT, np.float32)
    raw_S[SIGNALS.index(signal)] = value
    return raw_S


def run(signal: str, values: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    filters = OneEuro(FilterConfig())
    for region in Camera:
        filters.restart(region, of(signal, values[0]))
    answers = [values[0]]
    for value in values[1:]:
        filters.advance(of(signal, value), (1 / rate_hz,) * 3)
        answers.append(float(filters.value_S[SIGNALS.index(signal)]))
    return np.array(answers)


def crossing(values: NDArray[np.float64], level: float, rate_hz: float) -> float:
    """Seconds at which a rising curve first crosses a level, between samples too."""
    after = int(np.argmax(values > level))
    before = values[after - 1]
    return float((after - 1 + (level - before) / (values[after] - before)) / rate_hz)


def test_the_layout_holds_each_eu_and_angle_once() -> None:
    assert [SIGNALS[place] for place in EUS_S] == list(EU_NAMES)
    assert [SIGNALS[place] for place in GAZE_S] == [
        "gazeYawLeft",
        "gazePitchLeft",
        "gazeYawRight",
        "gazePitchRight",
    ]
    places = [place for camera in Camera for place in range(SIGNAL_COUNT)[REGION_SIGNALS[camera]]]
    assert places == list(range(SIGNAL_COUNT))


@pytest.mark.parametrize(
    ("signal", "group"),
    [
        ("gazeYawLeft", "gaze"),
        ("eyeBlinkRight", "lids"),
        ("eyeLookInLeft", "lids"),
        ("browInnerUpRight", "brows"),
        ("jawOpen", "mouth"),
        ("noseSneerLeft", "mouth"),
    ],
)
def test_signals_stand_in_their_group(signal: str, group: str) -> None:
    assert FILTER_GROUPS[filter_group(signal)] == group


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 200)), min_size=1, max_size=30),
    st.sampled_from(["eyeBlinkLeft", "browDownRight", "jawOpen", "gazePitchRight"]),
)
def test_the_vectorised_filter_is_the_papers(samples: list[tuple[float, int]], signal: str) -> None:
    filters = OneEuro(FilterConfig())
    for region in Camera:
        filters.restart(region, of(signal, 0.25))
    reference = PaperFilter(FilterConfig()[filter_group(signal)], 0.25)
    for value, period_ms in samples:
        filters.advance(of(signal, value), (period_ms / 1000,) * 3)
        expected = reference.step(value, period_ms / 1000)
        assert float(filters.value_S[SIGNALS.index(signal)]) == pytest.approx(expected, abs=2e-5)


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=2, max_size=20))
def test_values_never_leave_the_range_of_what_came(rows: list[list[float]]) -> None:
    filters = OneEuro(FilterConfig())
    for row in rows:
        raw_S = np.resize(np.array(row, np.float32), SIGNAL_COUNT)
        filters.advance(raw_S, (1 / 90,) * 3)
        assert filters.value_S.min() >= 0
        assert filters.value_S.max() <= 1


def test_cameras_may_come_apart() -> None:
    filters, together = OneEuro(FilterConfig()), OneEuro(FilterConfig())
    zero_S, one_S = np.zeros(SIGNAL_COUNT, np.float32), np.ones(SIGNAL_COUNT, np.float32)
    for both in (filters, together):
        for region in Camera:
            both.restart(region, zero_S)
    together.advance(one_S, (1 / 90, 1 / 90, 1 / 30))
    filters.advance(one_S, (1 / 90, 0.0, 0.0))
    assert not filters.value_S[REGION_SIGNALS[Camera.MOUTH]].any()
    filters.advance(one_S, (0.0, 0.0, 1 / 30))
    filters.advance(one_S, (0.0, 1 / 90, 0.0))
    np.testing.assert_array_equal(filters.value_S, together.value_S)


def test_no_time_or_time_that_runs_back_changes_nothing() -> None:
    filters = OneEuro(FilterConfig())
    raw_S = np.linspace(0, 1, SIGNAL_COUNT, dtype=np.float32)
    filters.advance(raw_S, (1 / 90,) * 3)
    before_S = filters.value_S.copy()
    filters.advance(1 - raw_S, (0.0, -0.5, 0.0))
    np.testing.assert_array_equal(filters.value_S, before_S)


@pytest.mark.parametrize("rate_hz", [60, 90, 120])
def test_a_blink_keeps_its_depth_and_is_less_than_half_a_frame_late(rate_hz: int) -> None:
    t_s = np.arange(rate_hz * 2) / rate_hz
    blink = np.interp(t_s, [0, 1, 1.08, 1.12, 1.30, 2], [0, 0, 1, 1, 0, 0])
    answer = run("eyeBlinkLeft", blink, rate_hz)
    assert answer.max() > 0.97
    assert crossing(answer, 0.5, rate_hz) - crossing(blink, 0.5, rate_hz) < 0.5 / rate_hz
    assert answer[t_s > 1.45].max() < 0.03


def test_a_saccade_arrives_within_one_frame() -> None:
    t_s = np.arange(180) / 90
    saccade = 10 * np.clip((t_s - 1) / 0.04, 0, 1)
    answer = run("gazeYawLeft", saccade, 90)
    assert crossing(answer, 5, 90) - crossing(saccade, 5, 90) < 1 / 90
    assert answer[t_s > 1.15].min() > 9.5


@pytest.mark.parametrize(
    ("signal", "noise", "left"),
    [("eyeBlinkLeft", 0.03, 0.75), ("gazeYawLeft", 1.0, 0.65), ("jawOpen", 0.03, 0.7), ("browDownLeft", 0.03, 0.65)],
)
def test_noise_at_rest_is_calmed(signal: str, noise: float, left: float) -> None:
    raw = 0.5 + np.random.default_rng(3).normal(0, noise, 2000)
    answer = run(signal, raw, 90)
    assert answer[50:].std() < left * raw[50:].std()


def test_the_reported_lag_is_that_of_the_cutoff_now() -> None:
    config = FilterConfig()
    filters = OneEuro(config)
    at_rest = [
        1000 / (2 * pi * group.min_cutoff_hz) for group in (config.gaze, config.lids, config.brows, config.mouth)
    ]
    assert filters.lag_ms() == pytest.approx(at_rest)
    for _ in range(3):
        filters.advance(np.ones(SIGNAL_COUNT, np.float32), (0.0, 0.0, 1 / 90))
    gaze, lids, brows, mouth = filters.lag_ms()
    assert (gaze, lids, brows) == pytest.approx(at_rest[:3])
    assert mouth < at_rest[3] / 3


def test_a_restart_forgets_the_speed() -> None:
    filters = OneEuro(FilterConfig())
    filters.advance(np.ones(SIGNAL_COUNT, np.float32), (1 / 90,) * 3)
    for region in Camera:
        filters.restart(region, np.full(SIGNAL_COUNT, 0.3, np.float32))
    assert filters.lag_ms() == pytest.approx(OneEuro(FilterConfig()).lag_ms())
    np.testing.assert_array_equal(filters.value_S, np.float32(0.3))


@pytest.mark.parametrize("wrong", [{"min_cutoff_hz": 0.0}, {"beta": -1.0}, {"slope_cutoff_hz": float("nan")}])
def test_constants_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GroupFilter(**({"min_cutoff_hz": 1.0, "beta": 0.0, "slope_cutoff_hz": 1.0} | wrong))
