"""Crops read through a slip: moved back to where the face was before it.

Axes: H W image.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, Slip


def seen_through(slip: Slip, crop_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop, uint8 [128, 128], upright and not mirrored, with the slip taken out; beyond an edge its last pixel goes on.

    With `slip.inverse()` it slips instead.
    """
    matrix_23 = slip.matrix_23()
    middle_2 = np.full(2, (CROP_SIZE_PX - 1) / 2)
    matrix_23[:, 2] += middle_2 - matrix_23[:, :2] @ middle_2
    size = (CROP_SIZE_PX, CROP_SIZE_PX)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(crop_HW, matrix_23, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)
