"""Slip: how a headset that was put on again, or moved, shows the same face elsewhere in a camera's crop.

Crop coordinates: px of 128 to the right and down from the crop's centre, upright and not mirrored, as takes hold crops. With the
turn R, clockwise as seen, what was at q before is after the slip at

    p = scale R q + (right_px, down_px)

and is brought back by reading the pixel at p for every q: a similarity, which a slip across the face is; a headset that tips
shows another view of the face besides.
"""

from dataclasses import dataclass, replace
from math import atan2, cos, degrees, hypot, radians, sin
from typing import Final

import numpy as np
from numpy.typing import NDArray

_PLACE_SHARE: Final = 0.8
"""How much of the way to where most faces are a face is brought: part of what is read is that faces differ."""
_LEAST_PX: Final = 1.0
"""Less is what a reading is off by."""
_LEAST_DEG: Final = 1.0
_LEAST_SCALE: Final = 1.03
_MOST_PX: Final = 24.0
"""More leaves the crop; the rig or the headset is to be put right."""
_MOST_DEG: Final = 15.0
_MOST_SCALE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Slip:
    """One camera's slip."""

    right_px: float
    down_px: float
    turn_deg: float
    """Clockwise as seen in the picture."""
    scale: float = 1.0

    @property
    def length_px(self) -> float:
        """How far the centre moved."""
        return hypot(self.right_px, self.down_px)

    def matrix_23(self) -> NDArray[np.float64]:
        """float64 [2, 3]: from q to p."""
        a, b = self.scale * cos(radians(self.turn_deg)), self.scale * sin(radians(self.turn_deg))
        return np.array([[a, -b, self.right_px], [b, a, self.down_px]])

    def then(self, other: "Slip") -> "Slip":
        """Both, `other` found in crops that this one was taken out of: q to this one's place of other's place of q."""
        linear_22, offset_2 = self.matrix_23()[:, :2], self.matrix_23()[:, 2]
        right, down = linear_22 @ np.array([other.right_px, other.down_px]) + offset_2
        turn = radians(self.turn_deg + other.turn_deg)
        return Slip(float(right), float(down), degrees(atan2(sin(turn), cos(turn))), self.scale * other.scale)

    def inverse(self) -> "Slip":
        """The slip that takes this one back."""
        turned = Slip(0.0, 0.0, -self.turn_deg, 1 / self.scale)
        right, down = turned.matrix_23()[:, :2] @ np.array([-self.right_px, -self.down_px])
        return replace(turned, right_px=float(right), down_px=float(down))

    def share(self, share: float) -> "Slip":
        """So much of it."""
        return Slip(share * self.right_px, share * self.down_px, share * self.turn_deg, self.scale**share)

    def mirrored(self) -> "Slip":
        """The same in a crop that is mirrored left to right, as a right eye's is for its backbone."""
        return replace(self, right_px=-self.right_px, turn_deg=-self.turn_deg)


NO_SLIP: Final = Slip(0.0, 0.0, 0.0)


def is_slip(slip: Slip) -> bool:
    """Whether it is more than reading it is off by, and leaves a face in the crop."""
    scale = max(slip.scale, 1 / slip.scale)
    large = slip.length_px >= _LEAST_PX or abs(slip.turn_deg) >= _LEAST_DEG or scale >= _LEAST_SCALE
    return large and not _leaves_crop(slip)


def _leaves_crop(slip: Slip) -> bool:
    """Whether too little of the face would be left to read."""
    scale = max(slip.scale, 1 / slip.scale)
    return slip.length_px > _MOST_PX or abs(slip.turn_deg) > _MOST_DEG or scale > _MOST_SCALE


def followed(before: Slip, whole: Slip) -> Slip:
    """Where crops that are cut at `before` are cut from now on, when a moving face is found to be `whole` away from most.

    Crops would tremble by what a reading is off by, so small steps are not taken; a reading that leaves the crop is none.
    """
    place = followed_share(whole)
    if _leaves_crop(whole.share(_PLACE_SHARE)) or not is_slip(before.inverse().then(place)):
        return before
    return place


def followed_share(slip: Slip) -> Slip:
    """What is followed of the way to where most faces are; none where that is no slip."""
    share = slip.share(_PLACE_SHARE)
    return share if is_slip(share) else NO_SLIP
