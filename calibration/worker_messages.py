"""What the service and its calibration worker say to each other through two pipes: JSON beside bytes, never a pickle.

    message = length of the JSON u32, length of the bytes u32, little-endian; the JSON; the bytes

To the worker (bytes in brackets)
    frames {t_ns, cameras} [uint8 128 x 128 of each camera]     begin {recording, cue}      end {recording}
    discard {recording}     forget {}       restore {takes: {recording: number}}
    fit {fit, recordings: {cue: recording}} [the head in use, none for the universal one]
From the worker
    ready {}        judged {recording, refusal, take}       fitted {fit, better, report} [the head]     failed {fit, reason}
    gauge {recording, value} (at most 15 a second, while it is recorded)
    lost {recordings} (of a restore, those that could not be read)

Versions: none. Both ends are always of one installation.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, Camera

_LENGTHS: Final = struct.Struct("<II")
MAX_BYTES: Final = 64 << 20
"""Of one message; heads have some hundred kilobytes, frame sets 49."""
_CROP_BYTES: Final = CROP_SIZE_PX * CROP_SIZE_PX


@dataclass(frozen=True, slots=True)
class WorkerMessage:
    """One message, in either direction."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class CropSet:
    """What a worker gets of a frame set: uint8 crops [128, 128], upright and not mirrored, of one to three cameras."""

    t_ns: int
    """Capture time of the newest frame."""
    crops: Mapping[Camera, NDArray[np.uint8]]


def write_message(pipe: BinaryIO, message: WorkerMessage) -> None:
    """Writes a message and waits until the pipe has taken it."""
    text = json.dumps({"kind": message.kind, **message.fields}, separators=(",", ":")).encode()
    pipe.write(_LENGTHS.pack(len(text), len(message.data)) + text + message.data)
    pipe.flush()


def read_message(pipe: BinaryIO) -> WorkerMessage | None:
    """The next message; None when the other end is gone, in the middle of a message too. Raises ValueError for nonsense."""
    head = pipe.read(_LENGTHS.size)
    if len(head) < _LENGTHS.size:
        return None
    lengths = _LENGTHS.unpack(head)
    if sum(lengths) > MAX_BYTES:
        raise ValueError(f"A message should have at most {MAX_BYTES} bytes. Found {sum(lengths)}.")
    text, data = (pipe.read(length) for length in lengths)
    if (len(text), len(data)) != lengths:
        return None
    fields = json.loads(text)
    return WorkerMessage(fields.pop("kind"), fields, data)


def frames_message(crops: CropSet) -> WorkerMessage:
    """A frame set as a message."""
    data = b"".join(np.ascontiguousarray(crop_HW).tobytes() for crop_HW in crops.crops.values())
    return WorkerMessage("frames", {"t_ns": crops.t_ns, "cameras": [int(camera) for camera in crops.crops]}, data)


def images_of(message: WorkerMessage) -> tuple[int, dict[Camera, bytes]]:
    """Capture time and images of a `frames` message."""
    cameras = [Camera(number) for number in message.fields["cameras"]]
    starts = range(0, len(message.data), _CROP_BYTES)
    images = {camera: message.data[at : at + _CROP_BYTES] for camera, at in zip(cameras, starts, strict=True)}
    return int(message.fields["t_ns"]), images
