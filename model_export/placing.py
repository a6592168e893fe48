"""Crops cut where the face is: read through a slip, and placed where most faces are.

Axes: F picture, H W image, M feature of the map.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, LAST_COUNT, NO_SLIP, Camera, Resting, Slip, followed_share
from model_export.onnx_features import onnx_features

LOOKS: Final = 3
"""What a slip is read off is linear in small ones; large ones are read again after they are taken out."""
_BATCH: Final = 8


def seen_through(slip: Slip, crop_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop, uint8 [128, 128], upright and not mirrored, with the slip taken out; beyond an edge its last pixel goes on.

    With `slip.inverse()` it slips instead. Without a slip it is the crop itself.
    """
    if slip == NO_SLIP:
        return crop_HW
    matrix_23 = slip.matrix_23()
    middle_2 = np.full(2, (CROP_SIZE_PX - 1) / 2)
    matrix_23[:, 2] += middle_2 - matrix_23[:, :2] @ middle_2
    size = (CROP_SIZE_PX, CROP_SIZE_PX)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(crop_HW, matrix_23, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def placings(model: bytes, resting: Resting, camera: Camera, rest_FHW: NDArray[np.uint8]) -> list[Slip]:
    """For each picture of a face at rest, uint8 [F, 128, 128], upright and not mirrored, how its crop is to be cut.

    `model`: the camera's backbone as ONNX.
    """
    slips = [NO_SLIP] * len(rest_FHW)
    for _ in range(LOOKS):
        crops_FHW = np.stack([seen_through(slip, rest_HW) for slip, rest_HW in zip(slips, rest_FHW, strict=True)])
        map_FM = onnx_features(model, crops_FHW[:, :, ::-1] if camera is Camera.RIGHT_EYE else crops_FHW, _BATCH)[
            :, LAST_COUNT:
        ]
        slips = [
            slip.then(resting.slip(camera, map_M, resting.place(camera)))
            for slip, map_M in zip(slips, map_FM, strict=True)
        ]
    return [followed_share(slip) for slip in slips]
