"""What the service answers a frame set with.

Axes: E expression unit, in the order of EU_NAMES.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from model_export.contract.errors import ContractError
from model_export.contract.expression_units import EU_COUNT


class Validity(IntEnum):
    """Where the values of a region come from; the numbers are part of the wire format."""

    UNSEEN = 0
    """No frame of this camera yet, or it faded out: values are 0 and mean nothing."""
    LIVE = 1
    """From a frame of this very frame set."""
    HELD = 2
    """The camera is late: the last values, unchanged for a moment."""
    FADING = 3
    """The camera is missing for longer: the last values on their way to 0."""


@dataclass(frozen=True, slots=True)
class RegionState:
    """How far the values of one camera's region can be trusted."""

    validity: Validity
    confidence: float
    """In [0, 1]; the head's own estimate that the image showed what it should."""


@dataclass(frozen=True, slots=True)
class ExpressionValues:
    """Expression units, gaze and their trust for one frame set."""

    sequence: int
    """Of the frame set that is answered."""
    t_ns: int
    """Capture time of the newest frame of that set, headset clock."""
    values_E: NDArray[np.float32]
    """float32 [56] in [0, 1], order of EU_NAMES."""
    gaze_deg: NDArray[np.float32]
    """float32 [4]: left yaw, left pitch, right yaw, right pitch; degrees, yaw towards the wearer's left and pitch up are
    positive."""
    regions: tuple[RegionState, RegionState, RegionState]
    """Of left_eye, right_eye, mouth."""
    bundle_digest: str
    """sha256 of the bundle in use, hexadecimal."""
    head_version: int
    """0 is the bundle's universal head; a wearer's heads count up from 1."""

    def __post_init__(self) -> None:
        for name, array, shape in (("values_E", self.values_E, (EU_COUNT,)), ("gaze_deg", self.gaze_deg, (4,))):
            if array.shape != shape or array.dtype != np.float32:
                raise ContractError(
                    f"`{name}` should be float32 {list(shape)}. Found {array.dtype} {list(array.shape)}."
                )
