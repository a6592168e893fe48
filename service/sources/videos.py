"""Video files and cameras as sources, by OpenCV.

A picture shows one camera, or three side by side: left_eye, right_eye, mouth, each a third of the width.
Axes: H height, W width.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract.frames import Camera
from service.sources.recordings import encode_pixels
from service.sources.source import Shot, Source, SourceError
from service.wire_messages import EncodedFrame

DEFAULT_RATE_HZ: Final = 30.0
"""Of a video file that names no rate."""


def open_video(path: Path, jpeg_quality: int | None, camera: Camera | None) -> Source:
    """A video file; `camera` says whose pictures it holds, None that it holds three side by side."""
    with _Capture(str(path), path.name) as capture:
        rate_hz = capture.rate_hz

    def shots() -> Iterator[Shot]:
        with _Capture(str(path), path.name) as opened:
            index = 0
            while (pixels_HW := opened.read()) is not None:
                t_ns = round(index * 1e9 / rate_hz)
                yield Shot(index, t_ns, tuple(_cut(pixels_HW, t_ns, jpeg_quality, camera)))
                index += 1

    return Source(path.name, shots)


def open_camera(number: int, jpeg_quality: int | None, camera: Camera | None) -> Source:
    """The camera that OpenCV knows by a number; stamped with the monotonic clock when its picture arrives."""
    with _Capture(number, f"camera {number}"):
        pass  # is it there?

    def shots() -> Iterator[Shot]:
        with _Capture(number, f"camera {number}") as opened:
            index = 0
            while (pixels_HW := opened.read()) is not None:
                t_ns = time.monotonic_ns()
                yield Shot(index, t_ns, tuple(_cut(pixels_HW, t_ns, jpeg_quality, camera)))
                index += 1

    return Source(f"camera {number}", shots, live=True)


class _Capture:
    """An open cv2.VideoCapture that is released at the end."""

    def __init__(self, what: str | int, name: str) -> None:
        capture = cv2.VideoCapture(what)
        if not capture.isOpened():
            raise SourceError(
                f"{name} should be a video or camera that OpenCV can open.",
                "one that it cannot",
                "Try another camera number, or convert the file to MP4 (H.264) or AVI (MJPG).",
                missing=isinstance(what, int),
            )
        self._capture = capture

    @property
    def rate_hz(self) -> float:
        rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate_hz if 0.1 < rate_hz < 1000 else DEFAULT_RATE_HZ

    def read(self) -> NDArray[np.uint8] | None:
        """The next picture in grey; None at the end, or when the camera is gone."""
        done, picture = self._capture.read()
        if not done:
            return None
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        return np.asarray(grey, np.uint8)

    def __enter__(self) -> "_Capture":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()


def _cut(pixels_HW: NDArray[np.uint8], t_ns: int, quality: int | None, camera: Camera | None) -> Iterator[EncodedFrame]:
    if camera is not None:
        yield encode_pixels(camera, t_ns, pixels_HW, quality)
        return
    third = pixels_HW.shape[1] // 3
    for number, one in enumerate(Camera):
        yield encode_pixels(one, t_ns, pixels_HW[:, number * third : (number + 1) * third], quality)
