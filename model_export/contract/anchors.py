"""Anchors: what the features of the training's wearers look like together, so that a wearer's head stays right for free movement.

Axes: F feature, G features and a constant 1 behind them.

A calibration shows movements one by one; life combines them. What a fit changes, d (one column for an output), moves the answers
to free movement of the training's wearers by    mean of (x . d)^2  =  d' S d,    S = mean of x x',    x = (features, 1)
and S is all of that movement that a fit needs: no picture and no wearer can be found in it.

Anchor file versions (safetensors, metadata "format": "mien-anchors")
    1   eye_mean_F, mouth_mean_F float32 [256]; eye_covariance, mouth_covariance float16 [32896], the upper triangle row by row:
        a quarter of the bytes of two whole moments, and a pull needs no more than three digits; metadata format, version, frames.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from model_export.contract.errors import ContractError
from model_export.contract.frames import Camera
from model_export.contract.head import FEATURE_COUNT
from model_export.contract.safetensors_header import pack_metadata, read_metadata

ANCHORS_FILE: Final = "anchors.safetensors"
_FORMAT: Final = "mien-anchors"
_VERSION: Final = 1
_SIDE: Final = FEATURE_COUNT + 1
_TRIANGLE: Final = np.triu_indices(FEATURE_COUNT)


@dataclass(frozen=True, slots=True)
class Anchors:
    """Second moments of the features of free movement, eyes (right ones mirrored) and mouths."""

    eye_moment_GG: NDArray[np.float32]
    """float32 [257, 257], symmetric; the last row and column hold the mean features, their corner is 1."""
    mouth_moment_GG: NDArray[np.float32]
    frames: int
    """Frame sets that they are means of."""

    def __post_init__(self) -> None:
        for name in ("eye_moment_GG", "mouth_moment_GG"):
            moment_GG: NDArray[np.float32] = getattr(self, name)
            if moment_GG.shape != (_SIDE, _SIDE) or moment_GG.dtype != np.float32:
                raise ContractError(
                    f"`{name}` should be float32 {[_SIDE, _SIDE]}. Found {moment_GG.dtype} {list(moment_GG.shape)}."
                )
            if not np.isfinite(moment_GG).all() or not np.allclose(moment_GG, moment_GG.T) or moment_GG[-1, -1] != 1:
                raise ContractError(f"`{name}` should be symmetric with a corner of 1. Found another matrix.")

    def __getitem__(self, camera: Camera) -> NDArray[np.float32]:
        return self.mouth_moment_GG if camera is Camera.MOUTH else self.eye_moment_GG


def moment_of(features_BF: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [257, 257]: the mean of x x' over these features, x with a constant 1 behind it."""
    x_BG = np.concatenate([features_BF, np.ones((len(features_BF), 1), np.float32)], axis=1).astype(np.float64)
    return np.asarray(x_BG.T @ x_BG / len(x_BG), np.float32)


def write_anchors(anchors: Anchors) -> bytes:
    """The anchors as a safetensors file; equal anchors give equal bytes. Raises ContractError for features beyond 250."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for part, moment_GG in (("eye", anchors.eye_moment_GG), ("mouth", anchors.mouth_moment_GG)):
        mean_F = moment_GG[-1, :-1]
        covariance_FF = moment_GG[:-1, :-1].astype(np.float64) - np.outer(mean_F, mean_F)
        with np.errstate(over="ignore"):
            tensors[f"{part}_covariance"] = covariance_FF[_TRIANGLE].astype(np.float16)
        if not np.isfinite(tensors[f"{part}_covariance"]).all():
            raise ContractError(
                f"Features of the {part} should vary by less than 250. Found more; train the bundle again."
            )
        tensors[f"{part}_mean_F"] = np.ascontiguousarray(mean_F)
    return save_safetensors(tensors, pack_metadata({"format": _FORMAT, "version": _VERSION, "frames": anchors.frames}))


def read_anchors(data: bytes) -> Anchors:
    """The anchors in a safetensors file; raises ContractError for another format, version or shape."""
    metadata = read_metadata(data, ContractError)
    found = (metadata.get("format"), metadata.get("version"))
    if found != (_FORMAT, _VERSION):
        raise ContractError(f"Anchors should be of {_FORMAT} version {_VERSION}. Found {found}; compute them again.")
    try:
        tensors = load_safetensors(data)
        eye_GG, mouth_GG = (
            _moment(tensors[f"{part}_mean_F"], tensors[f"{part}_covariance"]) for part in ("eye", "mouth")
        )
        return Anchors(eye_GG, mouth_GG, int(metadata["frames"]))
    except ContractError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ContractError(f"Anchors should hold two moments. Found: {error}; compute them again.") from None


def _moment(mean_F: NDArray[np.float32], covariance: NDArray[np.float16]) -> NDArray[np.float32]:
    mean_G = np.append(mean_F.astype(np.float64), 1.0)
    moment_GG = np.outer(mean_G, mean_G)
    upper_FF = np.zeros((FEATURE_COUNT, FEATURE_COUNT))
    upper_FF[_TRIANGLE] = covariance
    moment_GG[:-1, :-1] += np.triu(upper_FF) + np.triu(upper_FF, 1).T
    return moment_GG.astype(np.float32)
