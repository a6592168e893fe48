"""How much of the asked movement a wearer makes right now, for a gauge on a page: one number a frame, live.

No template is needed: the first frames of a take are rest, and the gauge is the distance from them in the part of the picture
that belongs to the cue, over the distance that this wearer (or, before the first apex, people) reached. A blink or a glance
moves it too: it shows that something happens, targets say what. Pure numpy. Axes: F feature.
"""

from typing import Final

import numpy as np

from calibration.activation import APPEARANCE_WEIGHT, Floats, region
from calibration.movement import CELLS, Movement
from model_export.contract.frames import Camera

REST_FRAMES: Final = 5
"""Good frames at the start of a take that count as rest."""
USUAL_REACH: Final = {Camera.LEFT_EYE: 30.0, Camera.RIGHT_EYE: 30.0, Camera.MOUTH: 40.0}
"""Distance of a middling apex from rest (weighted features, the first rendered wearers), until the wearer's own is known."""


class Gauge:
    """The gauge of one cue as one camera sees it."""

    def __init__(self, cue_name: str, camera: Camera, reach: float | None = None) -> None:
        self._inside_F = region(cue_name, camera)
        self._reach = reach or USUAL_REACH[camera]
        self._rest: list[Floats] = []
        self._rest_F = np.zeros(0)
        self._noise = 0.0
        self._greatest = 0.0

    @property
    def reach(self) -> float:
        """The greatest distance from rest so far, for the gauge of the next take of this cue; 0 before any movement."""
        return self._greatest

    def update(self, movement: Movement) -> float | None:
        """The share of the asked movement in a frame, 0 to 1; None while rest is being learned and in gated frames."""
        if movement.gate is not None:
            return None
        features_F = movement.features().astype(np.float64)
        features_F[2 * CELLS * CELLS :] *= APPEARANCE_WEIGHT
        inside_F = features_F[self._inside_F]
        if len(self._rest) < REST_FRAMES:
            self._rest.append(inside_F)
            if len(self._rest) == REST_FRAMES:
                self._rest_F = np.mean(self._rest, axis=0)
                self._noise = float(np.median([np.linalg.norm(one_F - self._rest_F) for one_F in self._rest]))
            return None
        # noise of hundreds of features adds to any distance; twice the rest's own is what a still face reaches
        distance = max(0.0, float(np.linalg.norm(inside_F - self._rest_F)) - 2.0 * self._noise)
        self._greatest = max(self._greatest, distance)
        return min(1.0, distance / max(self._reach, self._greatest))
