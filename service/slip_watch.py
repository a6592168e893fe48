"""How far a headset seems to have slipped in use, from the frames in which the face seems to rest.

Axes: M feature of the map, S signal.

A rest that was asked for tells a slip to 1 px (calibration.realign). Nobody is asked here: of the frames in which nothing seems
to move, a running mean of the map stands in for it, which is off by 2 to 4 px in lively talk (docs/experiments.md). It is shown,
so that the wearer can rest for three seconds; nothing is moved by it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.frames import Camera
from model_export.contract.head import LAST_COUNT, MAP_COUNT, Head
from model_export.contract.resting import Resting
from model_export.contract.slip import Slip
from service.signals import REGION_SIGNALS, SIGNALS

EVERY_NS: Final = 100_000_000
"""So often at the most a camera's frame is looked at: a look takes some 25 us."""
LOOKS: Final = 100
"""Over so many looks at a resting face the mean runs: ten seconds of rest."""
LEAST_LOOKS: Final = 20
"""Nothing is told of fewer."""
STILL_BELOW: Final = 0.35
"""An EU below this may be at rest: after a slip, resting faces read high."""
AHEAD_DEG: Final = 10.0
"""Eyes that look further away move the picture themselves."""
_NOTHING: Final[Mapping[Camera, Slip]] = MappingProxyType({})
_PUPIL: Final = "pupilDilate"


def _limits(camera: Camera) -> NDArray[np.float32]:
    """What the size of each signal of a camera has to be below."""
    names = SIGNALS[REGION_SIGNALS[camera]]
    limits = [
        AHEAD_DEG if name.startswith("gaze") else np.inf if name.startswith(_PUPIL) else STILL_BELOW for name in names
    ]
    return np.array(limits, np.float32)


_LIMITS: Final = {camera: _limits(camera) for camera in Camera}


class SlipWatch:
    """One headset's resting face; `look` is for the inference thread, `slips` for any."""

    def __init__(self, resting: Resting | None) -> None:
        self._resting = resting
        self.slips: Mapping[Camera, Slip] = _NOTHING
        """Slip since the crops were last cut anew, of the cameras of which enough is known; replaced whole."""
        self._head: Head | None = None
        self._next_ns = [0, 0, 0]
        self._looks = [0, 0, 0]
        self._mean_CM: NDArray[np.float32] = np.zeros((len(Camera), MAP_COUNT), np.float32)

    def look(
        self, camera: Camera, t_ns: int, head: Head, features_F: NDArray[np.float32], raw_S: NDArray[np.float32]
    ) -> None:
        """A frame with its features and what `head` says of it, unfiltered."""
        if head is not self._head:
            self._begin(head)
        reference_M = head.reference.get(camera)
        if self._resting is None or reference_M is None or 0 < self._next_ns[camera] - t_ns <= EVERY_NS:
            return
        self._next_ns[camera] = t_ns + EVERY_NS
        if (np.abs(raw_S[REGION_SIGNALS[camera]]) > _LIMITS[camera]).any():
            return
        self._looks[camera] = looks = min(self._looks[camera] + 1, LOOKS)
        mean_M = self._mean_CM[camera]
        mean_M += (features_F[LAST_COUNT:] - mean_M) / looks
        if looks >= LEAST_LOOKS:
            slip = self._resting.slip(camera, mean_M, reference_M)
            self.slips = MappingProxyType({**self.slips, camera: slip})

    def _begin(self, head: Head) -> None:
        """Another head cuts other crops, or was fitted in another place."""
        self._head = head
        self._looks = [0, 0, 0]
        self.slips = _NOTHING
