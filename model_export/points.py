"""How many points of the face a shard tells for each crop, and how they change places in the mirror; dataset-card.md says which.

Each is 4 numbers: px right of and below the middle of the crop, and how much of that the expression moved.
Axes: B crop, K point, 4.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

EYE_POINTS: Final = 33
"""Points of an eye crop: 32 of the skin, and the middle of the pupil last."""
MOUTH_POINTS: Final = 48
"""Points of a mouth crop: 24 on the wearer's left half, then their counterparts on the right."""
MOUTH_POINTS_MIRROR: Final = np.roll(np.arange(MOUTH_POINTS), MOUTH_POINTS // 2)
"""points_K4[MOUTH_POINTS_MIRROR] are the mouth's points of the mirrored face, apart from where they are."""


def carried(points_K4: NDArray[np.floating], way_23: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points float32 [K, 4] in a crop that an affine map about its middle has changed, [2, 3] in px."""
    turn_22 = way_23[:, :2].T
    now_K2, moved_K2 = points_K4[:, :2].astype(np.float64), points_K4[:, 2:].astype(np.float64)
    return np.hstack([now_K2 @ turn_22 + way_23[:, 2], moved_K2 @ turn_22]).astype(np.float32)
