"""Features of many crops through the runtime's sessions, in batches.

Axes: B crop, H W image, F feature, M feature of the map.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, FEATURE_COUNT, MAP_COUNT
from model_export.runtime import BoundRun, Session, open_session

_KEPT_SESSIONS: Final = 4
"""Two backbones at two batch sizes; opening one takes as long as 15 crops."""


def onnx_features(
    model: bytes, pixels_BHW: NDArray[np.uint8], batch: int, neutral_BM: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """float32 [B, 1280] of a backbone given as ONNX; the CPU session that serves, one thread, `batch` crops at a time.

    `neutral_BM`: the map that each crop is compared with, [B, 1024], or [1024], the same for all; None: nothing.
    """
    crops_BHW = np.zeros((batch, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
    compared_BM = np.zeros((batch, MAP_COUNT), np.float32)
    answer_BF = np.zeros((batch, FEATURE_COUNT), np.float32)
    run = BoundRun(_session(model, batch), crops_BHW, compared_BM, answer_BF)
    whole_BM = np.broadcast_to(np.float32(0.0) if neutral_BM is None else neutral_BM, (len(pixels_BHW), MAP_COUNT))
    features_BF = np.empty((len(pixels_BHW), FEATURE_COUNT), np.float32)
    for first in range(0, len(pixels_BHW), batch):
        count = min(batch, len(pixels_BHW) - first)
        crops_BHW[:count] = pixels_BHW[first : first + count]
        compared_BM[:count] = whole_BM[first : first + count]
        run()
        features_BF[first : first + count] = answer_BF[:count]
    return features_BF


@lru_cache(maxsize=_KEPT_SESSIONS)
def _session(model: bytes, batch: int) -> Session:
    return open_session(model, "cpu", batch, 1)
