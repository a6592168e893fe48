"""Rendered wearers as memory maps: dataset.json, the shards it lists, and their split by wearer.

Axes: T frame set of a shard, H W image, E expression unit, 4 gaze (left yaw, left pitch, right yaw, right pitch).

Shard versions (safetensors, metadata "format": "mien-shard"; one wearer each)
    1   left_eye, right_eye, mouth uint8 [T, 128, 128] upright, not mirrored; values_TE float32 [T, 56] in [0, 1];
        gaze_T4 float32 [T, 4] degrees; t_ns int64 [T]; fitting_T int32 [T].
    2   also points of the face, eye_points_T2K4 and mouth_points_TK4 float16 (model_export.points), and the face at rest in
        each of F fittings, rest_eyes uint8 [2, F, 128, 128], rest_mouth [F, 128, 128].
Dataset versions (dataset.json, "format": "mien-dataset")
    1   config, rig_sha256, shards: file, sha256, frames, wearer_seed of each.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, EU_COUNT, Camera
from model_export.errors import DataError
from model_export.points import EYE_POINTS, MOUTH_POINTS

DATASET_VERSION: Final = 1
SHARD_VERSION: Final = 2
_DTYPES: Final = {"U8": np.uint8, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}
_LOOKS_OF_THE_SAME_WEARERS: Final = {"frontal": "near", "headset": "near"}
"""Looks that show the wearers of another look: there, equal seeds are one wearer. All other looks have wearers of their own."""
_MAX_HEADER_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One line of dataset.json."""

    path: Path
    sha256: str
    frames: int
    wearer: str
    """Which wearer: the kind of wearers that the look draws, and the seed among them."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One wearer's frame sets; the images are memory maps, so that processes share one copy in the page cache."""

    wearer: str
    left_eye_THW: NDArray[np.uint8]
    right_eye_THW: NDArray[np.uint8]
    mouth_THW: NDArray[np.uint8]
    values_TE: NDArray[np.float32]
    """float32 in [0, 1], order of EU_NAMES: share of this wearer's own range."""
    gaze_T4: NDArray[np.float32]
    """Degrees: left yaw, left pitch, right yaw, right pitch; yaw positive towards the wearer's left, pitch up."""
    eye_points_T2K4: NDArray[np.float16]
    """Points of the face in the left and the right eye's crop, px (model_export.points)."""
    mouth_points_TK4: NDArray[np.float16]
    t_ns: NDArray[np.int64]
    """Capture times, rising."""
    fitting_T: NDArray[np.int32]
    """Index of the fitting (headset, light, look) within the wearer."""
    rest_eyes_2FHW: NDArray[np.uint8]
    """The face at rest in each fitting, left eye then right."""
    rest_mouth_FHW: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.values_TE)

    @property
    def images(self) -> dict[Camera, NDArray[np.uint8]]:
        """All crops, uint8 [T, 128, 128] of each camera."""
        return dict(zip(Camera, (self.left_eye_THW, self.right_eye_THW, self.mouth_THW), strict=True))

    def crops(self, rows_N: NDArray[np.intp]) -> dict[Camera, NDArray[np.uint8]]:
        """The crops of these frame sets, uint8 [N, 128, 128] of each camera."""
        return {camera: image_THW[rows_N] for camera, image_THW in self.images.items()}

    @property
    def rests(self) -> dict[Camera, NDArray[np.uint8]]:
        """The face at rest in each fitting, uint8 [F, 128, 128] of each camera."""
        return dict(zip(Camera, (*self.rest_eyes_2FHW, self.rest_mouth_FHW), strict=True))


def _read_dataset(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        dataset = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{folder} should hold dataset.json, which `mien render` writes last. Found: {error.strerror}. "
            "Let the rendering finish; it resumes where it stopped."
        ) from None
    except ValueError as error:
        raise DataError(f"{path} should be JSON. Found: {error}.") from None
    found = (dataset.get("format"), dataset.get("version")) if isinstance(dataset, dict) else None
    if found != ("mien-dataset", DATASET_VERSION):
        raise DataError(f"{path} should be of format ('mien-dataset', {DATASET_VERSION}). Found {found}.")
    return dict(dataset)


def dataset_config(folder: Path) -> Any:
    """How the wearers in `folder` were rendered, as dataset.json says; JSON values."""
    return _read_dataset(folder).get("config")


def list_shards(folder: Path) -> tuple[ShardEntry, ...]:
    """The shards that `folder`/dataset.json lists, in its order; raises DataError."""
    dataset = _read_dataset(folder)
    look = str((dataset.get("config") or {}).get("look", "train"))
    kind = _LOOKS_OF_THE_SAME_WEARERS.get(look, look)
    entries = tuple(
        ShardEntry(
            folder / entry["file"], str(entry["sha256"]), int(entry["frames"]), f"{kind}-{int(entry['wearer_seed'])}"
        )
        for entry in dataset.get("shards", ())
    )
    if not entries:
        raise DataError(f"{folder / 'dataset.json'} should list one or more shards. Found none.")
    return entries


