"""What a bundle says of many frame sets at once, through onnxruntime and the numpy head, as served.

Axes: T frame, H W image, E expression unit, 4 gaze, 3 camera, F feature, O head output.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_export.contract import (
    EYE_MOVEMENTS,
    LAST_COUNT,
    NO_SLIP,
    Bundle,
    Camera,
    Head,
    followed,
    rested,
)
from model_export.onnx_features import onnx_features
from model_export.placing import LOOKS, placings, seen_through

_EYES = len(EYE_MOVEMENTS)
_BATCH = 8
"""Small batches stay in the cache; larger ones are no faster on one core."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a head says of T frame sets, unfiltered."""

    values_TE: NDArray[np.float32]
    """float32 in [0, 1], order of EU_NAMES."""
    gaze_T4: NDArray[np.float32]
    """Degrees: left yaw, left pitch, right yaw, right pitch; yaw positive towards the wearer's left."""
    confidence_T3: NDArray[np.float32]
    """float32 in [0, 1], order of cameras."""


def estimate(
    bundle: Bundle,
    left_THW: NDArray[np.uint8],
    right_THW: NDArray[np.uint8],
    mouth_THW: NDArray[np.uint8],
    *,
    head: Head | None = None,
) -> Estimates:
    """Runs both backbones over uint8 crops [T, 128, 128], upright and not mirrored; `head`: in place of the universal one.

    Crops are cut where the head says that the face is.
    """
    head = head or bundle.head
    left_THW, right_THW, mouth_THW = (
        np.stack([seen_through(slip, crop_HW) for crop_HW in crops_THW])
        if (slip := head.slip.get(camera))
        else crops_THW
        for camera, crops_THW in zip(Camera, (left_THW, right_THW, mouth_THW), strict=True)
    )
    left_TF = onnx_features(bundle.eye_onnx, left_THW, _BATCH)
    right_TF = onnx_features(bundle.eye_onnx, right_THW[:, :, ::-1], _BATCH)
    mouth_TF = onnx_features(bundle.mouth_onnx, mouth_THW, _BATCH)
    left_TO, right_TO = head.left_eye.apply(left_TF), head.right_eye.apply(right_TF)
    mouth_TO = head.mouth.apply(mouth_TF)
    values_TE = np.concatenate([left_TO[:, :_EYES], right_TO[:, :_EYES], mouth_TO[:, :-1]], 1)
    gaze_T4 = np.concatenate([left_TO[:, _EYES : _EYES + 2], right_TO[:, _EYES : _EYES + 2]], 1)
    gaze_T4[:, 2] *= -1
    logits_T3 = np.stack([left_TO[:, -1], right_TO[:, -1], mouth_TO[:, -1]], 1)
    return Estimates(values_TE.clip(0, 1), gaze_T4, 1 / (1 + np.exp(-logits_T3.clip(-30, 30))))


def rested_heads(bundle: Bundle, rest_eyes_2FHW: NDArray[np.uint8], rest_mouth_FHW: NDArray[np.uint8]) -> list[Head]:
    """The universal head placed and moved by what each of F pictures of a face at rest tells."""
    heads = [bundle.head] * len(rest_mouth_FHW)
    resting = bundle.resting
    if resting is None:
        return heads
    for camera, rest_FHW in zip(Camera, (*rest_eyes_2FHW, rest_mouth_FHW), strict=True):
        model = bundle.mouth_onnx if camera is Camera.MOUTH else bundle.eye_onnx
        slips = placings(model, resting, camera, rest_FHW)
        placed_FHW = np.stack([seen_through(slip, rest_HW) for slip, rest_HW in zip(slips, rest_FHW, strict=True)])
        rest_FF = onnx_features(model, placed_FHW[:, :, ::-1] if camera is Camera.RIGHT_EYE else placed_FHW, _BATCH)
        heads = [
            replace(rested(head, {camera: rest_F}, resting), slip={**head.slip, camera: slip})
            for head, rest_F, slip in zip(heads, rest_FF, slips, strict=True)
        ]
    return heads


def placed_head(
    bundle: Bundle, left_THW: NDArray[np.uint8], right_THW: NDArray[np.uint8], mouth_THW: NDArray[np.uint8]
) -> Head:
    """The universal head placed by how the face moves in these frames; no label is needed.

    All of them are read three times over, each time in the crops found before, as the service reads on with new ones.
    """
    resting, slips = bundle.resting, {}
    if resting is None:
        return bundle.head
    for camera, crops_THW in zip(Camera, (left_THW, right_THW, mouth_THW), strict=True):
        model = bundle.mouth_onnx if camera is Camera.MOUTH else bundle.eye_onnx
        slip = NO_SLIP
        for _ in range(LOOKS):
            seen_THW = np.stack([seen_through(slip, crop_HW) for crop_HW in crops_THW])
            seen_THW = seen_THW[:, :, ::-1] if camera is Camera.RIGHT_EYE else seen_THW
            mean_M = onnx_features(model, seen_THW, _BATCH)[:, LAST_COUNT:].mean(axis=0)
            slip = followed(slip, slip.then(resting.slip(camera, mean_M, resting.moving(camera))))
        slips[camera] = slip
    return replace(bundle.head, slip=slips)
