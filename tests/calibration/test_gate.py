"""The gate: heads composed output by output, and what held-out frames may let through."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.gate import OUTPUT_NAMES, GateConfig, compose, judge
from calibration.material import Material
from model_export.contract import FEATURE_COUNT, Camera, HeadError, RegionHead
from tests.bundles import make_region_head

MOUTH = len(OUTPUT_NAMES[Camera.MOUTH])


def features(count: int = 50) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(0.5, 1.0, (count, FEATURE_COUNT)).astype(np.float32)


def other_head(camera: Camera = Camera.MOUTH, seed: int = 7) -> RegionHead:
    return make_region_head(camera, seed, adapter=5)


def material(targets_TO: NDArray[np.float32], unit: int = 10) -> Material:
    count, outputs = targets_TO.shape
    ones_TO = np.ones((count, outputs), np.float32)
    ones_TO[:, -1] = 0
    unit_T = (np.arange(count) // unit).astype(np.int32)
    return Material(
        Camera.MOUTH,
        np.zeros((count, FEATURE_COUNT), np.float32),
        targets_TO,
        ones_TO / count,
        ones_TO,
        np.ones(outputs, bool),
        unit_T,
        (unit_T % 2).astype(np.int32),
    )


@pytest.mark.parametrize("camera", list(Camera))
@pytest.mark.parametrize("seed", range(4))
def test_a_composed_head_answers_as_its_parts_output_by_output(camera: Camera, seed: int) -> None:
    old, new = make_region_head(camera, 0), other_head(camera)
    new_O = np.random.default_rng(seed).random(old.bias_O.size) < 0.5
    found_TO = compose(old, new, new_O).apply(features())
    expected_TO = np.where(new_O, new.apply(features()), old.apply(features()))
    np.testing.assert_allclose(found_TO, expected_TO, rtol=0, atol=2e-4)


@pytest.mark.parametrize("reading", [(True, True), (True, False), (False, True)])
def test_what_is_read_of_the_map_comes_with_its_output(reading: tuple[bool, bool]) -> None:
    old, new = (make_region_head(Camera.MOUTH, seed, reads_map=reads) for seed, reads in enumerate(reading))
    new_O = np.random.default_rng(1).random(MOUTH) < 0.5
    found_TO = compose(old, new, new_O).apply(features())
    expected_TO = np.where(new_O, new.apply(features()), old.apply(features()))
    np.testing.assert_allclose(found_TO, expected_TO, rtol=0, atol=5e-4)


def test_all_or_nothing_is_one_of_the_two_heads_itself() -> None:
    old, new = make_region_head(Camera.MOUTH), other_head()
    assert compose(old, new, np.zeros(MOUTH, bool)) is old
    assert compose(old, new, np.ones(MOUTH, bool)) is new


def test_equal_adapters_are_not_kept_twice() -> None:
    old = make_region_head(Camera.MOUTH)
    new = replace(old, weight_FO=(old.weight_FO * np.float32(1.5)))
    new_O = np.arange(MOUTH) % 2 == 0
    composed = compose(old, new, new_O)
    assert composed.down_bias_A.size == old.down_bias_A.size
    again = compose(composed, old, new_O)
    assert again.down_bias_A.size == old.down_bias_A.size
    np.testing.assert_allclose(again.apply(features()), old.apply(features()), rtol=0, atol=5e-4)


def test_heads_whose_outputs_depend_on_each_other_are_not_composed() -> None:
    old, new = make_region_head(Camera.MOUTH), other_head()
    weight_FO = new.weight_FO.copy()
    weight_FO[:, 1] = old.weight_FO[:, 0]
    with pytest.raises(HeadError, match="depend on each other"):
        compose(old, replace(new, weight_FO=weight_FO), np.arange(MOUTH) == 1)


def test_errors_are_confidence_weighted_and_clipped() -> None:
    targets_TO = np.zeros((4, MOUTH), np.float32)
    targets_TO[:, 0] = (0.0, 0.5, 1.0, 1.0)
    judged = material(targets_TO, unit=2)
    judged.known_TO[:, 0] = (1.0, 1.0, 0.5, 0.0)
    before_TO, after_TO = targets_TO.copy(), targets_TO.copy()
    before_TO[:, 0] = (-3.0, 0.7, 0.6, 0.0)  # errors 0, 0.2, -0.4 and one that does not count
    after_TO[:, 0] = (0.0, 0.6, 7.0, 0.0)  # 0, 0.1, 0
    verdict = judge(judged, before_TO, after_TO, GateConfig(moving_share=0.0))[0]
    assert verdict.before == pytest.approx(((0.2**2 + 0.5 * 0.4**2) / 2.5) ** 0.5)
    assert verdict.after == pytest.approx((0.1**2 / 2.5) ** 0.5)
    assert (verdict.repetitions, verdict.improved, verdict.better) == (2, 2, True)


def test_what_is_worse_or_as_good_or_hardly_better_is_not_let_through() -> None:
    random = np.random.default_rng(0)
    targets_TO = random.random((60, MOUTH)).astype(np.float32)
    error_TO = random.normal(0, 0.1, targets_TO.shape).astype(np.float32)
    factors_O = np.linspace(0.0, 2.0, MOUTH, dtype=np.float32)
    before_TO, after_TO = targets_TO + error_TO, targets_TO + error_TO * factors_O
    for factor, verdict in zip(factors_O, judge(material(targets_TO), before_TO, after_TO)[:-1], strict=False):
        assert verdict.better == (factor < 0.95), factor
        if verdict.better:
            assert verdict.after is not None
            assert verdict.before is not None
            assert verdict.after < verdict.before


def test_a_head_that_only_learned_to_be_still_does_not_pass() -> None:
    targets_TO = np.zeros((100, MOUTH), np.float32)
    targets_TO[[3, 4, 53, 54], 0] = 0.8  # moves in 4 frames of 100
    before_TO, after_TO = targets_TO + np.float32(0.1), np.zeros_like(targets_TO)
    assert judge(material(targets_TO), before_TO, after_TO, GateConfig(moving_share=0.0, share=0.0))[0].after == (
        pytest.approx(0.16)
    )
    verdict = judge(material(targets_TO), before_TO, after_TO)[0]
    assert verdict.after == pytest.approx((0.35 * 0.8**2) ** 0.5)
    assert not verdict.better


def test_an_output_that_no_take_asked_for_keeps_the_old_head() -> None:
    targets_TO = np.full((40, MOUTH), 0.5, np.float32)
    judged = material(targets_TO)
    judged.asked_O[:5] = False
    verdicts = judge(judged, targets_TO + 0.2, targets_TO)
    assert [verdict.better for verdict in verdicts[:7]] == [False] * 5 + [True] * 2


def test_one_good_repetition_does_not_outweigh_several_bad_ones() -> None:
    targets_TO = np.zeros((50, MOUTH), np.float32)
    targets_TO[:, 0] = 0.8
    before_TO, after_TO = targets_TO.copy(), targets_TO.copy()
    before_TO[:10, 0], after_TO[:10, 0] = 0.0, 0.8  # far better once
    before_TO[10:, 0], after_TO[10:, 0] = 0.75, 0.7  # a little worse four times
    verdict = judge(material(targets_TO), before_TO, after_TO)[0]
    assert verdict.after is not None
    assert verdict.before is not None
    assert verdict.after < verdict.before
    assert (verdict.repetitions, verdict.improved, verdict.better) == (5, 1, False)


def test_an_output_that_never_moves_or_is_unknown_keeps_the_old_head() -> None:
    targets_TO = np.zeros((40, MOUTH), np.float32)
    judged = material(targets_TO)
    judged.known_TO[:, 1] = 0
    verdicts = judge(judged, targets_TO + 0.3, targets_TO)
    assert not any(verdict.better for verdict in verdicts)
    assert verdicts[0].before == pytest.approx(0.3)
    assert verdicts[1].before is None


def test_confidence_is_never_judged() -> None:
    targets_TO = np.ones((40, MOUTH), np.float32)
    verdict = judge(material(targets_TO), targets_TO - 0.5, targets_TO)[-1]
    assert (verdict.name, verdict.before, verdict.better) == ("confidence", None, False)


def test_frames_that_every_fit_saw_do_not_count() -> None:
    targets_TO = np.full((40, MOUTH), 0.5, np.float32)
    after_TO = targets_TO.copy()
    after_TO[:20] = np.nan
    verdict = judge(material(targets_TO), targets_TO + 0.2, after_TO)[0]
    assert verdict.repetitions == 2


@pytest.mark.parametrize(
    ("name", "value"), [("margin", 1.0), ("share", 1.5), ("moving_share", -0.1), ("least_moving", 0)]
)
def test_a_gate_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(GateConfig(), **{name: value})  # type: ignore[arg-type]  # the wrong values are the point
