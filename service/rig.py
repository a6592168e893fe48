"""How the cameras of a headset sit, as the one warp that turns an image into the crop a backbone sees.

Axes: H W image. The order of events, from the image to the crop: undo the mirror that a camera looks through, turn the image
upright, cut the square, scale it to 128 px; a right eye is mirrored once more, because the eye backbone sees left eyes.
"""

import math
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, Camera
from service.errors import ErrorCode, WireError
from service.wire import CameraPlacement

_DEFAULT_PLACEMENT = CameraPlacement()


class Rig:
    """The placement of each camera, and the warp matrix for each size of image that came."""

    def __init__(self, placements: Mapping[Camera, CameraPlacement] | None = None) -> None:
        self.placements: Mapping[Camera, CameraPlacement] = dict(placements or {})
        self._matrices: dict[Camera, tuple[tuple[int, int], NDArray[np.float64]]] = {}

    def crop(self, camera: Camera, pixels_HW: NDArray[np.uint8], crop_HW: NDArray[np.uint8]) -> None:
        """Writes the canonical crop of an image into `crop_HW`, uint8 [128, 128]; what lies outside repeats the edge.

        Raises WireError when the placement puts the crop outside the image.
        """
        placement = self.placements.get(camera, _DEFAULT_PLACEMENT)
        if placement == _DEFAULT_PLACEMENT and pixels_HW.shape == crop_HW.shape:
            # Already the canonical crop: a copy takes 1 us, a warp 20.
            np.copyto(crop_HW, pixels_HW[:, ::-1] if camera is Camera.RIGHT_EYE else pixels_HW)
            return
        cv2.warpAffine(
            pixels_HW,
            self._matrix(camera, placement, (pixels_HW.shape[0], pixels_HW.shape[1])),
            (CROP_SIZE_PX, CROP_SIZE_PX),
            dst=crop_HW,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def _matrix(self, camera: Camera, placement: CameraPlacement, size_HW: tuple[int, int]) -> NDArray[np.float64]:
        # One size for each camera is kept: a camera that changes its size at each frame costs 10 us, not memory.
        kept = self._matrices.get(camera)
        if kept is None or kept[0] != size_HW:
            kept = (size_HW, crop_matrix(camera, placement, size_HW))
            self._matrices[camera] = kept
        return kept[1]


def crop_matrix(camera: Camera, placement: CameraPlacement, size_HW: tuple[int, int]) -> NDArray[np.float64]:
    """Affine map float64 [2, 3] from pixels (x, y, 1) of the 128 px crop to pixels of an image of this height and width.

    Raises WireError when the crop's centre lies outside the image or its side is not between 1 px and four images.
    """
    height, width = size_HW
    x, y = placement.center_px or ((width - 1) / 2, (height - 1) / 2)
    side = placement.side_px or float(min(height, width))
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1 and 1 <= side <= 4 * max(height, width)):
        raise WireError(
            ErrorCode.VALUE,
            f"The crop of {camera.label} should have its centre in the image of {width} x {height} px and a side of "
            f"1 to {4 * max(height, width)} px.",
            f"a centre at ({x:g}, {y:g}) and a side of {side:g}",
            "Configure the rig for the size of the images that are sent.",
        )
    turn = math.radians(placement.rotation_deg)
    # rows: what one step to the right and one step down in the upright crop are in the image, before its mirror is undone
    upright = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    if placement.mirrored:
        upright[0] *= -1
    if camera is Camera.RIGHT_EYE:
        upright[:, 0] *= -1
    linear = upright * (side / CROP_SIZE_PX)
    middle = np.full(2, (CROP_SIZE_PX - 1) / 2)
    return np.column_stack([linear, np.array([x, y]) - linear @ middle])
