"""Losses: one for each task, by hand."""

from dataclasses import replace

import pytest
import torch

from model_export.batches import Batch
from model_export.losses import TASK_NAMES, ignorant_losses, losses, points_loss
from model_export.network import Outputs
from model_export.points import EYE_POINTS, MOUTH_POINTS

EYES, MOUTHS = 2, 3


@pytest.fixture
def batch() -> Batch:
    return Batch(
        eye_pixels_BHW=torch.zeros(EYES, 128, 128, dtype=torch.uint8),
        eye_values_BE=torch.full((EYES, 12), 0.5),
        eye_gaze_BO=torch.zeros(EYES, 2),
        eye_intact_B=torch.ones(EYES),
        mouth_pixels_BHW=torch.zeros(MOUTHS, 128, 128, dtype=torch.uint8),
        mouth_values_BE=torch.full((MOUTHS, 32), 0.5),
        mouth_intact_B=torch.ones(MOUTHS),
        eye_points_BK4=torch.zeros(EYES, EYE_POINTS, 4),
        mouth_points_BK4=torch.zeros(MOUTHS, MOUTH_POINTS, 4),
        eye_rests_RHW=torch.zeros(1, 128, 128, dtype=torch.uint8),
        eye_of_rests_BR=torch.zeros(EYES, 1),
        eye_of_crops_BB=torch.zeros(EYES, EYES),
        mouth_rests_RHW=torch.zeros(1, 128, 128, dtype=torch.uint8),
        mouth_of_rests_BR=torch.zeros(MOUTHS, 1),
        mouth_of_crops_BB=torch.zeros(MOUTHS, MOUTHS),
    )


def outputs(eye: float = 0.5, mouth: float = 0.5) -> Outputs:
    eye_BO, mouth_BO = torch.full((EYES, 15), eye), torch.full((MOUTHS, 33), mouth)
    eye_BO[:, 12:14] = 0.0
    return Outputs(eye_BO, mouth_BO, torch.zeros(EYES, EYE_POINTS, 4), torch.zeros(MOUTHS, MOUTH_POINTS, 4))


def task(losses_E: torch.Tensor, name: str) -> float:
    return float(losses_E[TASK_NAMES.index(name)])


def test_there_is_one_loss_for_each_task(batch: Batch) -> None:
    assert losses(outputs(), batch).shape == (len(TASK_NAMES),) == (47,)


def test_an_eu_has_its_mean_squared_error(batch: Batch) -> None:
    found = losses(outputs(eye=0.9, mouth=0.3), batch)
    assert task(found, "eyeBlink") == pytest.approx(0.16)
    assert task(found, "jawOpen") == pytest.approx(0.04)


def test_spoiled_crops_teach_only_confidence(batch: Batch) -> None:
    found = outputs()
    found.mouth_BO[0, :32] = 7.0
    batch = replace(batch, mouth_intact_B=torch.tensor([0.0, 1.0, 1.0]))
    found_E = losses(found, batch)
    assert task(found_E, "jawOpen") == pytest.approx(0.0)
    assert task(found_E, "mouthConfidence") > task(
        losses(found, replace(batch, mouth_intact_B=torch.ones(3))), "mouthConfidence"
    )


def test_a_batch_of_spoiled_crops_only_stays_finite(batch: Batch) -> None:
    batch = replace(batch, eye_intact_B=torch.zeros(EYES), mouth_intact_B=torch.zeros(MOUTHS))
    assert losses(outputs(), batch).isfinite().all()


def test_beyond_the_range_an_error_counts_a_tenth(batch: Batch) -> None:
    found = outputs(mouth=-0.5)
    batch = replace(batch, mouth_values_BE=torch.zeros(MOUTHS, 32))
    assert task(losses(found, batch), "jawOpen") == pytest.approx((0.1 * 0.5) ** 2)


def test_gaze_counts_as_far_as_the_eye_is_open(batch: Batch) -> None:
    found = outputs()
    found.eye_BO[0, 12] = 4.0  # degrees off: Huber below its corner is half the square, over two numbers
    values_BE = batch.eye_values_BE.clone()
    values_BE[:, 0] = torch.tensor([0.0, 0.0])
    both = task(losses(found, replace(batch, eye_values_BE=values_BE)), "gaze")
    assert both == pytest.approx(0.5 * 0.4**2 / 2 / 2)
    values_BE[0, 0] = 1.0
    assert task(losses(found, replace(batch, eye_values_BE=values_BE)), "gaze") == pytest.approx(0.0)


def test_confidence_has_its_cross_entropy(batch: Batch) -> None:
    found = outputs()
    found.eye_BO[:, -1] = 0.0
    assert task(losses(found, batch), "eyeConfidence") == pytest.approx(0.6931, abs=1e-3)


def test_points_outside_of_a_crop_and_of_spoiled_crops_do_not_count(batch: Batch) -> None:
    assert float(points_loss(outputs(), batch)) == 0.0
    points_BK4 = batch.mouth_points_BK4.clone()
    points_BK4[0, 0, 0] = 1.0  # 1 px of 2: Huber .5 * .5 ** 2, over four numbers, 48 points and three crops
    seen = float(points_loss(outputs(), replace(batch, mouth_points_BK4=points_BK4)))
    assert seen == pytest.approx(0.125 / 4 / (MOUTH_POINTS * MOUTHS))
    spoiled = replace(batch, mouth_points_BK4=points_BK4, mouth_intact_B=torch.tensor([0.0, 1.0, 1.0]))
    assert float(points_loss(outputs(), spoiled)) == 0.0
    points_BK4[0, 0, 0] = 70.0
    assert float(points_loss(outputs(), replace(batch, mouth_points_BK4=points_BK4))) == 0.0


def test_who_knows_nothing_loses_the_variance(batch: Batch) -> None:
    values_BE = batch.mouth_values_BE.clone()
    values_BE[:, 0] = torch.tensor([0.2, 0.5, 0.8])
    found = ignorant_losses(replace(batch, mouth_values_BE=values_BE))
    assert task(found, "jawOpen") == pytest.approx(0.06)
    assert task(found, "jawForward") == pytest.approx(0.0)
    assert found.isfinite().all()
