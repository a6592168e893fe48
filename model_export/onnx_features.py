"""Features of many crops through onnxruntime, in batches.

Axes: B crop, H W image, F feature.
"""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model_export.contract import FEATURE_COUNT


def onnx_features(model: bytes, pixels_BHW: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """float32 [B, 256] of a backbone given as ONNX; one thread, CPU, `batch` crops at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    features_BF = np.empty((len(pixels_BHW), FEATURE_COUNT), np.float32)
    for first in range(0, len(pixels_BHW), batch):
        part_BHW = np.ascontiguousarray(pixels_BHW[first : first + batch])
        features_BF[first : first + batch] = session.run(["features"], {"pixels": part_BHW})[0]
    return features_BF
