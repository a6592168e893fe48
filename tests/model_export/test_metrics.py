"""Metrics against hand-computed values, numpy, and the textbook example."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.metrics import icc31, pearson, rmse


def column(*values: float) -> NDArray[Any]:
    return np.array(values, np.float64)[:, None]


def test_rmse_by_hand() -> None:
    assert rmse(column(0, 0, 3), column(0, 4, 3)) == pytest.approx([np.sqrt(16 / 3)])


def test_pearson_by_hand() -> None:
    # x - mean = (-1, 0, 1), y - mean = (-2, 1, 1): 3 / sqrt(2 * 6)
    assert pearson(column(1, 2, 3), column(0, 3, 3)) == pytest.approx([3 / np.sqrt(12)])


def test_pearson_agrees_with_numpy() -> None:
    rng = np.random.default_rng(3)
    x_TE, y_TE = rng.random((50, 4)), rng.random((50, 4))
    expected = [np.corrcoef(x_TE[:, e], y_TE[:, e])[0, 1] for e in range(4)]
    np.testing.assert_allclose(pearson(x_TE, y_TE), expected, atol=1e-12)


def test_pearson_of_an_estimate_that_never_moves_is_zero() -> None:
    assert pearson(column(2, 2, 2), column(0, 1, 2)) == pytest.approx([0.0])


def test_pearson_of_a_truth_that_never_moves_is_unknown() -> None:
    assert np.isnan(pearson(column(0, 1, 2), column(2, 2, 2))).all()


def test_icc31_by_hand() -> None:
    # targets 1, 2, 3 against 1, 2, 6: BMS 6.5, residual mean square 1.5 -> (6.5 - 1.5) / (6.5 + 1.5)
    assert icc31(column(1, 2, 3), column(1, 2, 6)) == pytest.approx([5 / 8])


def test_icc31_ignores_an_offset_but_not_a_gain() -> None:
    truth_TE = column(0, 0.3, 0.5, 1.0)
    assert icc31(truth_TE + 0.2, truth_TE) == pytest.approx([1.0])
    # gain g: 2g / (1 + g^2), since BMS ~ (1 + g)^2 / 2 and EMS ~ (1 - g)^2 / 2
    assert icc31(0.5 * truth_TE, truth_TE) == pytest.approx([0.8])


def test_icc31_agrees_with_the_two_way_table() -> None:
    # judges 1 and 4 of Table 2 in Shrout & Fleiss 1979, sums of squares taken apart as in their Table 3
    judge_1, judge_4 = column(9, 6, 8, 7, 10, 6), column(6, 2, 6, 3, 9, 4)
    ratings = np.hstack([judge_1, judge_4])
    between = 2 * ratings.mean(1).var(ddof=1)
    raters = 6 * ratings.mean(0).var(ddof=1)
    error = ((ratings - ratings.mean()) ** 2).sum() - 5 * between - raters
    expected = (between - error / 5) / (between + error / 5)
    assert icc31(judge_1, judge_4) == pytest.approx([expected])


@pytest.mark.parametrize("metric", [rmse, pearson, icc31])
def test_shapes_that_do_not_agree_are_refused(metric: Any) -> None:
    with pytest.raises(ValueError, match="same shape"):
        metric(np.zeros((3, 2)), np.zeros((2, 3)))
