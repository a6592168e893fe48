"""The runtime alone, in this process: the floor that the service's latency is compared with.

Timed is what the backbones need for one frame set, both eyes and the mouth, through model_export.runtime exactly as the
engine calls it; filling its input buffers is not timed.

Axes: T frame set, C camera, H W image.
"""

import time
from array import array

import numpy as np
from numpy.typing import NDArray

from model_export.runtime import Eyes, Runtime


class BareRuntime:
    """A warm runtime with the crops that it runs on."""

    def __init__(self, runtime: Runtime, crops_TCHW: NDArray[np.uint8]) -> None:
        self._runtime = runtime
        self._crops_TCHW = crops_TCHW
        self._next = 0

    def _run(self) -> int:
        runtime, crops_CHW = self._runtime, self._crops_TCHW[self._next % len(self._crops_TCHW)]
        self._next += 1
        runtime.eye_crops_BHW[:] = crops_CHW[:2]
        runtime.mouth_crop_BHW[0] = crops_CHW[2]
        start_ns = time.perf_counter_ns()
        runtime.run_eyes(Eyes.BOTH)
        runtime.run_mouth()
        return time.perf_counter_ns() - start_ns

    def closed_loop(self, seconds: float, warm_up: int = 50) -> "array[int]":
        """Nanoseconds of one frame set after the other."""
        for _ in range(warm_up):
            self._run()
        times_ns = array("q")
        end_ns = time.perf_counter_ns() + seconds * 1e9
        while time.perf_counter_ns() < end_ns:
            times_ns.append(self._run())
        return times_ns

    def paced(self, rate_hz: float, seconds: float) -> "array[int]":
        """Nanoseconds of frame sets that come by the clock: caches go cold in between, as they do in a service."""
        times_ns = array("q")
        due_ns = time.perf_counter_ns()
        for _ in range(max(1, round(rate_hz * seconds))):
            due_ns += round(1e9 / rate_hz)
            time.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))
            times_ns.append(self._run())
        return times_ns
