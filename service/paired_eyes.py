"""The eye pair (model_export.contract.eye_pair) as the inference thread computes it: both eyes at once, in memory of its own.

Axes: 2 eye (left, right), X input, A hidden unit, S signal (of an eye, or all 60), Y hidden units and, beside them, signals.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EYE_MOVEMENTS
from model_export.contract.eye_pair import EYE_SIGNALS, PAIR_INPUTS, EyePair
from model_export.contract.frames import Camera
from service.signals import HIGHEST_S, LOWEST_S, REGION_SIGNALS

_LEFT, _RIGHT = REGION_SIGNALS[Camera.LEFT_EYE], REGION_SIGNALS[Camera.RIGHT_EYE]
_YAW: Final = len(EYE_MOVEMENTS)
"""Signal of an eye: towards the wearer's left as served, towards the temple as the pair reads it."""


class PairedEyes:
    """Reads the signals of two eyes that were seen together; for one thread."""

    def __init__(self, pair: EyePair) -> None:
        hidden = pair.down_bias_A.size
        self._first_XY = np.concatenate([pair.down_XA, pair.direct_XS], axis=1)
        self._bias_Y = np.concatenate([pair.down_bias_A, pair.bias_S])
        self._up_AS = pair.up_AS
        self._x_2X = np.zeros((2, PAIR_INPUTS), np.float32)
        self._first_2Y = np.zeros((2, hidden + EYE_SIGNALS), np.float32)
        self._hidden_2A, self._direct_2S = self._first_2Y[:, :hidden], self._first_2Y[:, hidden:]
        self._more_2S, self._eyes_2S = np.zeros((2, 2, EYE_SIGNALS), np.float32)
        self._lowest_S, self._highest_S = LOWEST_S[_LEFT], HIGHEST_S[_LEFT]

    def apply(self, signals_S: NDArray[np.float32], left: float, right: float) -> None:
        """In place, of all 60 signals; `left` and `right` are the eyes' confidences. Some 20 us."""
        eyes_2S, x_2X = self._eyes_2S, self._x_2X
        eyes_2S[0], eyes_2S[1] = signals_S[_LEFT], signals_S[_RIGHT]
        eyes_2S[1, _YAW] *= -1
        for own, (confidence, other) in enumerate(((left, right), (right, left))):
            np.multiply(eyes_2S[own], confidence, out=x_2X[own, :EYE_SIGNALS])
            x_2X[1 - own, EYE_SIGNALS:-2] = x_2X[own, :EYE_SIGNALS]
            x_2X[own, -2:] = confidence, other
        np.matmul(x_2X, self._first_XY, out=self._first_2Y)
        np.add(self._first_2Y, self._bias_Y, out=self._first_2Y)
        np.maximum(self._hidden_2A, 0.0, out=self._hidden_2A)
        np.matmul(self._hidden_2A, self._up_AS, out=self._more_2S)
        np.add(self._direct_2S, self._more_2S, out=eyes_2S)
        np.minimum(eyes_2S, self._highest_S, out=eyes_2S)
        np.maximum(eyes_2S, self._lowest_S, out=eyes_2S)
        eyes_2S[1, _YAW] *= -1
        signals_S[_LEFT], signals_S[_RIGHT] = eyes_2S
