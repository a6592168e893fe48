"""The eye pair (model_export.contract.eye_pair) as the inference thread computes it: both eyes in two products.

Axes: P signal of the two eyes, as they stand in front of the 60 (service.signals); X input, that is P and the two confidences;
B hidden units of both eyes; Y these and, beside them, P; A and S of one eye, as in the contract.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EYE_MOVEMENTS
from model_export.contract.eye_pair import EYE_SIGNALS, PAIR_INPUTS, EyePair
from service.signals import HIGHEST_S, LOWEST_S

BOTH_EYES: Final = 2 * EYE_SIGNALS
"""Signals of the two eyes."""
_RIGHT_YAW: Final = EYE_SIGNALS + len(EYE_MOVEMENTS)
"""Served towards the wearer's left, read by the pair towards the temple; the sign is folded into the matrices."""
_OTHER_WAY: Final = np.concatenate(
    [np.arange(EYE_SIGNALS, BOTH_EYES), np.arange(EYE_SIGNALS), [BOTH_EYES + 1, BOTH_EYES]]
)
"""A right eye's inputs in the order of the left eye's: own, other, own confidence, other's."""


class PairedEyes:
    """Reads the signals of two eyes that were seen together; for one thread."""

    def __init__(self, pair: EyePair) -> None:
        hidden = pair.down_bias_A.size
        into_X = np.ones((PAIR_INPUTS, 1), np.float32)
        into_X[_RIGHT_YAW] = -1
        out_P = np.ones(BOTH_EYES, np.float32)
        out_P[_RIGHT_YAW] = -1
        down_XB = np.concatenate([pair.down_XA, pair.down_XA[_OTHER_WAY]], axis=1)
        direct_XP = np.concatenate([pair.direct_XS, pair.direct_XS[_OTHER_WAY]], axis=1) * out_P
        self._first_XY = np.ascontiguousarray(np.concatenate([down_XB, direct_XP], axis=1) * into_X)
        self._bias_Y = np.concatenate([np.tile(pair.down_bias_A, 2), np.tile(pair.bias_S, 2) * out_P])
        self._up_BP = np.zeros((2 * hidden, BOTH_EYES), np.float32)
        self._up_BP[:hidden, :EYE_SIGNALS] = self._up_BP[hidden:, EYE_SIGNALS:] = pair.up_AS
        self._up_BP *= out_P
        self._x_X = np.zeros(PAIR_INPUTS, np.float32)
        self._sure_P = np.zeros(BOTH_EYES, np.float32)
        self._first_Y = np.zeros(2 * hidden + BOTH_EYES, np.float32)
        self._hidden_B, self._eyes_P = self._first_Y[: 2 * hidden], self._first_Y[2 * hidden :]
        self._more_P = np.zeros(BOTH_EYES, np.float32)
        self._lowest_P, self._highest_P = LOWEST_S[:BOTH_EYES], HIGHEST_S[:BOTH_EYES]

    def read(self, own_P: NDArray[np.float32], left: float, right: float) -> NDArray[np.float32]:
        """Both eyes' signals, of what each says itself and their confidences; the array is the next call's, too."""
        x_X = self._x_X
        self._sure_P[:EYE_SIGNALS], self._sure_P[EYE_SIGNALS:] = left, right
        np.multiply(own_P, self._sure_P, out=x_X[:BOTH_EYES])
        x_X[BOTH_EYES], x_X[BOTH_EYES + 1] = left, right
        np.dot(x_X, self._first_XY, self._first_Y)
        np.add(self._first_Y, self._bias_Y, out=self._first_Y)
        np.maximum(self._hidden_B, 0.0, out=self._hidden_B)
        np.dot(self._hidden_B, self._up_BP, self._more_P)
        np.add(self._eyes_P, self._more_P, out=self._more_P)
        np.minimum(self._more_P, self._highest_P, out=self._more_P)
        return np.maximum(self._more_P, self._lowest_P, out=self._more_P)
