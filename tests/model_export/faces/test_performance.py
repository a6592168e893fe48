import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_COUNT, EU_INDEX, EU_NAMES
from model_export.faces.performance import (
    HARD_PAIRS,
    Movement,
    activity,
    evaluate,
    minimum_jerk,
    perform,
)
from model_export.faces.sample import story


@pytest.fixture(scope="module")
def values_TE() -> NDArray[np.float32]:  # noqa: N802 - axes stand in names (CONVENTIONS 10)
    """What 600 fittings of a training set would perform."""
    times = 0.35 * np.arange(12, dtype=np.float64)
    return np.concatenate([perform(np.random.default_rng([0, seed]), times) for seed in range(600)])


def columns(name: str) -> list[int]:
    return [EU_INDEX[name]] if name in EU_INDEX else [EU_INDEX[f"{name}Left"], EU_INDEX[f"{name}Right"]]


def test_every_unit_is_active_in_at_least_15_percent_of_frames(values_TE: NDArray[np.float32]) -> None:
    rare = {name: share for name, share in activity(values_TE).items() if share < 0.15}
    assert not rare


def test_every_unit_is_active_together_with_others(values_TE: NDArray[np.float32]) -> None:
    active = values_TE > 0.1
    for index, name in enumerate(EU_NAMES):
        others = active[active[:, index]].sum(axis=1) - 1
        assert (others >= 2).mean() > 0.5, name


def test_values_are_shares_of_the_range(values_TE: NDArray[np.float32]) -> None:
    assert values_TE.dtype == np.float32
    assert values_TE.shape[1] == EU_COUNT
    assert values_TE.min() >= 0.0
    assert values_TE.max() <= 1.0


@pytest.mark.parametrize(("first", "second"), HARD_PAIRS)
def test_units_that_look_alike_come_alone_and_together(values_TE: NDArray[np.float32], first: str, second: str) -> None:
    one = values_TE[:, columns(first)[0]] > 0.3
    other = values_TE[:, columns(second)[0]] > 0.3
    together, alone, other_alone = (one & other).sum(), (one & ~other).sum(), (other & ~one).sum()
    assert min(together, alone, other_alone) >= 25, (together, alone, other_alone)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("eyeLookInLeft", "eyeLookOutLeft"),
        ("eyeLookUpRight", "eyeLookDownRight"),
        ("jawLeft", "jawRight"),
        ("mouthLeft", "mouthRight"),
    ],
)
def test_what_excludes_each_other_never_comes_together(values_TE: NDArray[np.float32], first: str, second: str) -> None:
    assert (np.minimum(values_TE[:, EU_INDEX[first]], values_TE[:, EU_INDEX[second]]) == 0.0).all()


def test_lips_never_close_further_than_the_jaw_is_open(values_TE: NDArray[np.float32]) -> None:
    assert (values_TE[:, EU_INDEX["mouthClose"]] <= values_TE[:, EU_INDEX["jawOpen"]]).all()


def test_both_eyes_look_the_same_way_but_for_vergence(values_TE: NDArray[np.float32]) -> None:
    left = values_TE[:, EU_INDEX["eyeLookOutLeft"]] - values_TE[:, EU_INDEX["eyeLookInLeft"]]
    right = values_TE[:, EU_INDEX["eyeLookInRight"]] - values_TE[:, EU_INDEX["eyeLookOutRight"]]
    assert np.corrcoef(left, right)[0, 1] > 0.9
    assert (right - left >= -1e-6).all()  # eyes converge, never diverge


def test_minimum_jerk_is_smooth_at_both_ends() -> None:
    share = np.linspace(-0.5, 1.5, 2001)
    ramp = minimum_jerk(share)
    assert ramp[0] == 0.0
    assert ramp[-1] == 1.0
    assert minimum_jerk(np.array([0.5]))[0] == pytest.approx(0.5)
    velocity = np.gradient(ramp, share)
    assert velocity.max() == pytest.approx(1.875, abs=1e-3)  # 15/8, as the polynomial's derivative at one half
    assert np.abs(np.gradient(velocity, share)).max() < 6.0


def test_a_movement_rises_stays_and_comes_back() -> None:
    movement = Movement((EU_INDEX["jawOpen"],), (0.8,), start_s=1.0, onset_s=0.5, apex_s=1.0, offset_s=0.4)
    values = evaluate([movement], np.array([0.9, 1.25, 1.6, 2.4, 2.7, 3.0]))[:, EU_INDEX["jawOpen"]]
    np.testing.assert_allclose(values, [0.0, 0.4, 0.8, 0.8, 0.4, 0.0], atol=1e-9)


def test_blinks_last_100_to_300_ms_as_often_as_not() -> None:
    times = 0.005 * np.arange(4000, dtype=np.float64)
    lengths = []
    for seed in range(12):
        closed = perform(np.random.default_rng(seed), times)[:, EU_INDEX["eyeBlinkLeft"]] > 0.05
        edges = np.flatnonzero(np.diff(np.concatenate([[0], closed.astype(int), [0]])))
        lengths += (0.005 * (edges[1::2] - edges[::2])).tolist()
    assert sum(0.08 <= length <= 0.32 for length in lengths) > 0.3 * len(lengths)


def test_a_performance_depends_on_its_seed_alone() -> None:
    times = 0.35 * np.arange(12, dtype=np.float64)
    again = [perform(np.random.default_rng(5), times) for _ in range(2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert not np.array_equal(again[0], perform(np.random.default_rng(6), times))


def test_the_sample_is_a_seamless_loop_that_starts_at_rest() -> None:
    values = story(90.0, 4.0)
    assert values.shape == (360, EU_COUNT)
    moving = [index for index, name in enumerate(EU_NAMES) if not name.startswith("pupilDilate")]
    assert values[[0, -1]][:, moving].max() < 0.02
    assert np.abs(values[0] - values[-1]).max() < 0.02
    lively = {name for name, top in zip(EU_NAMES, values.max(axis=0), strict=True) if top > 0.5}
    assert lively >= {
        "eyeBlinkLeft",
        "jawOpen",
        "mouthSmileLeft",
        "browInnerUpRight",
        "mouthPucker",
        "tongueOut",
        "eyeLookOutLeft",
    }