def open_shard(entry: ShardEntry) -> Shard:
    """The shard as memory maps; checks format, shapes and types, not the digest (see `check_digest`)."""
    try:
        with entry.path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= _MAX_HEADER_BYTES else {}
        data = np.memmap(entry.path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise DataError(f"{entry.path} should be a shard in safetensors form. Found: {error}.") from None
    metadata = header.pop("__metadata__", {})
    found = (metadata.get("format"), metadata.get("version"))
    if found != ("mien-shard", str(SHARD_VERSION)):
        raise DataError(f"{entry.path} should be of format ('mien-shard', '{SHARD_VERSION}'). Found {found}.")

    def tensor(name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        return _tensor(entry, header.get(name, {}), data[8 + size :], name, (shape, dtype))

    fitting_T = np.array(tensor("fitting_T", (entry.frames,), "I32"))
    fittings = int(fitting_T.max(initial=-1)) + 1
    image = (entry.frames, CROP_SIZE_PX, CROP_SIZE_PX)
    return Shard(
        entry.wearer,
        tensor("left_eye", image, "U8"),
        tensor("right_eye", image, "U8"),
        tensor("mouth", image, "U8"),
        np.array(tensor("values_TE", (entry.frames, EU_COUNT), "F32")),
        np.array(tensor("gaze_T4", (entry.frames, 4), "F32")),
        tensor("eye_points_T2K4", (entry.frames, 2, EYE_POINTS, 4), "F16"),
        tensor("mouth_points_TK4", (entry.frames, MOUTH_POINTS, 4), "F16"),
        np.array(tensor("t_ns", (entry.frames,), "I64")),
        fitting_T,
        tensor("rest_eyes", (2, fittings, *image[1:]), "U8"),
        tensor("rest_mouth", (fittings, *image[1:]), "U8"),
    )


def _tensor(
    entry: ShardEntry,
    found: dict[str, Any],
    data: NDArray[np.uint8],
    name: str,
    expected: tuple[tuple[int, ...], str],
) -> NDArray[Any]:
    shape, dtype = expected
    if found.get("dtype") != dtype or tuple(found.get("shape", ())) != shape:
        raise DataError(
            f"`{name}` of {entry.path} should be {dtype} {list(shape)}. "
            f"Found {found.get('dtype')} {found.get('shape')}. Render this wearer again."
        )
    first, last = (int(offset) for offset in found["data_offsets"])
    count = int(np.prod(shape))
    if last - first != count * np.dtype(_DTYPES[dtype]).itemsize or not 0 <= first <= last <= len(data):
        raise DataError(f"{entry.path} is cut off: `{name}` should end at byte {last}. Found {len(data)} bytes.")
    return np.frombuffer(data, _DTYPES[dtype], count, first).reshape(shape)


def check_digest(entry: ShardEntry) -> None:
    """Reads the whole shard; raises DataError when it is not the one that dataset.json lists."""
    with entry.path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != entry.sha256:
        raise DataError(
            f"{entry.path} should have sha256 {entry.sha256[:12]}. Found {found[:12]}. Render this wearer again."
        )


def values_mean(entries: Sequence[ShardEntry]) -> NDArray[np.float64]:
    """Mean value of each EU over these shards: what an estimator that sees nothing should say."""
    values_TE = np.concatenate([open_shard(entry).values_TE for entry in entries])
    return np.asarray(values_TE.mean(0, dtype=np.float64))


def data_digest(entries: Sequence[ShardEntry]) -> str:
    """sha256 over the digests of these shards: which data a network has seen."""
    return hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()


def split_wearers(
    entries: Sequence[ShardEntry], held_out: float
) -> tuple[tuple[ShardEntry, ...], tuple[ShardEntry, ...]]:
    """Shards to train on and shards of other wearers to judge on; a wearer is never in both.

    Wearers are ordered by a hash of their name, and the first `held_out` share of them, at least one, is held out: the
    same wearers in every run. 0 holds out none.
    """
    if not 0 <= held_out < 1:
        raise DataError(f"`held_out` should be a share in [0, 1). Found {held_out}.")
    if held_out == 0:
        return tuple(entries), ()
    wearers = sorted({entry.wearer for entry in entries}, key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(wearers) < 2:
        raise DataError(f"Holding out a wearer needs 2 wearers or more. Found {len(wearers)}. Render more.")
    unseen = set(wearers[: min(max(1, round(held_out * len(wearers))), len(wearers) - 1)])
    return (
        tuple(entry for entry in entries if entry.wearer not in unseen),
        tuple(entry for entry in entries if entry.wearer in unseen),
    )
