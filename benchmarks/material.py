"""Frame sets to measure with: of a recorded take, or textures where there is none.

Axes: T frame set, C camera, H W image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.headset import FramedMessage
from model_export.contract import CROP_SIZE_PX, Camera, Frame, FrameSet, read_take
from model_export.contract.take import Encoding
from service.client.images import encode_frame_set

JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Material:
    """The same frame sets in every form that is measured."""

    source: str
    frame_sets: tuple[FrameSet, ...]
    crops_TCHW: NDArray[np.uint8]
    """uint8 [T, 3, 128, 128]: what the backbones see of them, the right eye mirrored."""

    def framed(self, encoding: Encoding) -> list[FramedMessage]:
        """The frame sets as messages that are ready to go out."""
        quality = JPEG_QUALITY if encoding is Encoding.JPEG else None
        return [FramedMessage(encode_frame_set(frame_set, quality)) for frame_set in self.frame_sets]


def read_material(take: Path | None = None, count: int = 90) -> Material:
    """Up to `count` frame sets of three cameras: of `take`, else of a take in the package, else textures."""
    if take is None:
        folder = files("service").joinpath("samples")
        shipped = sorted(Path(str(folder)).glob("*.take"))
        take = shipped[0] if shipped else None
    if take is None:
        return _as_material("textures, seed 0", _textures(min(count, 30)))
    recorded = read_take(take.read_bytes())
    images: list[list[NDArray[np.uint8]]] = []
    for frame_set in zip(*(recorded.images[camera] for camera in Camera), strict=True):
        if all(frame_set) and len(images) < count:
            images.append([_decode(image, recorded.encoding, recorded.size_px) for image in frame_set])
    return _as_material(take.name, images)


def _decode(image: bytes, encoding: Encoding, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    data = np.frombuffer(image, np.uint8)
    if encoding is Encoding.GRAY8:
        return data.reshape(size_px)
    pixels_HW = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert pixels_HW is not None, "a take of this repository holds whole JPEGs"
    return np.asarray(pixels_HW, np.uint8)


def _textures(count: int) -> list[list[NDArray[np.uint8]]]:
    random = np.random.default_rng(0)
    noise_TCHW = random.integers(0, 256, (count, 3, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
    return [
        [np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8) for image in noise_CHW] for noise_CHW in noise_TCHW
    ]


def _as_material(source: str, images: Sequence[Sequence[NDArray[np.uint8]]]) -> Material:
    frame_sets = tuple(
        FrameSet(number, tuple(Frame(camera, 0, image) for camera, image in zip(Camera, cameras, strict=True)))
        for number, cameras in enumerate(images)
    )
    crops_TCHW = np.stack([[_crop(frame) for frame in frame_set] for frame_set in frame_sets])
    return Material(source, frame_sets, crops_TCHW)


def _crop(frame: Frame) -> NDArray[np.uint8]:
    height, width = frame.pixels_HW.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square_HW = frame.pixels_HW[top : top + side, left : left + side]
    crop_HW = cv2.resize(square_HW, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(crop_HW[:, ::-1] if frame.camera is Camera.RIGHT_EYE else crop_HW, np.uint8)
