"""What one frame of one camera costs the movement metric: the meter, and the optical flow in it, in turn on the same frames.

Run as `python -m benchmarks.movement`; the last line is one JSON object. One thread; medians of paired runs, ms.
"""

import json
import platform
import time
from typing import Any

import cv2
import numpy as np

from calibration.movement import MovementMeter
from model_export.contract.frames import CROP_SIZE_PX, Camera


def main(rounds: int = 1000) -> None:
    """Print the costs."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (CROP_SIZE_PX, CROP_SIZE_PX)), (0, 0), 2)
    neutral_HW = np.clip(110 + 38 * np.asarray(grain) / float(np.std(grain)), 0, 255).astype(np.uint8)
    frames = [np.ascontiguousarray(np.roll(neutral_HW, (step % 5, step % 3), (0, 1))) for step in range(30)]
    meter = MovementMeter(Camera.MOUTH, neutral_HW)
    flow: Any = vars(cv2)["DISOpticalFlow_create"](vars(cv2)["DISOPTICAL_FLOW_PRESET_ULTRAFAST"])
    flow.setFinestScale(1)
    whole, flow_only = [], []
    for step in range(rounds):
        frame_HW = frames[step % len(frames)]
        start = time.perf_counter()
        meter.measure(frame_HW)
        middle = time.perf_counter()
        flow.calc(neutral_HW, frame_HW, None)
        whole.append(1e3 * (middle - start))
        flow_only.append(1e3 * (time.perf_counter() - middle))
    result = {
        "measure_ms": _percentiles(whole[50:]),
        "flow_alone_ms": _percentiles(flow_only[50:]),
        "frames": rounds - 50,
        "machine": platform.machine(),
    }
    print(json.dumps(result))  # noqa: T201 - this script's purpose


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)), 3) for share in (5, 50, 90)}


if __name__ == "__main__":
    main()
