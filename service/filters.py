"""The One-Euro filter over all signals of a headset, on capture times.

Axes: S signal, G filter group.

Casiez, Roussel, Vogel: 1 Euro Filter (CHI 2012), algorithm 1. With x the new signal, y its filtered value, Te the time between
two captures, alpha(fc) = r / (1 + r) and r = 2 pi fc Te:

    dx = (x - y) / Te                     `diff_S` * `rate_S`
    dy = dy + alpha(fd) (dx - dy)         `slope_S`, fd = `slope_cutoff_hz`
    fc = fmin + beta |dy|                 `cutoff_S`, fmin = `min_cutoff_hz`, beta = `beta`
    y  = y + alpha(fc) (x - y)            `value_S`

We differ in one point: each camera's signals have their own Te, and Te = 0 leaves them untouched, so that cameras may come apart.
"""

from dataclasses import dataclass, fields
from math import isfinite, pi
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.signals import REGION_SIGNALS, SIGNAL_COUNT, SIGNALS, filter_group
from service.wire_messages import FILTER_GROUPS


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """How one group of signals is smoothed."""

    min_cutoff_hz: float
    """Cutoff at rest: lower is calmer and later."""
    beta: float
    """How much the cutoff rises with speed: Hz for each unit a second; EUs have a range of 1, gaze is in degrees."""
    slope_cutoff_hz: float
    """Cutoff of the speed itself: the paper's 1 Hz would sleep through a blink, which closes within 80 ms."""

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if not (isfinite(value) and (value > 0 or (value == 0 and part.name == "beta"))):
                raise ValueError(f"`{part.name}` should be a finite number above 0. Found {value}.")


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """The filter of each group; what the constants do is measured in tests/service/test_filters.py."""

    gaze: GroupFilter = GroupFilter(min_cutoff_hz=3.0, beta=0.12, slope_cutoff_hz=8.0)
    """The angles: a saccade of 10 degrees comes 6 ms late, noise of 1 degree is about halved."""
    lids: GroupFilter = GroupFilter(min_cutoff_hz=4.0, beta=6.0, slope_cutoff_hz=12.0)
    """Everything else that an eye camera sees, but the brows: a blink keeps its depth and comes 2 ms late."""
    brows: GroupFilter = GroupFilter(min_cutoff_hz=3.0, beta=5.0, slope_cutoff_hz=6.0)
    mouth: GroupFilter = GroupFilter(min_cutoff_hz=4.0, beta=6.0, slope_cutoff_hz=10.0)
    """Speech closes the lips five times a second."""
    reset_gap_s: float = 1.0
    """After so long without a frame a camera's signals start anew from its next one."""

    def __post_init__(self) -> None:
        if not (isfinite(self.reset_gap_s) and self.reset_gap_s > 0):
            raise ValueError(f"`reset_gap_s` should be a finite number above 0. Found {self.reset_gap_s}.")

    def __getitem__(self, group: int) -> GroupFilter:
        return (self.gaze, self.lids, self.brows, self.mouth)[group]


_GROUP_OF_S: Final = [filter_group(signal) for signal in SIGNALS]
_MEAN_GS: Final = np.array(
    [[(of == group) / _GROUP_OF_S.count(group) for of in _GROUP_OF_S] for group in range(len(FILTER_GROUPS))],
    np.float32,
)


class OneEuro:
    """The filter's state for one headset: it allocates nothing after it exists. About 12 us a frame set."""

    def __init__(self, config: FilterConfig) -> None:
        groups = [config[group] for group in _GROUP_OF_S]
        self._min_S = np.array([group.min_cutoff_hz for group in groups], np.float32)
        self._beta_S = np.array([group.beta for group in groups], np.float32)
        self._slope_cutoff_S = np.array([group.slope_cutoff_hz for group in groups], np.float32)
        self.value_S: NDArray[np.float32] = np.zeros(SIGNAL_COUNT, np.float32)
        """float32 [60], the filtered signals, updated in place."""
        self._slope_S = np.zeros(SIGNAL_COUNT, np.float32)
        self._cutoff_S = self._min_S.copy()
        self._phase_S = np.zeros(SIGNAL_COUNT, np.float32)  # 2 pi Te
        self._rate_S = np.zeros(SIGNAL_COUNT, np.float32)  # 1 / Te
        self._diff_S, self._alpha_S, self._scratch_S = (np.empty(SIGNAL_COUNT, np.float32) for _ in range(3))
        self._lag_G = np.empty(len(FILTER_GROUPS), np.float32)
        self._regions = tuple(REGION_SIGNALS.values())

    def restart(self, region: int, raw_S: NDArray[np.float32]) -> None:
        """Takes a region's signals as they are: its first frame, or the first one after a gap."""
        signals = self._regions[region]
        self.value_S[signals] = raw_S[signals]
        self._slope_S[signals] = 0.0
        self._cutoff_S[signals] = self._min_S[signals]

    def advance(self, raw_S: NDArray[np.float32], steps_s: tuple[float, float, float]) -> None:
        """Moves the filtered signals towards the raw ones, by each region's time since its last frame, seconds.

        A step of 0 or less leaves that region as it is, whatever finite numbers `raw_S` holds there.
        """
        value_S, diff_S, slope_S, cutoff_S = self.value_S, self._diff_S, self._slope_S, self._cutoff_S
        alpha_S, scratch_S = self._alpha_S, self._scratch_S
        for signals, step_s in zip(self._regions, steps_s, strict=True):
            self._phase_S[signals] = 2 * pi * step_s if step_s > 0 else 0.0
            self._rate_S[signals] = 1 / step_s if step_s > 0 else 0.0
        np.subtract(raw_S, value_S, diff_S)
        _fill_alpha(self._slope_cutoff_S, self._phase_S, alpha_S, scratch_S)
        np.multiply(diff_S, self._rate_S, scratch_S)
        np.subtract(scratch_S, slope_S, scratch_S)
        np.multiply(scratch_S, alpha_S, scratch_S)
        np.add(slope_S, scratch_S, slope_S)
        np.abs(slope_S, cutoff_S)
        np.multiply(cutoff_S, self._beta_S, cutoff_S)
        np.add(cutoff_S, self._min_S, cutoff_S)
        _fill_alpha(cutoff_S, self._phase_S, alpha_S, scratch_S)
        np.multiply(diff_S, alpha_S, diff_S)
        np.add(value_S, diff_S, value_S)

    def lag_ms(self) -> tuple[float, float, float, float]:
        """1 / (2 pi fc) for the mean cutoff of each group, milliseconds: what the filter delays a slow movement now."""
        np.dot(_MEAN_GS, self._cutoff_S, self._lag_G)
        gaze_hz, lids_hz, brows_hz, mouth_hz = map(float, self._lag_G)
        per_hz = 1000 / (2 * pi)
        return per_hz / gaze_hz, per_hz / lids_hz, per_hz / brows_hz, per_hz / mouth_hz


def _fill_alpha(
    cutoff_S: NDArray[np.float32],
    phase_S: NDArray[np.float32],
    alpha_S: NDArray[np.float32],
    scratch_S: NDArray[np.float32],
) -> None:
    """alpha_S = r / (1 + r) with r = cutoff_S * phase_S."""
    np.multiply(cutoff_S, phase_S, alpha_S)
    np.add(alpha_S, 1.0, scratch_S)
    np.divide(alpha_S, scratch_S, alpha_S)
