"""Whether confidence means what it says: crops that can be read and spoiled ones, told apart and calibrated.

Axes: T frame, 3 camera, N crop, H W image.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.augment import AugmentConfig, augment
from model_export.contract import Bundle
from model_export.data import Shard
from model_export.estimates import estimate
from model_export.metrics import number

BINS: Final = 10
"""Of equal width, from 0 to 1."""
_SPOILED: Final = AugmentConfig(spoiled=0.5)


def spoiled_answers(
    bundle: Bundle, shards: Sequence[Shard], picks: Sequence[NDArray[np.int_]], most: int = 400
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Confidences of about three times `most` crops, half of them spoiled (augment.py), and which ones can be read."""
    rng = np.random.default_rng(11)
    rows: list[list[NDArray[np.uint8]]] = [[], [], []]
    intact: list[list[bool]] = []
    for shard, pick in zip(shards, picks, strict=True):
        for t in pick[:: max(1, len(shards) * len(pick) // most)]:
            crops = (shard.left_eye_THW[t], shard.right_eye_THW[t], shard.mouth_THW[t])
            changed = [augment(crop_HW, rng, _SPOILED, mirrored=False) for crop_HW in crops]
            intact.append([crop.intact for crop in changed])
            for row, crop in zip(rows, changed, strict=True):
                row.append(crop.pixels_HW)
    left_THW, right_THW, mouth_THW = (np.stack(row) for row in rows)
    confidence_T3 = estimate(bundle, left_THW, right_THW, mouth_THW).confidence_T3
    return confidence_T3.ravel(), np.array(intact).ravel()


def reliability(confidence_N: NDArray[np.float32], intact_N: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The reliability diagram: for each bin that holds a crop its mean confidence, the share that can be read, the count."""
    bin_N = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": number(confidence_N[bin_N == k].mean()),
            "intact_share": number(intact_N[bin_N == k].mean()),
            "crops": int((bin_N == k).sum()),
        }
        for k in range(BINS)
        if (bin_N == k).any()
    ]


def confidence_figures(confidence_N: NDArray[np.float32], intact_N: NDArray[np.bool_]) -> dict[str, float | None]:
    """Share told apart at 0.5, means, and the expected calibration error.

    ECE = sum over bins of (crops in it / all crops) |share that can be read - mean confidence|, Guo et al. 2017, equation 3.
    """
    bins = reliability(confidence_N, intact_N)
    gaps = [row["crops"] * abs(row["intact_share"] - row["confidence"]) for row in bins]
    return {
        "confidence_right_share": number(np.mean((confidence_N >= 0.5) == intact_N)),
        "confidence_of_intact": number(confidence_N[intact_N].mean()) if intact_N.any() else None,
        "confidence_of_spoiled": number(confidence_N[~intact_N].mean()) if not intact_N.all() else None,
        "expected_calibration_error": number(sum(gaps) / len(confidence_N)),
    }
