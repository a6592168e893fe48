"""The tasks of training and one loss for each.

Axes: B crops, E expression unit, O head output.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from model_export.batches import Batch
from model_export.contract import EYE_MOVEMENTS, MOUTH_EUS
from model_export.network import EYE_EU_COUNT, GAZE_SCALE_DEG, MOUTH_EU_COUNT

TASK_NAMES: Final = (*EYE_MOVEMENTS, "gaze", "eyeConfidence", *MOUTH_EUS, "mouthConfidence")
"""One loss each, in this order; both eyes share a task, because they share the network."""

BEYOND_WEIGHT: Final = 0.1
"""Share of an error that counts where the target is 0 (or 1) and the output lies beyond it: it is clipped when served."""


def losses(eye_out_BO: Tensor, mouth_out_BO: Tensor, batch: Batch) -> Tensor:
    """float32 [47], order of TASK_NAMES: mean squared errors, gaze error, cross entropy of the confidences.

    Only crops that can be read count towards EUs and gaze, and gaze counts as far as the eye is open. The gaze error is
    Huber's with its corner at 5 degrees, in units of 10 degrees: a lid at the pupil must not drag the rest.
    """
    eye_E = _eu_losses(eye_out_BO[:, :EYE_EU_COUNT], batch.eye_values_BE, batch.eye_intact_B)
    mouth_E = _eu_losses(mouth_out_BO[:, :MOUTH_EU_COUNT], batch.mouth_values_BE, batch.mouth_intact_B)
    open_B = batch.eye_intact_B * (1.0 - batch.eye_values_BE[:, 0])
    gaze_BO = eye_out_BO[:, EYE_EU_COUNT : EYE_EU_COUNT + 2]
    error_BO = torch.nn.functional.huber_loss(
        gaze_BO / GAZE_SCALE_DEG, batch.eye_gaze_BO / GAZE_SCALE_DEG, reduction="none", delta=0.5
    )
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
