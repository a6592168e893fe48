"""How well estimates follow the truth, one figure for each column.

Axes: T frame, E expression unit (any column).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _pair(estimates_TE: NDArray[np.floating], truth_TE: NDArray[np.floating]) -> tuple[Array, Array]:
    if estimates_TE.shape != truth_TE.shape or estimates_TE.ndim != 2 or len(estimates_TE) < 2:
        raise ValueError(
            f"Estimates and truth should have the same shape [T, E] with T of 2 or more. "
            f"Found {list(estimates_TE.shape)} and {list(truth_TE.shape)}."
        )
    return estimates_TE.astype(np.float64), truth_TE.astype(np.float64)


def rmse(estimates_TE: NDArray[np.floating], truth_TE: NDArray[np.floating]) -> Array:
    """Root of the mean squared error of each column."""
    estimates_TE, truth_TE = _pair(estimates_TE, truth_TE)
    return np.asarray(np.sqrt(np.mean((estimates_TE - truth_TE) ** 2, axis=0)))


def pearson(estimates_TE: NDArray[np.floating], truth_TE: NDArray[np.floating]) -> Array:
    """Pearson's r of each column; 0 where the estimates never move, NaN where the truth never does.

    r = sum((x - mean x)(y - mean y)) / sqrt(sum((x - mean x)^2) sum((y - mean y)^2)).
    """
    estimates_TE, truth_TE = _pair(estimates_TE, truth_TE)
    x_TE = estimates_TE - estimates_TE.mean(0)
    y_TE = truth_TE - truth_TE.mean(0)
    spread_E, truth_spread_E = (x_TE**2).sum(0), (y_TE**2).sum(0)
    product_E = np.sqrt(spread_E * truth_spread_E)
    r_E = np.divide((x_TE * y_TE).sum(0), product_E, out=np.zeros_like(product_E), where=product_E > 1e-12)
    return np.where(truth_spread_E > 1e-12, r_E, np.nan)


def icc31(estimates_TE: NDArray[np.floating], truth_TE: NDArray[np.floating]) -> Array:
    """Intraclass correlation ICC(3,1) of each column, with the estimator and the truth as the k = 2 fixed raters.

    ICC(3,1) = (BMS - EMS) / (BMS + (k - 1) EMS), Shrout & Fleiss 1979 (Psychological Bulletin 86, p. 423), where over
    n targets (frames) BMS is the mean square between targets, n - 1 degrees of freedom, and EMS the residual mean square
    of the two-way layout, (n - 1)(k - 1). A constant offset between the raters costs nothing, a wrong gain does.
    NaN where neither ever moves.
    """
    estimates_TE, truth_TE = _pair(estimates_TE, truth_TE)
    ratings_2TE = np.stack([estimates_TE, truth_TE])
    count = len(truth_TE)
    target_TE, rater_2E, grand_E = ratings_2TE.mean(0), ratings_2TE.mean(1), ratings_2TE.mean((0, 1))
    between_E = 2 * ((target_TE - grand_E) ** 2).sum(0) / (count - 1)
    residual_2TE = ratings_2TE - target_TE - rater_2E[:, None] + grand_E
    error_E = (residual_2TE**2).sum((0, 1)) / (count - 1)
    total_E = between_E + error_E
    icc_E: Array = np.full_like(total_E, np.nan)
    np.divide(between_E - error_E, total_E, out=icc_E, where=total_E > 1e-12)
    return icc_E


def number(value: float | np.floating) -> float | None:
    """A figure rounded for JSON; None for what does not exist, which JSON's NaN would not survive."""
    return round(float(value), 4) if np.isfinite(value) else None
