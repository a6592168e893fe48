"""What a bundle says of many frame sets at once, through onnxruntime and the numpy head, as served.

Axes: T frame, H W image, E expression unit, 4 gaze, 3 camera, F feature, O head output.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_export.contract import (
    EYE_MOVEMENTS,
    EYE_SIGNALS,
    LAST_COUNT,
    NO_SLIP,
    Bundle,
    Camera,
    Head,
    Slip,
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

    Crops are cut where the head says that the face is and compared with the map that it holds; eyes read each other where the
    bundle knows how.
    """
    crops = zip(Camera, (left_THW, right_THW, mouth_THW), strict=True)
    left_TO, right_TO, mouth_TO = (
        region_outputs(bundle, head or bundle.head, camera, crops_THW) for camera, crops_THW in crops
    )
    confidence_T3 = confidences(np.stack([left_TO[:, -1], right_TO[:, -1], mouth_TO[:, -1]], 1))
    left_TS, right_TS = left_TO[:, :EYE_SIGNALS], right_TO[:, :EYE_SIGNALS]
    if bundle.eye_pair is not None:
        left_TS, right_TS = bundle.eye_pair.both(left_TS, right_TS, confidence_T3[:, :2])
    values_TE = np.concatenate([left_TS[:, :_EYES], right_TS[:, :_EYES], mouth_TO[:, :-1]], 1)
    gaze_T4 = np.concatenate([left_TS[:, _EYES:], right_TS[:, _EYES:]], 1)
    gaze_T4[:, 2] *= -1
    return Estimates(values_TE.clip(0, 1), gaze_T4, confidence_T3)


def region_outputs(bundle: Bundle, head: Head, camera: Camera, crops_THW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Raw outputs [T, O] of one camera's crops, cut where the head says that the face is and compared with what it holds.

    Right eyes are mirrored here.
    """
    slip = head.slip.get(camera)
    if slip is not None:
        crops_THW = np.stack([seen_through(slip, crop_HW) for crop_HW in crops_THW])
    if camera is Camera.RIGHT_EYE:
        crops_THW = crops_THW[:, :, ::-1]
    features_TF = onnx_features(model_of(bundle, camera), crops_THW, _BATCH, head.neutral.get(camera))
    return head[camera].apply(features_TF)


def model_of(bundle: Bundle, camera: Camera) -> bytes:
    """The backbone that looks at a camera's crops."""
    return bundle.mouth_onnx if camera is Camera.MOUTH else bundle.eye_onnx


def confidences(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Confidences in [0, 1] of a head's logits."""
    return np.asarray(1 / (1 + np.exp(-logits.clip(-30, 30))), np.float32)


def rested_heads(bundle: Bundle, rests: Mapping[Camera, NDArray[np.uint8]]) -> list[Head]:
    """The universal head placed and moved by what each of F pictures of a face at rest tells, [F, 128, 128] of each camera."""
    heads = [bundle.head] * max(map(len, rests.values()))
    resting = bundle.resting
    if resting is None:
        return heads
    for camera, rest_FHW in rests.items():
        model = model_of(bundle, camera)
        slips = placings(model, resting, camera, rest_FHW)
        placed_FHW = np.stack([seen_through(slip, rest_HW) for slip, rest_HW in zip(slips, rest_FHW, strict=True)])
        rest_FF = onnx_features(model, placed_FHW[:, :, ::-1] if camera is Camera.RIGHT_EYE else placed_FHW, _BATCH)
        heads = [
            replace(rested(head, {camera: rest_F}, resting), slip={**head.slip, camera: slip})
            for head, rest_F, slip in zip(heads, rest_FF, slips, strict=True)
        ]
    return heads


def placed_head(bundle: Bundle, frames: Mapping[Camera, NDArray[np.uint8]], seconds: float) -> Head:
    """The universal head placed by how the face moves in these crops, [T, 128, 128] of each camera, over so many seconds.

    No label is needed.

    All of them are read up to three times over, each time in the crops found before, as the service reads on with new ones;
    what is seen last tells what frames are compared with.
    """
    resting, slips, neutral = bundle.resting, {}, {}
    if resting is None:
        return bundle.head
    for camera, crops_THW in frames.items():
        slip, mean_M = NO_SLIP, _mean_map(bundle, camera, crops_THW, NO_SLIP)
        for _ in range(LOOKS):
            place = followed(slip, slip.then(resting.slip(camera, mean_M, resting.moving(camera))))
            if place == slip:
                break
            slip, mean_M = place, _mean_map(bundle, camera, crops_THW, place)
        slips[camera], neutral[camera] = slip, resting.neutral(camera, mean_M, seconds)
    return replace(bundle.head, slip=slips, neutral=neutral)


def seconds_of(t_ns_T: NDArray[np.int64]) -> float:
    """How long frames of these times show a face: each stands for as long as lies between two. One alone tells nothing, 0."""
    count = len(t_ns_T)
    return float(t_ns_T[-1] - t_ns_T[0]) / 1e9 * count / (count - 1) if count > 1 else 0.0


def _mean_map(bundle: Bundle, camera: Camera, crops_THW: NDArray[np.uint8], slip: Slip) -> NDArray[np.float32]:
    seen_THW = np.stack([seen_through(slip, crop_HW) for crop_HW in crops_THW])
    seen_THW = seen_THW[:, :, ::-1] if camera is Camera.RIGHT_EYE else seen_THW
    mean_M: NDArray[np.float32] = onnx_features(model_of(bundle, camera), seen_THW, _BATCH)[:, LAST_COUNT:].mean(axis=0)
    return mean_M
