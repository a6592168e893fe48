"""The gauge of the recording that runs, in the worker: a few of its frames measured against the wearer's rest, one number each.

At most RATE_HZ frames a second are looked at, 0.8 ms a camera; the rest of them costs nothing. Axes: H W image.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from calibration.crops import crops_of
from calibration.gauge import Gauge
from calibration.movement import MovementMeter, NeutralError, neutral_image
from model_export.contract import CROP_SIZE_PX, Camera, Take
from model_export.contract.cues import cue_by_name
from model_export.contract.expression_units import MOUTH_EUS

RATE_HZ: Final = 15.0
"""Frames that are looked at a second, at the most."""


class MovementGauge:
    """How much of the asked movement is made now, 0 to 1, over all cameras that see it. Final.

    Nothing is shown for cues that ask for no EU (rest, dots, free movement) and before a rest was accepted.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._rest: Take | None = None
        self._meters: dict[Camera, MovementMeter] = {}
        self._gauges: dict[Camera, Gauge] = {}
        self._reaches: dict[tuple[str, Camera], float] = {}
        self._cue = ""
        self._looked_ns = 0

    def begin(self, cue: str, rest: Take | None) -> None:
        """A recording of this cue begins; `rest`: the accepted one."""
        for camera, gauge in self._gauges.items():
            self._reaches[self._cue, camera] = max(gauge.reach, self._reaches.get((self._cue, camera), 0.0))
        if rest is not self._rest:
            self._rest, self._meters, self._reaches = rest, {} if rest is None else _meters(rest), {}
        asked = cue_by_name(cue).eus
        mouth = any(name in MOUTH_EUS for name in asked)
        self._cue, self._looked_ns = cue, self._clock() - round(1e9 / RATE_HZ)
        self._gauges = {
            camera: Gauge(cue, camera, self._reaches.get((cue, camera)) or None)
            for camera in self._meters
            if asked and (camera is Camera.MOUTH) == mouth
        }

    def update(self, images: Mapping[Camera, bytes]) -> float | None:
        """The mean over cameras in this frame set; None where it is not looked at, or shows nothing that can be trusted."""
        now_ns = self._clock()
        if not self._gauges or now_ns - self._looked_ns < 1e9 / RATE_HZ:
            return None
        self._looked_ns = now_ns
        shown = []
        for camera, gauge in self._gauges.items():
            if camera in images:
                pixels_HW = np.frombuffer(images[camera], np.uint8).reshape(CROP_SIZE_PX, CROP_SIZE_PX)
                value = gauge.update(self._meters[camera].measure(pixels_HW))
                shown += [] if value is None else [value]
        return sum(shown) / len(shown) if shown else None


def _meters(rest: Take) -> dict[Camera, MovementMeter]:
    meters = {}
    for camera, (crops_THW, seen_T) in crops_of(rest).items():
        try:
            meters[camera] = MovementMeter(camera, neutral_image(list(crops_THW[seen_T])))
        except NeutralError:  # a camera that saw no still face shows no gauge; the judgement says why
            continue
    return meters
