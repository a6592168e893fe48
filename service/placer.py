"""Where the face of a headset is in its crops and how it is made, found from how it moves: nobody is asked to rest for it.

Axes: M feature of the map.

Over seconds of use a face does what faces do, and what is left in the mean of its maps is where it is: compared with the mean map
of faces that move (contract.resting), ten frames tell a new face's place as well as a rest does (docs/decisions/009). So the
crops of wearers without a head of their own follow their faces. The same mean, of the crops as they are cut now, tells what
their frames are compared with (contract.resting): a face at rest would tell more, but nobody rested. A wearer's own head knows
better: it was fitted in one place and beside one rest, and goes with these.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.frames import Camera
from model_export.contract.head import LAST_COUNT, MAP_COUNT, Head
from model_export.contract.resting import Resting
from model_export.contract.slip import NO_SLIP, Slip, followed
from service.rig import Rig

EVERY_NS: Final = 100_000_000
"""So often at the most a camera's frame is looked at."""
FIRST_LOOKS: Final = 50
"""After so many looks a face is placed for the first time: five seconds."""
COMPARED_EVERY: Final = 50
"""After so many looks at one place, and so many more, frames are compared with what the mean of all of them tells."""
MOST_LOOKS: Final = 400
"""Each mean is over twice as many looks as the one before, up to this: forty seconds."""
LEAST_CONFIDENCE: Final = 0.5
"""A frame that cannot be read tells no place."""
_NOWHERE: Final[Mapping[Camera, Slip]] = MappingProxyType({})
_NOTHING: Final[Mapping[Camera, NDArray[np.float32]]] = MappingProxyType({})


class Placer:
    """One headset's places; `look`, `slips` and `neutral` are for the inference thread, `places` for any."""

    def __init__(self, resting: Resting | None) -> None:
        """`resting`: what the bundle knows of places; without it no crop is moved."""
        self._resting = resting
        self.places: Mapping[Camera, Slip] = _NOWHERE
        """How the crops are cut, of the cameras that were moved; replaced whole."""
        self._rig: Rig | None = None
        self._next_ns = [0, 0, 0]
        self._looks = [0, 0, 0]
        self._wanted = [FIRST_LOOKS] * len(Camera)
        self._neutral = _NOTHING
        self._neutral_looks = [0, 0, 0]
        self._sum_CM: NDArray[np.float32] = np.zeros((len(Camera), MAP_COUNT), np.float32)

    def slips(self, head: Head, rig: Rig) -> Mapping[Camera, Slip]:
        """How the crops of the next frame set are cut; another rig cuts others, and all is to be found anew."""
        if rig is not self._rig:  # a `configure` brings a new object, often with the same placements
            if rig != self._rig:
                self.places, self._neutral = _NOWHERE, _NOTHING
                self._neutral_looks = [0, 0, 0]
                self._looks, self._wanted = [0, 0, 0], [FIRST_LOOKS] * len(Camera)
            self._rig = rig
        return self.places if head.head_version == 0 else head.slip

    def neutral(self, head: Head) -> Mapping[Camera, NDArray[np.float32]]:
        """The maps [1024] that frames are compared with, of the cameras whose face is known."""
        return self._neutral if head.head_version == 0 else head.neutral

    def look(self, camera: Camera, t_ns: int, head: Head, features_F: NDArray[np.float32], confidence: float) -> None:
        """A frame that was cut as `slips` said, with its features and what the head makes of its quality."""
        if self._resting is None or head.head_version or 0 < self._next_ns[camera] - t_ns <= EVERY_NS:
            return
        self._next_ns[camera] = t_ns + EVERY_NS
        if confidence < LEAST_CONFIDENCE:
            return
        sum_M = self._sum_CM[camera]
        if self._looks[camera] == 0:
            sum_M[:] = 0.0
        sum_M += features_F[LAST_COUNT:]
        self._looks[camera] = looks = self._looks[camera] + 1
        if looks % COMPARED_EVERY == 0 and looks >= self._neutral_looks[camera]:
            neutral_M = self._resting.neutral(camera, sum_M / np.float32(looks), looks * EVERY_NS / 1e9)
            self._neutral = MappingProxyType({**self._neutral, camera: neutral_M})
            self._neutral_looks[camera] = looks
        if looks >= self._wanted[camera]:
            self._place(camera, sum_M / looks, self._resting)
            self._looks[camera] = 0
            self._wanted[camera] = min(2 * self._wanted[camera], MOST_LOOKS)

    def _place(self, camera: Camera, mean_M: NDArray[np.float32], resting: Resting) -> None:
        before = self.places.get(camera, NO_SLIP)
        place = followed(before, before.then(resting.slip(camera, mean_M, resting.moving(camera))))
        if place == before:
            return
        self.places = MappingProxyType({**self.places, camera: place})
        # what was seen there is of other crops
        self._neutral = MappingProxyType({seen: map_M for seen, map_M in self._neutral.items() if seen is not camera})
        self._neutral_looks[camera] = 0
