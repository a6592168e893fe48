"""Features of many crops through the runtime's sessions, in batches.

Axes: B crop, H W image, F feature.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, FEATURE_COUNT
from model_export.runtime import INPUT_NAME, OUTPUT_NAME, Session, open_session

_KEPT_SESSIONS: Final = 4
"""Two backbones at two batch sizes; opening one takes as long as 15 crops."""


def onnx_features(model: bytes, pixels_BHW: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """float32 [B, 1280] of a backbone given as ONNX; the CPU session that serves, one thread, `batch` crops at a time."""
    crops_BHW = np.zeros((batch, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
    answer_BF = np.zeros((batch, FEATURE_COUNT), np.float32)
    session = _session(model, batch)
    binding = session.io_binding()
    binding.bind_input(INPUT_NAME, "cpu", 0, np.uint8, crops_BHW.shape, crops_BHW.ctypes.data)
    binding.bind_output(OUTPUT_NAME, "cpu", 0, np.float32, answer_BF.shape, answer_BF.ctypes.data)
    features_BF = np.empty((len(pixels_BHW), FEATURE_COUNT), np.float32)
    for first in range(0, len(pixels_BHW), batch):
        count = min(batch, len(pixels_BHW) - first)
        crops_BHW[:count] = pixels_BHW[first : first + count]
        session.run_with_iobinding(binding)
        features_BF[first : first + count] = answer_BF[:count]
    return features_BF


@lru_cache(maxsize=_KEPT_SESSIONS)
def _session(model: bytes, batch: int) -> Session:
    return open_session(model, "cpu", batch, 1)
