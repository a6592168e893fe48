"""The bundle: backbones, universal head, names, digests and golden vectors, in one folder that is checked or refused.

Axes: B batch, H W image, F feature, O head output.

Bundle versions (bundle.json, "format": "mien-bundle")
    1   eye.onnx, mouth.onnx: input "pixels" uint8 [batch, 128, 128], output "features" float32 [batch, 256], normalisation
        inside the graph, the right eye mirrored by the caller; head.safetensors; golden.safetensors; bundle.json names the
        EU set and its names, the cameras' crops, the opset, the sha256 and size of each other file, and how it was trained.
    2   anchors.safetensors may stand beside them: moments of features of others, for fits of calibrations.
    3   so may resting.safetensors (model_export.contract.resting).
    4   "features" float32 [batch, 1280]: the map behind the last layer's (model_export.contract.head). No anchors: what is
        fitted to the map needs none. Bundles of versions 1 to 3 are refused, for they lack the map.
    5   eye_pair.safetensors may stand beside them (model_export.contract.eye_pair).
    6   a second input "neutral" float32 [batch, 1024]: the map that the last layer compares the crop's with, zeros for none; each
        golden crop is compared with the map of the one before it, the first with nothing. Bundles of versions 1 to 5 are refused,
        for they compare nothing.

What needs a session (golden features, the graph's own input and output shapes) is checked by model_export.runtime.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from model_export.contract.errors import BundleError, ContractError, HeadError
from model_export.contract.expression_units import EU_NAMES, EU_SET_VERSION
from model_export.contract.eye_pair import EYE_PAIR_FILE, EyePair, read_eye_pair, write_eye_pair
from model_export.contract.frames import CROP_SIZE_PX, CROP_SPAN_CM, Camera
from model_export.contract.head import FEATURE_COUNT, LAST_COUNT, OUTPUT_COUNT, Head, read_head, write_head
from model_export.contract.onnx_header import read_onnx_header
from model_export.contract.resting import RESTING_FILE, Resting, read_resting, write_resting

BUNDLE_FORMAT: Final = "mien-bundle"
BUNDLE_VERSION: Final = 6
OPSETS: Final = range(17, 25)
"""Operator sets that a bundle may use: what torch exports and the pinned onnxruntime runs."""
GOLDEN_TOLERANCE: Final = 1e-4
"""Largest difference between golden vectors and this machine's answer, features and head outputs alike."""
MAX_FILE_BYTES: Final = 64 << 20
"""Far above any bundle of ours (3 MB); keeps a wrong path from filling memory."""

_CROPS: Final = {
    camera.label: {"size_px": CROP_SIZE_PX, "span_cm": CROP_SPAN_CM[camera], "mirrored": camera is Camera.RIGHT_EYE}
    for camera in Camera
}
_Part = TypeVar("_Part")
_FILES: Final = ("eye.onnx", "mouth.onnx", "head.safetensors", "golden.safetensors")


