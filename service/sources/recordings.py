"""Recordings on disk as sources: takes, real clips (.npz), folders of images.

Axes: T frame set, H height, W width, N reference channel.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract.errors import TakeError
from model_export.contract.expression_units import EU_NAMES
from model_export.contract.frames import Camera
from model_export.contract.take import Encoding, Take, read_take
from service.client.images import encode_jpeg
from service.errors import WireError
from service.jpeg import read_jpeg_size
from service.sources.source import Reference, Shot, Source, SourceError
from service.wire_messages import EncodedFrame

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".tif", ".tiff")
FOLDER_RATE_HZ: Final = 30.0
"""Of a folder of images, which holds no times."""
_FOLDER_REMEDY: Final = (
    "Name images left_eye_000.png, right_eye_000.png, mouth_000.png, "
    "or put them into folders left_eye, right_eye and mouth."
)
_NUMBERED: Final = re.compile(r"(left_eye|right_eye|mouth)[_-]?(\d+)")


def open_take(path: Path, jpeg_quality: int | None) -> Source:
    """A .take file; a take of JPEG images is sent as it is, whatever `jpeg_quality` says."""
    try:
        take = read_take(path.read_bytes())
        shots = tuple(_shots_of_take(take, jpeg_quality))
    except (TakeError, WireError) as error:
        raise SourceError(f"{path.name} should be a take that can be sent.", str(error), "Record it again.") from None
    reference = None if take.values_TE is None else Reference(EU_NAMES, take.values_TE)
    return Source(path.name, lambda: iter(shots), reference=reference)


def _shots_of_take(take: Take, jpeg_quality: int | None) -> Iterator[Shot]:
    height, width = take.size_px
    for index, t_ns in enumerate(take.t_ns.tolist()):
        frames = []
        for camera, images in take.images.items():
            image = images[index]
            if not image:
                continue
            if take.encoding is Encoding.JPEG:
                jpeg_width, jpeg_height = read_jpeg_size(image)
                frames.append(EncodedFrame(camera, Encoding.JPEG, jpeg_width, jpeg_height, t_ns, image))
            else:
                pixels_HW = np.frombuffer(image, np.uint8).reshape(height, width)
                frames.append(encode_pixels(camera, t_ns, pixels_HW, jpeg_quality))
        if frames:
            yield Shot(index, t_ns, tuple(frames))


def open_clip(path: Path, jpeg_quality: int | None) -> Source:
    """An .npz with left_eye, right_eye and mouth uint8 [T, H, W], t_ns int64 [T], and a reference where there is one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = {camera: arrays[camera.label] for camera in Camera if camera.label in arrays}
            t_ns = arrays["t_ns"].astype(np.int64)
            reference = None
            if "reference" in arrays and "reference_names" in arrays:
                names = tuple(str(name) for name in arrays["reference_names"])
                reference = Reference(names, arrays["reference"].astype(np.float32))
    except (KeyError, ValueError, BadZipFile, EOFError) as error:
        raise SourceError(
            f"{path.name} should hold left_eye, right_eye, mouth and t_ns.", str(error), "Check how it was written."
        ) from None
    if not images or any(pixels.shape[:1] != t_ns.shape or pixels.ndim != 3 for pixels in images.values()):
        found = {camera.label: pixels.shape for camera, pixels in images.items()}
        raise SourceError(f"{path.name} should hold {t_ns.size} grey images a camera.", str(found), "Cut it again.")

    def shots() -> Iterator[Shot]:
        for index, time_ns in enumerate(t_ns.tolist()):
            frames = (encode_pixels(camera, time_ns, images[camera][index], jpeg_quality) for camera in images)
            yield Shot(index, time_ns, tuple(frames))

    encoded = tuple(shots())
    return Source(path.name, lambda: iter(encoded), reference=reference)


def open_folder(path: Path, jpeg_quality: int | None) -> Source:
    """A folder with images left_eye_000.png ... or with folders left_eye, right_eye and mouth of images in sorted order."""
    moments: dict[int, dict[Camera, Path]] = {}
    for camera in Camera:
        inner = path / camera.label
        if inner.is_dir():
            listed = enumerate(sorted(file for file in inner.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES))
            for number, file in listed:
                moments.setdefault(number, {})[camera] = file
    for file in path.iterdir():
        numbered = _NUMBERED.fullmatch(file.stem)
        if numbered and file.suffix.lower() in IMAGE_SUFFIXES:
            moments.setdefault(int(numbered[2]), {})[Camera[numbered[1].upper()]] = file
    if not moments:
        raise SourceError(f"The folder {path.name} should hold images of cameras.", "none", _FOLDER_REMEDY)

    def shots() -> Iterator[Shot]:
        for index, number in enumerate(sorted(moments)):
            t_ns = round(index * 1e9 / FOLDER_RATE_HZ)
            frames = (
                encode_pixels(camera, t_ns, _read_grey(file), jpeg_quality)
                for camera, file in sorted(moments[number].items())
            )
            yield Shot(index, t_ns, tuple(frames))

    return Source(path.name, shots)


def encode_pixels(camera: Camera, t_ns: int, pixels_HW: NDArray[np.uint8], jpeg_quality: int | None) -> EncodedFrame:
    """One grey image, raw or as JPEG."""
    pixels_HW = np.ascontiguousarray(pixels_HW)
    if jpeg_quality is not None:
        return encode_jpeg(camera, t_ns, pixels_HW, jpeg_quality)
    height, width = pixels_HW.shape
    return EncodedFrame(camera, Encoding.GRAY8, width, height, t_ns, pixels_HW.reshape(-1).data)


def _read_grey(path: Path) -> NDArray[np.uint8]:
    # Without IGNORE_ORIENTATION a camera's Exif note would turn the image.
    pixels_HW = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels_HW is None:
        raise SourceError(f"{path.name} should be an image.", "one that cannot be read", "Write it again.")
    return np.asarray(pixels_HW, np.uint8)
