"""The layout of what the live path computes for one headset: 60 signals, each camera's in one piece.

Axes: S signal, E expression unit. Left eye: 12 EUs, gaze yaw, gaze pitch; right eye: the same; mouth: 32 EUs. A camera's signals
stand together, so that a camera that comes alone is one slice, and the filter runs over all 60 at once.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import LEFT_EYE_EUS, MOUTH_EUS, RIGHT_EYE_EUS
from model_export.contract.eye_pair import EYE_SIGNALS, FARTHEST_DEG
from model_export.contract.frames import Camera

SIGNALS: Final = (
    *LEFT_EYE_EUS,
    "gazeYawLeft",
    "gazePitchLeft",
    *RIGHT_EYE_EUS,
    "gazeYawRight",
    "gazePitchRight",
    *MOUTH_EUS,
)
SIGNAL_COUNT: Final = len(SIGNALS)
REGION_SIGNALS: Final = {
    Camera.LEFT_EYE: slice(0, EYE_SIGNALS),
    Camera.RIGHT_EYE: slice(EYE_SIGNALS, 2 * EYE_SIGNALS),
    Camera.MOUTH: slice(2 * EYE_SIGNALS, SIGNAL_COUNT),
}
GAZE_S: Final[NDArray[np.intp]] = np.flatnonzero([name.startswith("gaze") for name in SIGNALS])
"""Where the gaze stands: left yaw, left pitch, right yaw, right pitch."""
EUS_S: Final[NDArray[np.intp]] = np.setdiff1d(np.arange(SIGNAL_COUNT), GAZE_S)
"""Where the 56 EUs stand, in the order of EU_NAMES."""

LOWEST_S: Final[NDArray[np.float32]] = np.zeros(SIGNAL_COUNT, np.float32)
HIGHEST_S: Final[NDArray[np.float32]] = np.ones(SIGNAL_COUNT, np.float32)
LOWEST_S[GAZE_S] = -FARTHEST_DEG
HIGHEST_S[GAZE_S] = FARTHEST_DEG
for _array in (LOWEST_S, HIGHEST_S, GAZE_S, EUS_S):
    _array.flags.writeable = False


def filter_group(signal: str) -> int:
    """Index in FILTER_GROUPS: 0 gaze, 1 lids (everything else that an eye camera sees), 2 brows, 3 mouth."""
    if signal.startswith("gaze"):
        return 0
    if signal.startswith("brow"):
        return 2
    return 3 if signal in MOUTH_EUS else 1
