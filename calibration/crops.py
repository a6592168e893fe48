"""The crops in a take: each camera's images decoded, cut to their largest centred square and scaled to what a backbone sees.

Axes: T frame set, H W image.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, Camera, Take, TakeError
from model_export.contract.take import Encoding
from model_export.decode import PictureError, decode_jpeg


def crops_of(take: Take) -> Mapping[Camera, tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """For each camera of the take uint8 crops [T, 128, 128], upright and not mirrored, and bool [T]: whether it had a frame.

    A crop without a frame is black. Raises TakeError for a JPEG that is cut off or cannot be decoded. Takes that the service
    records are crops already; 2 ms a second of recording.
    """
    return {camera: _crops_of(take, camera, images) for camera, images in take.images.items()}


def _crops_of(take: Take, camera: Camera, images: tuple[bytes, ...]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    crops_THW = np.zeros((len(take), CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
    seen_T = np.array([bool(image) for image in images])
    for t in np.flatnonzero(seen_T):
        if take.encoding is Encoding.GRAY8:
            pixels_HW = np.frombuffer(images[t], np.uint8).reshape(take.size_px)
        else:
            try:
                pixels_HW = decode_jpeg(images[t])
            except PictureError as error:
                raise TakeError(
                    f"Image {t} of {camera.label} should {error.expected}. Found {error.found}; record the take again."
                ) from None
        crops_THW[t] = _square(pixels_HW)
    return crops_THW, seen_T


def _square(pixels_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels_HW.shape
    if (height, width) == (CROP_SIZE_PX, CROP_SIZE_PX):
        return pixels_HW
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square_HW = np.ascontiguousarray(pixels_HW[top : top + side, left : left + side])
    interpolation = cv2.INTER_AREA if side > CROP_SIZE_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square_HW, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=interpolation), np.uint8)
