"""What a bundle says of many frame sets at once, through onnxruntime and the numpy head, as served.

Axes: T frame, H W image, E expression unit, 4 gaze, 3 camera, F feature, O head output.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.contract import EYE_MOVEMENTS, Bundle, Camera, Head, rested
from model_export.onnx_features import onnx_features

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
    """Runs both backbones over uint8 crops [T, 128, 128], upright and not mirrored; `head`: in place of the universal one."""
    head = head or bundle.head
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
    """The universal head moved by what each of F pictures of a face at rest tells."""
    rests = zip(
        onnx_features(bundle.eye_onnx, rest_eyes_2FHW[0], _BATCH),
        onnx_features(bundle.eye_onnx, rest_eyes_2FHW[1, :, :, ::-1], _BATCH),
        onnx_features(bundle.mouth_onnx, rest_mouth_FHW, _BATCH),
        strict=True,
    )
    return [rested(bundle.head, dict(zip(Camera, rest, strict=True)), bundle.resting) for rest in rests]
