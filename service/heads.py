"""The heads in use: which one answers for a wearer, and its arithmetic folded into two products.

Axes: F feature, M feature of the map, A adapter, O output, X adapter and output side by side, S signal.

With the adapter's relu taken apart, a head (model_export.contract.head)

    out = (f + relu(f D + d) U) W + b     is     out = (f W + b) + relu(f D + d) (U W)

so that f is multiplied once, by [D | W], and U W is computed when the head comes in: 5 array operations a region instead of 8,
equal up to rounding (about 1e-6). Heads that read the map add one more product.
"""

from collections.abc import Mapping
from math import exp
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.errors import HeadError
from model_export.contract.frames import Camera
from model_export.contract.head import LAST_COUNT, Head, RegionHead
from service.signals import HIGHEST_S, LOWEST_S, REGION_SIGNALS

_YAW: Final = -3
"""Column of an eye's yaw, positive towards the temple: of the left eye that is the wearer's left, of the right eye the right."""
_MAX_LOGIT: Final = 60.0
"""exp() of more would overflow far beyond any difference in confidence."""


class Heads:
    """The head of each wearer; a swap replaces one reference, between two frames, and nothing waits for it.

    `current` may be called from any thread, `swap` and `forget` from one thread at a time.
    """

    def __init__(self, universal: Head) -> None:
        self._universal = FoldedHead(universal)
        self._of_wearer: Mapping[str, FoldedHead] = {}

    def current(self, wearer: str) -> Head:
        """The head that answers for this wearer from the next frame set on; the bundle's, where there is no own one."""
        return self.folded(wearer).head

    def folded(self, wearer: str) -> "FoldedHead":
        """The same, ready for the inference thread."""
        return self._of_wearer.get(wearer, self._universal)

    def swap(self, wearer: str, head: Head) -> Head:
        """Makes `head` this wearer's and gives the one it replaces; costs 0.1 ms here, nothing on the inference thread.

        Raises HeadError when the head was fitted on the features of other backbones.
        """
        expected, found = self._universal.head.backbone_digest, head.backbone_digest
        if found != expected:
            raise HeadError(
                f"The head of {wearer!r} should be fitted for backbones {expected[:12]}. Found {found[:12] or 'none'}. "
                "Calibrate again with the bundle in use."
            )
        before = self.current(wearer)
        self._of_wearer = {**self._of_wearer, wearer: FoldedHead(head)}
        return before

    def forget(self, wearer: str) -> None:
        """The bundle's head answers for this wearer again."""
        self._of_wearer = {name: head for name, head in self._of_wearer.items() if name != wearer}


class FoldedHead:
    """A head as the inference thread computes it, with its own scratch memory: for that one thread."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._regions = tuple(_FoldedRegion(camera, head[camera]) for camera in Camera)

    def apply(self, camera: Camera, features_F: NDArray[np.float32], signals_S: NDArray[np.float32]) -> float:
        """Writes the region's part of the signals, EUs clipped to [0, 1], and gives its confidence in [0, 1]."""
        return self._regions[camera].apply(features_F, signals_S)


class _FoldedRegion:
    def __init__(self, camera: Camera, region: RegionHead) -> None:
        adapter, outputs = region.down_bias_A.size, region.bias_O.size
        signs_O = np.ones(outputs, np.float32)
        if camera is Camera.RIGHT_EYE:
            signs_O[_YAW] = -1
        weight_FO, bias_O = region.weight_FO * signs_O, region.bias_O * signs_O
        self._map_MO = None if region.map_MO is None else np.ascontiguousarray(region.map_MO * signs_O)
        self._first_FX = np.ascontiguousarray(np.concatenate([region.down_FA, weight_FO], axis=1))
        self._bias_X = np.concatenate([region.down_bias_A, bias_O])
        self._second_AO = np.ascontiguousarray(region.up_AF @ weight_FO)
        self._first_X = np.empty(adapter + outputs, np.float32)
        self._hidden_A, self._out_O = self._first_X[:adapter], self._first_X[adapter:]
        self._more_O = np.empty(outputs, np.float32)
        self._values_O = self._out_O[:-1]
        self._signals = REGION_SIGNALS[camera]
        self._lowest_O, self._highest_O = LOWEST_S[self._signals], HIGHEST_S[self._signals]

    def apply(self, features_F: NDArray[np.float32], signals_S: NDArray[np.float32]) -> float:
        np.dot(features_F[:LAST_COUNT], self._first_FX, self._first_X)
        np.add(self._first_X, self._bias_X, self._first_X)
        np.maximum(self._hidden_A, 0.0, out=self._hidden_A)
        np.dot(self._hidden_A, self._second_AO, self._more_O)
        np.add(self._out_O, self._more_O, self._out_O)
        if self._map_MO is not None:
            np.dot(features_F[LAST_COUNT:], self._map_MO, self._more_O)
            np.add(self._out_O, self._more_O, self._out_O)
        np.minimum(self._values_O, self._highest_O, out=self._values_O)
        np.maximum(self._values_O, self._lowest_O, out=signals_S[self._signals])
        logit = min(max(float(self._out_O[-1]), -_MAX_LOGIT), _MAX_LOGIT)
        return 1.0 / (1.0 + exp(-logit))
