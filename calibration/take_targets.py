"""What is known of one take: for each frame and EU a target value and how far to trust it.

Axes: T frame set, E expression unit in the order of EU_NAMES, 4 gaze.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.contract import EU_COUNT


@dataclass(frozen=True, slots=True)
class TakeTargets:
    """Targets of one take, as the movement metric (or, in an evaluation, another source) gives them."""

    cue: str
    """Name of the cue, as in the take."""
    t_ns: NDArray[np.int64]
    """int64 [T], capture times, rising."""
    values_TE: NDArray[np.float32]
    """float32 [T, 56] in [0, 1]: share of this wearer's own range."""
    confidence_TE: NDArray[np.float32]
    """float32 [T, 56] in [0, 1]; 0 means that nothing is known of that EU in that frame, whatever `values_TE` holds."""
    repetition_T: NDArray[np.int32]
    """int32 [T]: the repetition of the cue that a frame belongs to, counted from 0; -1 outside of any. Frames of one
    repetition are never divided between fitting and judging."""
    gaze_T4: NDArray[np.float32] | None = None
    """float32 [T, 4] degrees as in ExpressionValues, NaN where not known; None when nothing is known of gaze."""

    def __post_init__(self) -> None:
        count = len(self.t_ns)
        expected = {
            "t_ns": ((count,), np.int64),
            "values_TE": ((count, EU_COUNT), np.float32),
            "confidence_TE": ((count, EU_COUNT), np.float32),
            "repetition_T": ((count,), np.int32),
        }
        if self.gaze_T4 is not None:
            expected["gaze_T4"] = ((count, 4), np.float32)
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"`{name}` should be {np.dtype(dtype)} {list(shape)}. Found {array.dtype} {list(array.shape)}."
                )
        for name, array in (("values_TE", self.values_TE), ("confidence_TE", self.confidence_TE)):
            if not ((array >= 0) & (array <= 1)).all():
                raise ValueError(f"`{name}` should lie in [0, 1]. Found {array.min()} to {array.max()}.")

    def __len__(self) -> int:
        return len(self.t_ns)
