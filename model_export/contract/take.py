"""The take: the recording of one cue, frame set by frame set.

Axes: T frame set, E expression unit.

Take file versions (safetensors, metadata "format": "mien-take")
    1   t_ns int64 [T]; for each camera of the take "<camera>.bytes" uint8 [N] and "<camera>.offsets" int64 [T + 1], image t being
        bytes[offsets[t]:offsets[t + 1]], empty where the camera had no frame; optional values_TE float32 [T, 56] and gaze_T4
        float32 [T, 4], where the truth is known; metadata version, cue, encoding (jpeg, or gray8 with height and width).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from model_export.contract.errors import TakeError
from model_export.contract.expression_units import EU_COUNT
from model_export.contract.frames import Camera
from model_export.contract.safetensors_header import pack_metadata, read_metadata

TAKE_FORMAT: Final = "mien-take"
TAKE_VERSION: Final = 1


class Encoding(StrEnum):
    """How the images of a take, or of a message, are stored."""

    GRAY8 = "gray8"
    JPEG = "jpeg"


@dataclass(frozen=True, slots=True)
class Take:
    """The recording of one cue."""

    cue: str
    """What the wearer was asked to do, or what the recording shows."""
    encoding: Encoding
    t_ns: NDArray[np.int64]
    """int64 [T], capture times of the frame sets, rising."""
    images: Mapping[Camera, tuple[bytes, ...]]
    """For each camera T images in the take's encoding; b"" where the camera had no frame."""
    size_px: tuple[int, int] = (0, 0)
    """Height and width of gray8 images; (0, 0) for jpeg, which tells its own."""
    values_TE: NDArray[np.float32] | None = None
    """float32 [T, 56] in [0, 1]: the true EU values, where the recording was rendered."""
    gaze_T4: NDArray[np.float32] | None = None
    """float32 [T, 4] degrees: the true gaze, where the recording was rendered."""

    def __post_init__(self) -> None:
        count = len(self.t_ns)
        if self.t_ns.dtype != np.int64 or self.t_ns.ndim != 1 or not count or (np.diff(self.t_ns) <= 0).any():
            raise TakeError("`t_ns` of a take should be int64, rising, and hold one time or more.")
        if not self.images or any(len(images) != count for images in self.images.values()):
            found = {camera.label: len(images) for camera, images in self.images.items()}
            raise TakeError(
                f"A take should hold {count} images, one for each time, of one to three cameras. Found {found}."
            )
        height, width = self.size_px
        if self.encoding is Encoding.GRAY8 and any(
            len(image) not in (0, height * width) for images in self.images.values() for image in images
        ):
            raise TakeError(f"Every gray8 image of this take should have {height} x {width} bytes.")
        for name, array, columns in (("values_TE", self.values_TE, EU_COUNT), ("gaze_T4", self.gaze_T4, 4)):
            if array is not None and (array.shape != (count, columns) or array.dtype != np.float32):
                raise TakeError(
                    f"`{name}` should be float32 [{count}, {columns}]. Found {array.dtype} {list(array.shape)}."
                )

    def __len__(self) -> int:
        return len(self.t_ns)


def write_take(take: Take) -> bytes:
    """The take as a safetensors file."""
    tensors: dict[str, NDArray[np.generic]] = {"t_ns": take.t_ns}
    for camera, images in take.images.items():
        tensors[f"{camera.label}.bytes"] = np.frombuffer(b"".join(images), np.uint8)
        tensors[f"{camera.label}.offsets"] = np.cumsum([0, *map(len, images)], dtype=np.int64)
    if take.values_TE is not None:
        tensors["values_TE"] = take.values_TE
    if take.gaze_T4 is not None:
        tensors["gaze_T4"] = take.gaze_T4
    height, width = take.size_px
    metadata = {
        "format": TAKE_FORMAT,
        "version": TAKE_VERSION,
        "cue": take.cue,
        "encoding": take.encoding.value,
        "height": height,
        "width": width,
    }
    return save_safetensors(tensors, pack_metadata(metadata))


def read_take(data: bytes) -> Take:
    """The take in a safetensors file; raises TakeError for another format or version, or a file that is not whole."""
    metadata = read_metadata(data, TakeError)
    for key, expected in (("format", TAKE_FORMAT), ("version", TAKE_VERSION)):
        if metadata.get(key) != expected:
            raise TakeError(f"Take metadata `{key}` should be {expected!r}. Found {metadata.get(key)!r}.")
    try:
        tensors = load_safetensors(data)
        images = {
            camera: _cut(tensors[f"{camera.label}.bytes"], tensors[f"{camera.label}.offsets"])
            for camera in Camera
            if f"{camera.label}.bytes" in tensors
        }
        return Take(
            cue=str(metadata["cue"]),
            encoding=Encoding(metadata["encoding"]),
            t_ns=tensors["t_ns"],
            images=images,
            size_px=(int(metadata["height"]), int(metadata["width"])),
            values_TE=tensors.get("values_TE"),
            gaze_T4=tensors.get("gaze_T4"),
        )
    except KeyError as missing:
        raise TakeError(f"A take should hold {missing}. It is not in this file; record the take again.") from None
    except TakeError:
        raise
    except (SafetensorError, ValueError, TypeError) as error:
        raise TakeError(f"A take should be a whole safetensors file. Found one that cannot be read: {error}.") from None


def _cut(joined: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[bytes, ...]:
    if joined.dtype != np.uint8 or offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets):
        raise TakeError("`bytes` should be uint8 and `offsets` int64 [T + 1].")
    if offsets[0] != 0 or offsets[-1] != joined.size or (np.diff(offsets) < 0).any():
        raise TakeError(f"`offsets` should rise from 0 to {joined.size}, the number of bytes.")
    whole = joined.tobytes()
    return tuple(whole[start:end] for start, end in pairwise(offsets.tolist()))
