"""The dataset on disk: one safetensors file a wearer, and dataset.json written last.

Written byte for byte the same for the same content (the safetensors library orders metadata at random), to a temporary name,
synced, then renamed: a file that exists is whole. Axes: T time, H W image, E expression units, 4 gaze angles.

Shard format "mien-shard", history of versions
    1   left_eye, right_eye, mouth uint8 [T,128,128]; values_TE float32; gaze_T4 float32; t_ns int64; fitting_T int32.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.faces.errors import DatasetError

SHARD_VERSION: Final = "2"
DATASET_FILE: Final = "dataset.json"
_DTYPES: Final = {"uint8": "U8", "float16": "F16", "float32": "F32", "int64": "I64", "int32": "I32"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """All frame sets of one wearer with their exact labels."""

    left_eye_THW: NDArray[np.uint8]
    right_eye_THW: NDArray[np.uint8]
    mouth_THW: NDArray[np.uint8]
    values_TE: NDArray[np.float32]
    """EU values, 0..1."""
    gaze_T4: NDArray[np.float32]
    """Degrees: left yaw, left pitch, right yaw, right pitch."""
    t_ns: NDArray[np.int64]
    """Capture times, rising."""
    fitting_T: NDArray[np.int32]
    """Index of the fitting (headset, light, look) within the wearer."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays by their names in a shard."""
        return {
            "left_eye": self.left_eye_THW,
            "right_eye": self.right_eye_THW,
            "mouth": self.mouth_THW,
            "values_TE": self.values_TE,
            "gaze_T4": self.gaze_T4,
            "t_ns": self.t_ns,
            "fitting_T": self.fitting_T,
        }


@dataclass(frozen=True, slots=True)
class Supplement:
    """What is known of a wearer's pictures beside the labels: for learning, never for judging."""

    eye_points_T2K4: NDArray[np.float16]
    """Points of the face in the eye crops, left then right (faces.landmarks)."""
    mouth_points_TK4: NDArray[np.float16]
    rest_eyes_2FHW: NDArray[np.uint8]
    """The face at rest in each fitting, left eye then right."""
    rest_mouth_FHW: NDArray[np.uint8]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays by their names in a shard."""
        return {
            "eye_points_T2K4": self.eye_points_T2K4,
            "mouth_points_TK4": self.mouth_points_TK4,
            "rest_eyes": self.rest_eyes_2FHW,
            "rest_mouth": self.rest_mouth_FHW,
        }


def write_shard(path: Path, rendered: Rendered, supplement: Supplement, metadata: Mapping[str, str]) -> str:
    """Write one wearer's shard durably and give its sha256."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blocks = []
    offset = 0
    for name, array in (rendered.tensors() | supplement.tensors()).items():
        block = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(block)],
        }
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join([len(text).to_bytes(8, "little"), text, *blocks])
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either absent or whole, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_shard_metadata(path: Path) -> dict[str, str]:
    """The metadata of a shard; raises DatasetError for a file that is not a whole shard of ours."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(size) if 2 <= size <= 1 << 20 else b""
    try:
        header = json.loads(text)
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__").items()}
        end = max(int(entry["data_offsets"][1]) for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DatasetError(
            f"{path.name} should be a shard (safetensors). Found another kind of file; remove it."
        ) from None
    if path.stat().st_size != 8 + size + end:
        raise DatasetError(f"{path.name} should have {8 + size + end} bytes. Found {path.stat().st_size}; remove it.")
    if (metadata.get("format"), metadata.get("version")) != ("mien-shard", SHARD_VERSION):
        raise DatasetError(
            f"{path.name} should be a mien-shard of version {SHARD_VERSION}. "
            f"Found {metadata.get('format')!r} {metadata.get('version')!r}."
        )
    return metadata


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
