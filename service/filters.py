"""One-Euro filter on capture times: calm at rest, quick in movement, one set of constants for each group of EUs.

Axes: N channel: the 56 EUs in the order of EU_NAMES, then left yaw, left pitch, right yaw, right pitch.

Casiez, Roussel and Vogel, "1 Euro Filter" (CHI 2012). With x the new value, s the filtered one, dt the time since the last:
    d  <- d + a(dt, derivative_cutoff) ((x - s) / dt - d)
    fc  = min_cutoff + beta |d|
    s  <- s + a(dt, fc) (x - s)              a(dt, f) = dt / (dt + 1 / (2 pi f))
A channel that has nothing new is filtered with dt = 0, which leaves it as it is; a first value, or one after a gap, with a dt so
long that it is taken over. So one vector expression serves all cameras, whichever of them came.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract import EU_COUNT, EU_INDEX, EU_NAMES, Camera

CHANNEL_COUNT: Final = EU_COUNT + 4
REGION_CHANNELS: Final = {
    Camera.LEFT_EYE: (slice(0, 12), slice(56, 58)),
    Camera.RIGHT_EYE: (slice(12, 24), slice(58, 60)),
    Camera.MOUTH: (slice(24, 56), slice(60, 60)),
}
"""Channels that each camera speaks for: its EUs, its gaze."""
AFRESH_S: Final = 1e9
"""A dt after which nothing of the old value is left."""


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """Constants of one group."""

    min_cutoff_hz: float
    """Cut-off at rest: lower is calmer and later."""
    beta: float
    """How much the cut-off rises with speed, Hz for each unit a second (an EU's whole range, or a degree)."""


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """Constants of the filter."""

    gaze: GroupFilter = GroupFilter(3.0, 4.0)
    """The eyeLook EUs; a saccade crosses half the range in 40 ms."""
    gaze_degrees: GroupFilter = GroupFilter(3.0, 0.15)
    """The angles: a range of some 30 degrees where EUs have 1."""
    lids: GroupFilter = GroupFilter(4.0, 6.0)
    """Blink, wide, squint, cheek, pupil; a blink closes within 100 ms and must not be cut."""
    brows: GroupFilter = GroupFilter(3.0, 3.0)
    mouth: GroupFilter = GroupFilter(4.0, 4.0)
    derivative_cutoff_hz: float = 8.0
    """Cut-off of the speed; 1 Hz, as in the paper, sees a blink when it is over."""

    def __post_init__(self) -> None:
        groups = (self.gaze, self.gaze_degrees, self.lids, self.brows, self.mouth)
        if min(self.derivative_cutoff_hz, *(group.min_cutoff_hz for group in groups)) <= 0:
            raise ValueError(f"Cut-offs should be above 0 Hz. Found {self}.")
        if min(group.beta for group in groups) < 0:
            raise ValueError(f"`beta` should be 0 or more. Found {self}.")


def _group_of(name: str) -> str:
    if name.startswith("eyeLook"):
        return "gaze"
    if name.startswith("brow"):
        return "brows"
    return "lids" if EU_INDEX[name] < 24 else "mouth"


_GROUP_N: Final = np.array([*map(_group_of, EU_NAMES), *["gaze_degrees"] * 4])
_REPORTED: Final = [np.isin(_GROUP_N, names) for names in (("gaze", "gaze_degrees"), ("lids",), ("brows",), ("mouth",))]
_MEAN_OF_GROUP: Final = np.stack([members / members.sum() for members in _REPORTED]).astype(np.float32)


class OneEuroFilter:
    """The filter of one connection."""

    def __init__(self, config: FilterConfig) -> None:
        groups = {name: getattr(config, name) for name in ("gaze", "gaze_degrees", "lids", "brows", "mouth")}
        self._min_cutoff_N = np.array([groups[name].min_cutoff_hz for name in _GROUP_N], np.float32)
        self._beta_N = np.array([groups[name].beta for name in _GROUP_N], np.float32)
        self._derivative_tau_s = np.float32(1 / (2 * math.pi * config.derivative_cutoff_hz))
        self._speed_N = np.zeros(CHANNEL_COUNT, np.float32)
        self._tau_N = (1 / (2 * math.pi * self._min_cutoff_N)).astype(np.float32)
        self.values_N: NDArray[np.float32] = np.zeros(CHANNEL_COUNT, np.float32)
        """The filtered values, float32 [60]; moved in place by `step`."""

    def step(self, raw_N: NDArray[np.float32], dt_N: NDArray[np.float32]) -> None:
        """Takes new values; `dt_N` float32 seconds since the last, 0 where there is none, AFRESH_S to begin anew."""
        error_N = raw_N - self.values_N
        weight_N = dt_N / (dt_N + self._derivative_tau_s)
        self._speed_N += weight_N * (error_N / np.maximum(dt_N, 1e-4) - self._speed_N)
        np.divide(1 / (2 * math.pi), self._min_cutoff_N + self._beta_N * np.abs(self._speed_N), out=self._tau_N)
        self.values_N += dt_N / (dt_N + self._tau_N) * error_N

    def lag_ms(self) -> tuple[float, float, float, float]:
        """Delay of gaze, lids, brows and mouth at their present cut-offs: the mean 1 / (2 pi fc) of the group."""
        gaze, lids, brows, mouth = (1000 * (_MEAN_OF_GROUP @ self._tau_N)).tolist()
        return gaze, lids, brows, mouth
