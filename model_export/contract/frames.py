"""Frames and frame sets: what the cameras of a headset saw, and when.

Axes: H height, W width. Times are integer nanoseconds of the headset's monotonic clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.errors import FrameError

MAX_SIDE_PX: Final = 4096
"""Largest width or height of a frame; far above any eye or mouth camera, far below what exhausts memory."""

CROP_SIZE_PX: Final = 128
"""Width and height of the crop that a backbone sees."""


class Camera(IntEnum):
    """The cameras of a headset; the numbers are part of the wire format. Left is the wearer's left."""

    LEFT_EYE = 0
    RIGHT_EYE = 1
    MOUTH = 2

    @property
    def label(self) -> str:
        """The name used on the wire, in files and in documents: left_eye, right_eye or mouth."""
        return self.name.lower()


CROP_SPAN_CM: Final = {Camera.LEFT_EYE: 5.3, Camera.RIGHT_EYE: 5.3, Camera.MOUTH: 8.2}
"""How much of the face a crop spans: centred on the eye, or 0.4 cm below the middle of the lips."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One grey image of one camera with its capture time."""

    camera: Camera
    t_ns: int
    """Capture time, nanoseconds of the headset's monotonic clock, 0 or more."""
    pixels_HW: NDArray[np.uint8]
    """uint8 grey in [0, 255], upright and not mirrored; possibly a read-only view of the message it came in."""

    def __post_init__(self) -> None:
        shape, dtype = self.pixels_HW.shape, self.pixels_HW.dtype
        if dtype != np.uint8 or len(shape) != 2 or not all(1 <= side <= MAX_SIDE_PX for side in shape):
            raise FrameError(
                f"`pixels_HW` of {self.camera.label} should be uint8 [H, W] with sides of 1 to {MAX_SIDE_PX} px. "
                f"Found {dtype} {list(shape)}. Send one grey image."
            )
        if self.t_ns < 0:
            raise FrameError(f"`t_ns` should be 0 or more. Found {self.t_ns}. Send the capture time in nanoseconds.")


@dataclass(frozen=True, slots=True)
class FrameSet:
    """The frames of one to three different cameras that were taken together."""

    sequence: int
    """Counts the frame sets of one connection; unsigned 32 bit."""
    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        cameras = [frame.camera for frame in self.frames]
        if not cameras or len(set(cameras)) != len(cameras):
            found = ", ".join(camera.label for camera in cameras) or "none"
            raise FrameError(f"A frame set should hold one frame for each of one to three cameras. Found {found}.")
        if not 0 <= self.sequence < 2**32:
            raise FrameError(f"`sequence` should be an unsigned 32 bit number. Found {self.sequence}.")

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    @property
    def t_ns(self) -> int:
        """Capture time of the newest frame of the set."""
        return max(frame.t_ns for frame in self.frames)
