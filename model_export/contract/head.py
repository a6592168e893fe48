"""The head: the small trainable part that turns the features of a crop into expression units.

Axes: B batch, F feature, A adapter, O output, M feature of the map. A backbone gives 1,280 features for a crop: f, the 256 of its
last layer, and behind them m, the 1,024 of the map (16 channels at 8x8) that its last layer reads. The last layer reads it beside
the map of the same face at rest, where that is known (`Head.neutral`); the map knows nothing of that. For each region:

    adapted = f + relu(f @ down_FA + down_bias_A) @ up_AF        (a residual bottleneck adapter, Houlsby 2019)
    out     = adapted @ weight_FO + m @ map_MO + bias_O          (one fused linear layer for all EUs)

Only heads fitted to a wearer read the map: the last layer keeps of it what faces have in common, and that is all that a
universal head needs.

Outputs of an eye region: the 12 EYE_MOVEMENTS, gaze yaw towards the temple and gaze pitch up in degrees, a confidence logit.
Outputs of the mouth region: the 32 MOUTH_EUS, a confidence logit. An EU value is clip(out, 0, 1), a confidence sigmoid(out).

Head file versions (safetensors, metadata "format": "mien-head")
    1   tensors "<region>.<part>"; metadata format, version, eu_set, backbone_digest, head_version, parent, report.
    2   also "<region>.rest_F" of the cameras whose face at rest the offsets are for (contract.resting). Heads that know none are
        written as version 1.
    3   also "<region>.map_MO" of the regions that read the map, "<region>.reference_M" and "<region>.slip" float32 [4] of the
        cameras whose slip is known (model_export.contract.slip). Heads without any are written as version 2 or 1.
    4   also "<region>.neutral_M" of the cameras whose frames are compared. Heads without any are written as before.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from model_export.contract.arrays import require_float32
from model_export.contract.errors import HeadError
from model_export.contract.expression_units import EU_SET_VERSION, EYE_MOVEMENTS, MOUTH_EUS
from model_export.contract.frames import CROP_SIZE_PX, Camera
from model_export.contract.safetensors_header import pack_metadata, read_metadata
from model_export.contract.slip import Slip

HEAD_FORMAT: Final = "mien-head"
HEAD_VERSION: Final = 4
LAST_COUNT: Final = 256
"""Features of a backbone's last layer."""
MAP_COUNT: Final = 1024
"""Features of the map that the last layer reads: 16 channels of 8x8, channel by channel, row by row."""
FEATURE_COUNT: Final = LAST_COUNT + MAP_COUNT
"""All that a backbone gives for a crop, in this order."""
OUTPUT_COUNT: Final = {
    Camera.LEFT_EYE: len(EYE_MOVEMENTS) + 3,
    Camera.RIGHT_EYE: len(EYE_MOVEMENTS) + 3,
    Camera.MOUTH: len(MOUTH_EUS) + 1,
}
"""Numbers that a head gives for each region: EUs, then gaze yaw and pitch (eyes only), then the confidence logit."""


