"""Calibration of the confidence, by hand."""

import numpy as np
import pytest

from model_export.confidence import confidence_figures, reliability

CONFIDENCE = np.array([0.95, 0.95, 0.95, 0.85, 0.05, 0.05], np.float32)
INTACT = np.array([True, True, False, True, False, True])


def test_the_reliability_diagram_counts_each_crop_once() -> None:
    bins = reliability(CONFIDENCE, INTACT)
    assert [row["crops"] for row in bins] == [2, 1, 3]
    assert [row["confidence"] for row in bins] == pytest.approx([0.05, 0.85, 0.95], abs=1e-4)
    assert [row["intact_share"] for row in bins] == pytest.approx([0.5, 1.0, 2 / 3], abs=1e-4)


def test_expected_calibration_error_is_the_mean_gap_weighted_by_crops() -> None:
    figures = confidence_figures(CONFIDENCE, INTACT)
    by_hand = (2 * 0.45 + 1 * 0.15 + 3 * (0.95 - 2 / 3)) / 6
    assert figures["expected_calibration_error"] == pytest.approx(by_hand, abs=2e-4)
    assert figures["confidence_right_share"] == pytest.approx(4 / 6, abs=1e-4)


def test_a_confidence_that_is_always_right_has_no_error() -> None:
    sure = np.array([0.0, 1.0, 1.0, 0.0], np.float32)
    assert confidence_figures(sure, sure > 0.5)["expected_calibration_error"] == 0.0


def test_figures_of_crops_that_are_all_intact_leave_out_what_does_not_exist() -> None:
    assert confidence_figures(np.array([0.9], np.float32), np.array([True]))["confidence_of_spoiled"] is None
