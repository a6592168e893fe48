"""The tasks of training and one loss for each.

Axes: B crops, E expression unit, O head output, K point of the face.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from model_export.batches import Batch
from model_export.contract import CROP_SIZE_PX, EYE_MOVEMENTS, MOUTH_EUS
from model_export.network import EYE_EU_COUNT, GAZE_SCALE_DEG, MOUTH_EU_COUNT, Outputs

TASK_NAMES: Final = (*EYE_MOVEMENTS, "gaze", "eyeConfidence", *MOUTH_EUS, "mouthConfidence")
"""One loss each, in this order; both eyes share a task, because they share the network."""

BEYOND_WEIGHT: Final = 0.1
"""Share of an error that counts where the target is 0 (or 1) and the output lies beyond it: it is clipped when served."""


POINT_UNIT_PX: Final = 2.0
"""A point that is off by so much counts quadratically up to here, and 1/2."""


def points_loss(outputs: Outputs, batch: Batch) -> Tensor:
    """How far off the points of the face are said to be, in units of 2 px, Huber: eyes and mouth together; a scalar.

    Points outside of a crop do not count, nor do crops that cannot be read. It is no task of the balancer: it has one unit, px,
    and is there for what the tasks learn from it.
    """
    total = outputs.eye_BO.new_zeros(())
    for found_BK4, true_BK4, intact_B in (
        (outputs.eye_points_BK4, batch.eye_points_BK4, batch.eye_intact_B),
        (outputs.mouth_points_BK4, batch.mouth_points_BK4, batch.mouth_intact_B),
    ):
        inside_BK = (true_BK4[:, :, :2].abs() < CROP_SIZE_PX / 2).all(2) * intact_B[:, None]
        error_BK4 = huber_loss(found_BK4 / POINT_UNIT_PX, true_BK4 / POINT_UNIT_PX, reduction="none")
        total = total + (error_BK4.mean(2) * inside_BK).sum() / inside_BK.sum().clamp(min=1.0)
    return total


def ignorant_losses(batch: Batch) -> Tensor:
    """float32 [47]: what it costs to say the mean of this batch whatever is seen."""
    eye_EO = torch.cat([batch.eye_values_BE, batch.eye_gaze_BO, _logit(batch.eye_intact_B)[:, None]], 1)
    mouth_EO = torch.cat([batch.mouth_values_BE, _logit(batch.mouth_intact_B)[:, None]], 1)
    none = eye_EO.new_zeros(0)
    return losses(Outputs(eye_EO.mean(0).expand_as(eye_EO), mouth_EO.mean(0).expand_as(mouth_EO), none, none), batch)


def _logit(intact_B: Tensor) -> Tensor:
    return torch.logit(intact_B.mean(), eps=0.02).expand_as(intact_B)


def losses(outputs: Outputs, batch: Batch) -> Tensor:
    """float32 [47], order of TASK_NAMES: mean squared errors, gaze error, cross entropy of the confidences.

    Only crops that can be read count towards EUs and gaze, and gaze counts as far as the eye is open. The gaze error is
    Huber's with its corner at 5 degrees, in units of 10 degrees: a lid at the pupil must not drag the rest.
    """
    eye_out_BO, mouth_out_BO = outputs.eye_BO, outputs.mouth_BO
    eye_E = _eu_losses(eye_out_BO[:, :EYE_EU_COUNT], batch.eye_values_BE, batch.eye_intact_B)
    mouth_E = _eu_losses(mouth_out_BO[:, :MOUTH_EU_COUNT], batch.mouth_values_BE, batch.mouth_intact_B)
    open_B = batch.eye_intact_B * (1.0 - batch.eye_values_BE[:, 0])
    gaze_BO = eye_out_BO[:, EYE_EU_COUNT : EYE_EU_COUNT + 2]
    error_BO = huber_loss(gaze_BO / GAZE_SCALE_DEG, batch.eye_gaze_BO / GAZE_SCALE_DEG, reduction="none", delta=0.5)
    gaze = (error_BO.mean(1) * open_B).sum() / open_B.sum().clamp(min=1.0)
    return torch.cat(
        [
            eye_E,
            gaze[None],
            binary_cross_entropy_with_logits(eye_out_BO[:, -1], batch.eye_intact_B)[None],
            mouth_E,
            binary_cross_entropy_with_logits(mouth_out_BO[:, -1], batch.mouth_intact_B)[None],
        ]
    )


def _eu_losses(out_BE: Tensor, values_BE: Tensor, intact_B: Tensor) -> Tensor:
    error_BE = out_BE - values_BE
    beyond_BE = ((values_BE <= 0) & (out_BE < 0)) | ((values_BE >= 1) & (out_BE > 1))
    error_BE = torch.where(beyond_BE, BEYOND_WEIGHT * error_BE, error_BE)
    return (error_BE.square() * intact_B[:, None]).sum(0) / intact_B.sum().clamp(min=1.0)