@dataclass(frozen=True, slots=True)
class RegionHead:
    """Adapter and fused linear layer of one region; every array is float32."""

    down_FA: NDArray[np.float32]
    down_bias_A: NDArray[np.float32]
    up_AF: NDArray[np.float32]
    weight_FO: NDArray[np.float32]
    bias_O: NDArray[np.float32]
    map_MO: NDArray[np.float32] | None = None
    """None in heads that do not read the map."""

    def __post_init__(self) -> None:
        adapter, output = self.down_bias_A.size, self.bias_O.size
        expected: dict[str, tuple[int, ...]] = {
            "down_FA": (LAST_COUNT, adapter),
            "down_bias_A": (adapter,),
            "up_AF": (adapter, LAST_COUNT),
            "weight_FO": (LAST_COUNT, output),
            "bias_O": (output,),
        }
        if self.map_MO is not None:
            expected["map_MO"] = (MAP_COUNT, output)
        require_float32(self, expected, HeadError, "fit the head again")

    def apply(self, features_BF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw outputs float32 [B, O], neither clipped nor squashed, of float32 [B, 1280]; 256 do where the map is not read."""
        last_BF = features_BF[:, :LAST_COUNT]
        hidden_BA = np.maximum(last_BF @ self.down_FA + self.down_bias_A, 0.0)
        out_BO: NDArray[np.float32] = (last_BF + hidden_BA @ self.up_AF) @ self.weight_FO + self.bias_O
        if self.map_MO is not None:
            out_BO += features_BF[:, LAST_COUNT:] @ self.map_MO
        return out_BO


@dataclass(frozen=True, slots=True)
class Head:
    """The heads of the three regions, and where they come from."""

    left_eye: RegionHead
    right_eye: RegionHead
    mouth: RegionHead
    backbone_digest: str
    """Of the backbones whose features this head reads (Bundle.backbone_digest); "" while a bundle is being made."""
    head_version: int = 0
    """0 is a bundle's universal head; a wearer's heads count up from 1."""
    parent: int | None = None
    """Version that this head was fitted from."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What held-out takes said of it; JSON values only."""
    rest: Mapping[Camera, NDArray[np.float32]] = field(default_factory=dict)
    """The last layer's features [256] of the face at rest that a camera's offsets are for; none where they are for all faces."""
    neutral: Mapping[Camera, NDArray[np.float32]] = field(default_factory=dict)
    """The map [1024] of the face at rest, or the mean of its maps in use, that a camera's frames are compared with."""
    reference: Mapping[Camera, NDArray[np.float32]] = field(default_factory=dict)
    """The map [1024] of the face at rest as it sat in a camera's crop when the head was fitted: what a slip is measured from."""
    slip: Mapping[Camera, Slip] = field(default_factory=dict)
    """How far the face has moved from there since: a camera's crops are cut so that it is in its place again."""

    def __post_init__(self) -> None:
        for name, count in (("rest", LAST_COUNT), ("neutral", MAP_COUNT), ("reference", MAP_COUNT)):
            for camera, array in getattr(self, name).items():
                if array.shape != (count,) or array.dtype != np.float32 or not np.isfinite(array).all():
                    raise HeadError(
                        f"`{name}` of {camera.label} should be {count} finite float32. "
                        f"Found {array.dtype} {list(array.shape)}, or NaN."
                    )
        for camera, slip in self.slip.items():
            if not (np.isfinite(astuple(slip)).all() and slip.length_px < CROP_SIZE_PX and 0.5 < slip.scale < 2):
                raise HeadError(
                    f"`slip` of {camera.label} should be of a face that is still in the crop. Found {slip}."
                )
        for camera in Camera:
            found, expected = self[camera].bias_O.size, OUTPUT_COUNT[camera]
            if found != expected:
                raise HeadError(f"The head of {camera.label} should give {expected} outputs. Found {found}.")

    def __getitem__(self, camera: Camera) -> RegionHead:
        return (self.left_eye, self.right_eye, self.mouth)[camera]


_REST: Final = "rest_F"
_MAP: Final = "map_MO"
_NEUTRAL: Final = "neutral_M"
_REFERENCE: Final = "reference_M"
_SLIP: Final = "slip"
_PARTS: Final = tuple(part.name for part in fields(RegionHead) if part.name != _MAP)


def write_head(head: Head) -> bytes:
    """The head as a safetensors file; equal heads give equal bytes."""
    tensors = {
        f"{camera.label}.{part}": np.ascontiguousarray(getattr(head[camera], part))
        for camera in Camera
        for part in _PARTS
    }
    tensors |= {f"{camera.label}.{_REST}": np.ascontiguousarray(rest_F) for camera, rest_F in head.rest.items()}
    maps = {camera: map_MO for camera in Camera if (map_MO := head[camera].map_MO) is not None}
    tensors |= {f"{camera.label}.{_MAP}": np.ascontiguousarray(map_MO) for camera, map_MO in maps.items()}
    tensors |= {f"{camera.label}.{_NEUTRAL}": np.ascontiguousarray(map_M) for camera, map_M in head.neutral.items()}
    tensors |= {f"{camera.label}.{_REFERENCE}": np.ascontiguousarray(map_M) for camera, map_M in head.reference.items()}
    tensors |= {f"{camera.label}.{_SLIP}": np.array(astuple(slip), np.float32) for camera, slip in head.slip.items()}
    needs = ((HEAD_VERSION, head.neutral), (3, maps or head.reference or head.slip), (2, head.rest))
    metadata = {
        "format": HEAD_FORMAT,
        "version": next((version for version, needed in needs if needed), 1),
        "eu_set": EU_SET_VERSION,
        "backbone_digest": head.backbone_digest,
        "head_version": head.head_version,
        "parent": head.parent,
        "report": dict(head.report),
    }
    return save_safetensors(tensors, pack_metadata(metadata))


def read_head(data: bytes) -> Head:
    """The head in a safetensors file; raises HeadError for another format, version, EU set or shape."""
    metadata = read_metadata(data, HeadError)
    for key, accepted in (
        ("format", (HEAD_FORMAT,)),
        ("version", tuple(range(1, HEAD_VERSION + 1))),
        ("eu_set", (EU_SET_VERSION,)),
    ):
        if metadata.get(key) not in accepted:
            expected = " or ".join(repr(value) for value in accepted)
            raise HeadError(f"Head metadata `{key}` should be {expected}. Found {metadata.get(key)!r}.")
    try:
        tensors = load_safetensors(data)
        regions = [
            RegionHead(
                **{part: tensors[f"{camera.label}.{part}"] for part in _PARTS},
                map_MO=tensors.get(f"{camera.label}.{_MAP}"),
            )
            for camera in Camera
        ]
        parent = metadata["parent"]
        return Head(
            left_eye=regions[0],
            right_eye=regions[1],
            mouth=regions[2],
            backbone_digest=str(metadata["backbone_digest"]),
            head_version=int(metadata["head_version"]),
            parent=None if parent is None else int(parent),
            report=dict(metadata["report"]),
            rest=_of_cameras(tensors, _REST),
            neutral=_of_cameras(tensors, _NEUTRAL),
            reference=_of_cameras(tensors, _REFERENCE),
            slip={camera: Slip(*map(float, slip)) for camera, slip in _of_cameras(tensors, _SLIP).items()},
        )
    except KeyError as missing:
        raise HeadError(
            f"A head should hold {missing}. It is not in this file; export or fit the head again."
        ) from None
    except HeadError:
        raise
    except (SafetensorError, ValueError, TypeError) as error:
        raise HeadError(f"A head should be a whole safetensors file. Found one that cannot be read: {error}.") from None


def _of_cameras(tensors: Mapping[str, NDArray[np.float32]], part: str) -> dict[Camera, NDArray[np.float32]]:
    return {camera: tensors[f"{camera.label}.{part}"] for camera in Camera if f"{camera.label}.{part}" in tensors}
