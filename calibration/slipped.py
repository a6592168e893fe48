"""A recording as it would be had the headset slipped: every picture moved and turned by as much. For evaluation.

Axes: H W image.
"""

import cv2
import numpy as np

from calibration.crops import crops_of
from model_export.contract import CROP_SIZE_PX, Take
from model_export.contract.take import Encoding


def slipped(take: Take, right_px: float, down_px: float, turn_deg: float) -> Take:
    """The take's crops moved by so many of their 128 pixels and turned clockwise about their centre, in gray8.

    Beyond an edge its last pixel goes on. A slip in the plane of the picture: what a headset that tips shows besides, a new view
    of the face, is not in it.
    """
    middle = (CROP_SIZE_PX - 1) / 2
    turn_23 = cv2.getRotationMatrix2D((middle, middle), -turn_deg, 1.0)
    way_23 = turn_23 + np.array([[0.0, 0.0, right_px], [0.0, 0.0, down_px]])
    images = {}
    for camera, (crops_THW, seen_T) in crops_of(take).items():
        images[camera] = tuple(
            np.asarray(
                cv2.warpAffine(crop_HW, way_23, (CROP_SIZE_PX, CROP_SIZE_PX), borderMode=cv2.BORDER_REPLICATE), np.uint8
            ).tobytes()
            if seen
            else b""
            for crop_HW, seen in zip(crops_THW, seen_T, strict=True)
        )
    return Take(take.cue, Encoding.GRAY8, take.t_ns, images, (CROP_SIZE_PX, CROP_SIZE_PX), take.values_TE, take.gaze_T4)
