"""How the cameras of a headset sit: from a camera's placement to the one warp that gives its crop.

Axes: H W image. Image coordinates are continuous: x to the right and y down from the upper left corner of the image, the centre
of pixel (row 0, column 0) at (0.5, 0.5), the centre of the image at (width / 2, height / 2).

A crop is made in this order: the square of `side_px` around `center_px` is turned by `rotation_deg` counter-clockwise (as seen),
mirrored when the camera looks through a mirror, mirrored once more for the right eye (the backbone knows left eyes only), and
scaled to 128 x 128. With crop coordinates (u, v) from the crop's centre, s = side / 128, m = -1 where mirrored once and else 1:

    x = center_x + s (m u cos r - v sin r)
    y = center_y + s (m u sin r + v cos r)

A wearer's head may say that the face has slipped in that crop (model_export.contract.slip); then (u, v) is first brought to where
the face is now.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, isfinite, radians, sin
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract.frames import CROP_SIZE_PX, Camera
from model_export.contract.slip import NO_SLIP, Slip
from service.errors import ErrorCode, WireError
from service.wire_messages import CameraPlacement

Rig = Mapping[Camera, CameraPlacement]
"""The placement of each camera; one that is absent takes the largest centred square, upright."""

MIN_SIDE_PX: Final = 8.0
"""A crop of fewer pixels shows no eye."""
MAX_SIDE_SHARE: Final = 4.0
"""A crop may reach beyond the image, but not be more than so many times its longer side."""
RATE_BOUNDS_HZ: Final = (0.1, 1000.0)

_DEFAULT: Final = CameraPlacement()
_SIZE: Final = (CROP_SIZE_PX, CROP_SIZE_PX)
_FLAGS: Final = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_REMEDY: Final = "Send the placement in pixels of the images as they are sent."


@dataclass(frozen=True, slots=True)
class CropPlan:
    """How the crop is cut from images of one size."""

    width: int
    height: int
    reduction: int
    """Images are first averaged over blocks of so many pixels: a warp alone would skip pixels and let noise through."""
    matrix_23: NDArray[np.float64]
    """float64 [2, 3]: pixel of the crop to pixel of the reduced image, whole numbers at pixel centres, as cv2 counts."""
    copies: bool
    """True where the image is the crop, up to mirroring: it is copied, not warped."""
    mirrors: bool
    """Whether a copy mirrors."""
    slip: Slip = NO_SLIP
    """The slip that is taken out."""

    def cut(self, pixels_HW: NDArray[np.uint8], crop_HW: NDArray[np.uint8]) -> None:
        """Fills the crop, uint8 [128, 128], in place: 1 us for a copy, 15 us for a warp, more where it is reduced first."""
        if self.copies and self.mirrors:
            cv2.flip(pixels_HW, 1, dst=crop_HW)
        elif self.copies:
            crop_HW[:] = pixels_HW
        else:
            if self.reduction > 1:
                size = (max(1, self.width // self.reduction), max(1, self.height // self.reduction))
                pixels_HW = np.asarray(cv2.resize(pixels_HW, size, interpolation=cv2.INTER_AREA), np.uint8)
            # Beyond the edge the last pixel goes on: a black border would be an edge that the backbone never saw.
            cv2.warpAffine(pixels_HW, self.matrix_23, _SIZE, dst=crop_HW, flags=_FLAGS, borderMode=cv2.BORDER_REPLICATE)


def plan_crop(
    placement: CameraPlacement | None, camera: Camera, width: int, height: int, slip: Slip = NO_SLIP
) -> CropPlan:
    """The plan for images of this size; raises WireError (code field) for a crop whose centre is not in the image."""
    placement = placement or _DEFAULT
    check_placement(camera, placement)
    center_x, center_y = placement.center_px or (width / 2, height / 2)
    side = placement.side_px or float(min(width, height))
    longest = MAX_SIDE_SHARE * max(width, height)
    if side > longest:
        raise _refusal(camera, "side_px", f"at most {longest:g} for images of {width} x {height}", f"{side:g}")
    if not (0 <= center_x <= width and 0 <= center_y <= height):
        raise _refusal(camera, "center_px", f"inside images of {width} x {height}", f"({center_x:g}, {center_y:g})")
    mirrors = placement.mirrored != (camera is Camera.RIGHT_EYE)
    scale, angle, sign = side / CROP_SIZE_PX, radians(placement.rotation_deg), -1.0 if mirrors else 1.0
    linear_22 = scale * np.array([[sign * cos(angle), -sin(angle)], [sign * sin(angle), cos(angle)]])
    seen = slip.mirrored() if camera is Camera.RIGHT_EYE else slip
    center_2 = np.array([center_x, center_y]) + linear_22 @ (seen.right_px, seen.down_px)
    linear_22 = linear_22 @ seen.matrix_23()[:, :2]
    reduction = max(1, int(scale))
    # The reduced image has whole blocks only, so its ratio differs a little from `reduction` for odd sizes.
    ratio_2 = np.array([max(1, width // reduction) / width, max(1, height // reduction) / height])
    linear_22, center_2 = linear_22 * ratio_2[:, None], center_2 * ratio_2
    # cv2 counts from pixel centres: crop pixel (i, j) lies at (i + 0.5, j + 0.5), image pixel k at k + 0.5.
    middle_2 = np.full(2, (CROP_SIZE_PX - 1) / 2)
    matrix_23 = np.column_stack([linear_22, center_2 - 0.5 - linear_22 @ middle_2])
    exact_23 = np.array([[sign, 0.0, CROP_SIZE_PX - 1 if mirrors else 0.0], [0.0, 1.0, 0.0]])
    copies = (width, height) == _SIZE and bool(np.allclose(matrix_23, exact_23, rtol=0, atol=1e-9))
    return CropPlan(width, height, reduction, matrix_23, copies, mirrors, slip)


def check_placement(camera: Camera, placement: CameraPlacement) -> None:
    """Raises WireError (code field) for numbers that no camera can have, whatever its image size."""
    center, side, rate = placement.center_px, placement.side_px, placement.rate_hz
    if center is not None and not all(map(isfinite, center)):
        raise _refusal(camera, "center_px", "two finite numbers", f"{center}")
    if side is not None and not (isfinite(side) and side >= MIN_SIDE_PX):
        raise _refusal(camera, "side_px", f"at least {MIN_SIDE_PX:g}", f"{side:g}")
    if not isfinite(placement.rotation_deg):
        raise _refusal(camera, "rotation_deg", "a finite number", f"{placement.rotation_deg}")
    if rate is not None and not RATE_BOUNDS_HZ[0] <= rate <= RATE_BOUNDS_HZ[1]:
        raise _refusal(camera, "rate_hz", f"{RATE_BOUNDS_HZ[0]:g} to {RATE_BOUNDS_HZ[1]:g}", f"{rate:g}")


def _refusal(camera: Camera, field: str, expected: str, found: str) -> WireError:
    return WireError(ErrorCode.FIELD, f"`{field}` of {camera.label} should be {expected}.", found, _REMEDY)