@dataclass(frozen=True, slots=True)
class Golden:
    """Crops with the answers that the exporter saw, so that a wrong runtime or a damaged file shows."""

    eye_pixels_BHW: NDArray[np.uint8]
    """uint8 [B, 128, 128], as an eye backbone sees them (a right eye already mirrored)."""
    mouth_pixels_BHW: NDArray[np.uint8]
    """uint8 [B, 128, 128]."""
    eye_features_BF: NDArray[np.float32]
    mouth_features_BF: NDArray[np.float32]
    eye_out_BO: NDArray[np.float32]
    """Raw outputs of the universal head's left_eye region."""
    mouth_out_BO: NDArray[np.float32]

    def __post_init__(self) -> None:
        for part in ("eye", "mouth"):
            pixels, features, out = (
                getattr(self, f"{part}_{name}") for name in ("pixels_BHW", "features_BF", "out_BO")
            )
            count = len(pixels)
            outputs = OUTPUT_COUNT[Camera.LEFT_EYE if part == "eye" else Camera.MOUTH]
            for array, shape, dtype in (
                (pixels, (count, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8),
                (features, (count, FEATURE_COUNT), np.float32),
                (out, (count, outputs), np.float32),
            ):
                if not count or array.shape != shape or array.dtype != dtype:
                    raise BundleError(
                        "golden.safetensors",
                        f"{part} should hold one or more {np.dtype(dtype)} {list(shape)}. "
                        f"Found {array.dtype} {list(array.shape)}.",
                    )


def golden_neutral(features_BF: NDArray[np.float32]) -> NDArray[np.float32]:
    """What golden crops with these features are compared with, [B, 1024]: the map of the one before, the first with nothing."""
    map_BM = features_BF[:, LAST_COUNT:]
    return np.concatenate([np.zeros_like(map_BM[:1]), map_BM[:-1]])


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files agree with each other; backbones are still bytes."""

    name: str
    eye_onnx: bytes
    mouth_onnx: bytes
    head: Head
    golden: Golden
    training: Mapping[str, Any]
    """How it was trained: configuration, data hash, metrics, code revision; JSON values only."""
    digest: str = ""
    """sha256 of bundle.json, which holds the sha256 of every other file; "" while a bundle is being made."""
    resting: Resting | None = None
    """What a wearer's face at rest tells; None in bundles that were written without."""
    eye_pair: EyePair | None = None
    """What the eyes' answers say of each other; None in bundles that were written without."""

    @property
    def backbone_digest(self) -> str:
        """sha256 over both backbones: what a head depends on."""
        return _backbone_digest(self.eye_onnx, self.mouth_onnx)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _backbone_digest(eye_onnx: bytes, mouth_onnx: bytes) -> str:
    return _sha256(hashlib.sha256(eye_onnx).digest() + hashlib.sha256(mouth_onnx).digest())


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Writes a bundle folder and reads it back; what cannot be read back never stands under `folder`.

    The head gets the backbones' digest, the bundle its own. An existing bundle at `folder` is replaced. Raises BundleError.
    """
    head, golden = bundle.head, bundle.golden
    head = Head(head.left_eye, head.right_eye, head.mouth, bundle.backbone_digest, report=head.report)
    files = {
        "eye.onnx": bundle.eye_onnx,
        "mouth.onnx": bundle.mouth_onnx,
        "head.safetensors": write_head(head),
        "golden.safetensors": save_safetensors(
            {part: np.ascontiguousarray(getattr(golden, part)) for part in (field.name for field in fields(Golden))}
        ),
    }
    if bundle.resting is not None:
        files[RESTING_FILE] = write_resting(bundle.resting)
    if bundle.eye_pair is not None:
        files[EYE_PAIR_FILE] = write_eye_pair(bundle.eye_pair)
    manifest = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "name": bundle.name,
        "eu_set": EU_SET_VERSION,
        "eu_names": EU_NAMES,
        "crops": _CROPS,
        "feature_count": FEATURE_COUNT,
        "opset": read_onnx_header(bundle.eye_onnx).opset,
        "files": {file: {"sha256": _sha256(data), "bytes": len(data)} for file, data in files.items()},
        "training": bundle.training,
    }
    files["bundle.json"] = (json.dumps(manifest) + "\n").encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        for file, data in files.items():
            with (staging / file).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        written = read_bundle(staging)
        if folder.exists():
            shutil.rmtree(folder)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return written


def read_bundle(folder: Path, *, with_others: bool = True) -> Bundle:
    """The bundle in a folder; raises BundleError naming the file whose digest, shape, name or opset does not agree.

    Without `with_others` what it learnt from others (rests, eye pairs) is passed over, to be made anew.
    """
    manifest_bytes = _read(folder, "bundle.json")
    try:
        manifest = json.loads(manifest_bytes)
        entries = {str(file): (str(entry["sha256"]), int(entry["bytes"])) for file, entry in manifest["files"].items()}
        name, training, opset = str(manifest["name"]), dict(manifest["training"]), int(manifest["opset"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError("bundle.json", f"expected a bundle description. Found one that lacks {error}.") from None
    for key, expected in (
        ("format", (BUNDLE_FORMAT,)),
        ("version", (BUNDLE_VERSION,)),
        ("eu_set", (EU_SET_VERSION,)),
        ("eu_names", (list(EU_NAMES),)),
        ("crops", (_CROPS,)),
        ("feature_count", (FEATURE_COUNT,)),
    ):
        if manifest.get(key) not in expected:
            wanted = " or ".join(map(repr, expected))
            raise BundleError(
                "bundle.json", f"`{key}` should be {wanted}. Found {manifest.get(key)!r}. Export the bundle again."
            )
    files = {file: _read_checked(folder, file, entries) for file in _FILES}
    resting = _read_optional(folder, RESTING_FILE, entries, read_resting) if with_others else None
    eye_pair = _read_optional(folder, EYE_PAIR_FILE, entries, read_eye_pair) if with_others else None
    for file in ("eye.onnx", "mouth.onnx"):
        _check_onnx(file, files[file], opset)
    try:
        head = read_head(files["head.safetensors"])
    except HeadError as error:
        raise BundleError("head.safetensors", str(error)) from None
    bundle = Bundle(
        name=name,
        eye_onnx=files["eye.onnx"],
        mouth_onnx=files["mouth.onnx"],
        head=head,
        golden=_read_golden(files["golden.safetensors"]),
        training=training,
        digest=_sha256(manifest_bytes),
        resting=resting,
        eye_pair=eye_pair,
    )
    if head.backbone_digest != bundle.backbone_digest:
        raise BundleError(
            "head.safetensors",
            f"was fitted for backbones {head.backbone_digest[:12]}. Found {bundle.backbone_digest[:12]}. Export again.",
        )
    _check_golden_head(bundle)
    return bundle


def _read(folder: Path, file: str) -> bytes:
    path = folder / file
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BundleError(file, f"should be readable in {folder}. Found: {error.strerror}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise BundleError(file, f"should have at most {MAX_FILE_BYTES} bytes. Found more.")
    return data


def _read_checked(folder: Path, file: str, entries: Mapping[str, tuple[str, int]]) -> bytes:
    if file not in entries:
        raise BundleError("bundle.json", f"should list {file} with its sha256. Found {sorted(entries)}.")
    sha256, size = entries[file]
    data = _read(folder, file)
    if len(data) != size or _sha256(data) != sha256:
        raise BundleError(
            file,
            f"should have {size} bytes and sha256 {sha256[:12]}, as bundle.json says. "
            f"Found {len(data)} bytes and {_sha256(data)[:12]}. The file is damaged; copy the bundle again.",
        )
    return data


def _read_optional(
    folder: Path, file: str, entries: Mapping[str, tuple[str, int]], read: Callable[[bytes], _Part]
) -> _Part | None:
    """What a file holds that a bundle may do without; None where it is not listed."""
    if file not in entries:
        return None
    data = _read_checked(folder, file, entries)
    try:
        return read(data)
    except ContractError as error:
        raise BundleError(file, str(error)) from None


def _check_onnx(file: str, data: bytes, opset: int) -> None:
    try:
        header = read_onnx_header(data)
    except ValueError as error:
        raise BundleError(file, f"should be a whole ONNX model. Found {error}.") from None
    if header.opset != opset or header.opset not in OPSETS:
        raise BundleError(
            file,
            f"should use operator set {opset}, as bundle.json says, within {OPSETS.start} to {OPSETS.stop - 1}. "
            f"Found {header.opset}.",
        )
    if header.has_external_data:
        raise BundleError(file, "should hold its own weights. Found a tensor that points to another file.")
    try:
        names = json.loads(header.metadata.get("blendshape_names", "null"))
    except ValueError:
        names = None
    if names != list(EU_NAMES):
        raise BundleError(
            file, f"metadata `blendshape_names` should be the {len(EU_NAMES)} names of EU set 1, in order."
        )


def _read_golden(data: bytes) -> Golden:
    try:
        return Golden(**load_safetensors(data))
    except (SafetensorError, TypeError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError("golden.safetensors", f"should hold the golden vectors. Found: {error}.") from None


def _check_golden_head(bundle: Bundle) -> None:
    golden, head = bundle.golden, bundle.head
    for part, region, features_BF, out_BO in (
        ("eye", head.left_eye, golden.eye_features_BF, golden.eye_out_BO),
        ("mouth", head.mouth, golden.mouth_features_BF, golden.mouth_out_BO),
    ):
        difference = float(np.abs(region.apply(features_BF) - out_BO).max())
        if not difference <= GOLDEN_TOLERANCE:
            raise BundleError(
                "head.safetensors",
                f"should give the golden {part} outputs within {GOLDEN_TOLERANCE:g}. Found {difference:g} off.",
            )
