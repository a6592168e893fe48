"""Templates, whitening and isotonic regression against hand-computed values and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from calibration.activation import (
    APPEARANCE_WEIGHT,
    bridge,
    divide,
    find_course,
    monotone,
    otsu,
    principal,
    region,
    smooth,
    timetable,
    weighted,
    whitening,
)
from calibration.movement import FEATURES
from model_export.contract.cues import cue_by_name
from model_export.contract.frames import Camera

RNG = np.random.default_rng(4)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-5, 5)))
def test_monotone_agrees_with_scipy(values_T: NDArray[np.float64]) -> None:
    assert monotone(values_T) == pytest.approx(isotonic_regression(values_T).x, abs=1e-9)


def test_monotone_pools_by_hand() -> None:
    assert monotone(np.array([1.0, 3.0, 2.0, 4.0])).tolist() == [1.0, 2.5, 2.5, 4.0]
    assert monotone(np.array([3.0, 1.0]), np.array([3.0, 1.0])).tolist() == [2.5, 2.5]


def test_otsu_parts_two_clusters() -> None:
    values_T = np.concatenate([np.zeros(30), np.ones(20)])
    assert 0.0 <= otsu(values_T) < 1.0
    rest_T, apex_T = divide(values_T, np.ones(50, bool))
    assert (rest_T.sum(), apex_T.sum()) == (30, 20)


def test_frames_that_are_all_alike_have_no_apex() -> None:
    rest_T, apex_T = divide(np.zeros(20), np.ones(20, bool))
    assert rest_T.all()
    assert not apex_T.any()


def test_whitening_is_the_inverse_square_root_of_the_nuisances_and_noise() -> None:
    inside_F = np.zeros(FEATURES, bool)
    inside_F[:5] = True
    nuisance_NF = np.zeros((2, FEATURES))
    nuisance_NF[:, :5] = RNG.normal(size=(2, 5)) * 4
    covariance_FF = np.eye(5) + nuisance_NF[:, :5].T @ nuisance_NF[:, :5] / 2.0
    power, turn = np.linalg.eigh(covariance_FF)
    features_TF = np.zeros((3, FEATURES))
    features_TF[:, :5] = RNG.normal(size=(3, 5))
    expected = features_TF[:, :5] @ (turn / np.sqrt(power)) @ turn.T
    assert whitening(nuisance_NF, inside_F, 2.0)(features_TF)[:, :5] == pytest.approx(expected)


def test_without_nuisances_whitening_changes_nothing() -> None:
    features_TF = RNG.normal(size=(3, FEATURES))
    assert (whitening(np.zeros((0, FEATURES)), np.ones(FEATURES, bool))(features_TF) == features_TF).all()


def test_principal_vectors_are_those_of_an_svd() -> None:
    rows_NF = RNG.normal(size=(4, 30))
    size_N, basis_NF = principal(rows_NF)
    _, expected_N, expected_NF = np.linalg.svd(rows_NF, full_matrices=False)
    assert size_N == pytest.approx(expected_N)
    assert np.abs((basis_NF * expected_NF).sum(axis=1)) == pytest.approx(np.ones(4))


def test_a_course_is_found_beneath_a_stronger_nuisance() -> None:
    rng, frames = np.random.default_rng(3), 90
    truth_T = np.clip(np.sin(np.arange(frames) / frames * 4 * np.pi - 0.5) * 2, 0, 1)
    template_F, glance_F = np.zeros(FEATURES), np.zeros(FEATURES)
    template_F[:60] = rng.normal(size=60) * 2
    glance_F[:60] = rng.normal(size=60) * 6
    glance_T = np.repeat([1.0, -1.0, 0.3], 30)
    features_TF = np.outer(truth_T, template_F) + np.outer(glance_T, glance_F)
    features_TF += rng.normal(size=features_TF.shape) * 0.2
    inside_F, good_T = np.ones(FEATURES, bool), np.ones(frames, bool)
    start_T = timetable(cue_by_name("smile"), frames)
    blind = find_course(features_TF, good_T, inside_F, whitening(np.zeros((0, FEATURES)), inside_F), start_T, 30.0)
    clean = find_course(features_TF, good_T, inside_F, whitening(glance_F[None], inside_F), start_T, 30.0)
    assert np.corrcoef(clean.activation_T, truth_T)[0, 1] > 0.98
    assert np.corrcoef(blind.activation_T, truth_T)[0, 1] < 0.9


def test_a_take_in_which_nothing_changes_has_no_strength() -> None:
    features_TF = np.ones((30, FEATURES))
    course = find_course(
        features_TF,
        np.ones(30, bool),
        np.ones(FEATURES, bool),
        whitening(np.zeros((0, FEATURES)), np.ones(FEATURES, bool)),
        timetable(cue_by_name("smile"), 30),
        30.0,
    )
    assert course.strength == pytest.approx(0.0, abs=1e-6)
    assert not course.activation_T.any()


def test_the_timetable_asks_twice() -> None:
    asked_T = timetable(cue_by_name("smile"), 90)
    assert asked_T[22] == asked_T[67] == 1.0
    assert asked_T[0] == asked_T[45] == 0.0


def test_gaps_are_bridged_and_smoothing_keeps_level_and_length() -> None:
    good_T = np.array([True, False, False, True])
    assert bridge(np.array([0.0, 9.0, 9.0, 3.0]), good_T).tolist() == [0.0, 1.0, 2.0, 3.0]
    for rate_hz in (10.0, 30.0, 120.0):
        assert smooth(np.full(12, 2.0), rate_hz) == pytest.approx(np.full(12, 2.0))


def test_regions_and_weights() -> None:
    left, right = region("smile", Camera.MOUTH, "Left"), region("smile", Camera.MOUTH, "Right")
    assert (left | right).all()
    assert left.sum() == right.sum() < FEATURES
    # the wearer's left is on the picture's right
    assert left[512:].reshape(16, 16)[:, 15].all()
    assert not left[512:].reshape(16, 16)[:, 0].any()
    assert not region("brows_up", Camera.LEFT_EYE)[512:].reshape(16, 16)[8:].any()
    scaled = weighted(np.ones((1, FEATURES), np.float32))
    assert scaled[0, 0] == 1.0
    assert scaled[0, -1] == APPEARANCE_WEIGHT
