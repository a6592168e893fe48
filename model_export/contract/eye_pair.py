"""The eye pair: what the two eyes' answers say of each other.

Axes: B frame set, S signal of an eye, X input, A hidden unit.

Eyes look the same way but for vergence (Hering's law of equal innervation), and lids and brows mostly move together. Two cameras
see that from two sides, each with errors of its own, so each eye's signals are read by a small network from both. With v and c
the signals and the confidence of this eye, v' and c' the other's, signals of right eyes mirrored:

    x   = (c v, c' v', c, c')
    out = x @ direct_XS + relu(x @ down_XA + down_bias_A) @ up_AS + bias_S

The same for either eye, so a mirrored face gets mirrored values. Multiplied by its confidence, a covered eye says nothing and is
answered for by the other one. A linear term alone takes a wink for half a blink; the hidden units see that the eyes disagree.

Signals of an eye: the 12 EYE_MOVEMENTS within [0, 1], gaze yaw towards the temple and gaze pitch up in degrees.

Eye pair file versions (safetensors, metadata "format": "mien-eye-pair")
    1   direct_XS float32 [30, 14], down_XA [30, A], down_bias_A [A], up_AS [A, 14], bias_S [14]; metadata format, version,
        frame_sets.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from model_export.contract.arrays import read_arrays, require_float32
from model_export.contract.errors import ContractError
from model_export.contract.expression_units import EYE_MOVEMENTS
from model_export.contract.safetensors_header import pack_metadata

EYE_PAIR_FILE: Final = "eye_pair.safetensors"
EYE_SIGNALS: Final = len(EYE_MOVEMENTS) + 2
"""Signals of one eye: its EUs, gaze yaw, gaze pitch."""
PAIR_INPUTS: Final = 2 * EYE_SIGNALS + 2
FARTHEST_DEG: Final = 90.0
"""Gaze is read and served within this."""
_FORMAT: Final = "mien-eye-pair"
_VERSION: Final = 1
_REMEDY: Final = "run mien eye-pair again"
SIGNAL_RANGE_2S: Final[NDArray[np.float32]] = np.array(
    [[0.0] * len(EYE_MOVEMENTS) + [-FARTHEST_DEG] * 2, [1.0] * len(EYE_MOVEMENTS) + [FARTHEST_DEG] * 2], np.float32
)
"""The least and the most that an eye's signals can be."""


@dataclass(frozen=True, slots=True)
class EyePair:
    """The network that reads both eyes; every array is float32."""

    direct_XS: NDArray[np.float32]
    down_XA: NDArray[np.float32]
    down_bias_A: NDArray[np.float32]
    up_AS: NDArray[np.float32]
    bias_S: NDArray[np.float32]
    frame_sets: int
    """Frame sets that it was learnt from."""

    def __post_init__(self) -> None:
        hidden = self.down_bias_A.size
        shapes = {
            "direct_XS": (PAIR_INPUTS, EYE_SIGNALS),
            "down_XA": (PAIR_INPUTS, hidden),
            "down_bias_A": (hidden,),
            "up_AS": (hidden, EYE_SIGNALS),
            "bias_S": (EYE_SIGNALS,),
        }
        require_float32(self, shapes, ContractError, _REMEDY)

    def both(
        self,
        left_BS: NDArray[np.float32],
        right_BS: NDArray[np.float32],
        confidence_B2: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both eyes' signals float32 [B, 14] as each is seen as a left eye, after they read each other; within their ranges.

        `confidence_B2`: float32 in [0, 1], left eye, right eye.
        """
        left_B1, right_B1 = confidence_B2[:, :1], confidence_B2[:, 1:]
        left_BS, right_BS = left_B1 * in_range(left_BS), right_B1 * in_range(right_BS)
        return (
            self._read(np.concatenate([left_BS, right_BS, left_B1, right_B1], axis=1)),
            self._read(np.concatenate([right_BS, left_BS, right_B1, left_B1], axis=1)),
        )

    def _read(self, x_BX: NDArray[np.float32]) -> NDArray[np.float32]:
        hidden_BA = np.maximum(x_BX @ self.down_XA + self.down_bias_A, 0.0)
        return in_range(x_BX @ self.direct_XS + hidden_BA @ self.up_AS + self.bias_S)


def in_range(signals_BS: NDArray[np.float32]) -> NDArray[np.float32]:
    """An eye's signals [..., 14] within what they can be: EUs in [0, 1], gaze within 90 degrees."""
    return np.clip(signals_BS, *SIGNAL_RANGE_2S)


def write_eye_pair(pair: EyePair) -> bytes:
    """As a safetensors file; equal ones give equal bytes."""
    tensors = {name: np.ascontiguousarray(getattr(pair, name)) for name in _array_names()}
    metadata = {"format": _FORMAT, "version": _VERSION, "frame_sets": pair.frame_sets}
    return save_safetensors(tensors, pack_metadata(metadata))


def read_eye_pair(data: bytes) -> EyePair:
    """What a safetensors file holds; raises ContractError for another format, version or shape."""
    arrays, frame_sets = read_arrays(data, (_FORMAT, _VERSION), _array_names(), "frame_sets", _REMEDY)
    return EyePair(**arrays, frame_sets=frame_sets)


def _array_names() -> list[str]:
    return [field.name for field in fields(EyePair)[:-1]]
