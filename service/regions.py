"""When each camera of a headset was last seen, and what that makes of its values: live, held, fading or unseen.

A camera that is late keeps its values for a moment, then they fade to 0; nothing is invented. All times are capture times, so the
service's own clock, its load and its pauses play no part.
"""

from dataclasses import dataclass
from typing import Final

from model_export.contract.values import Validity

HOLD_NS: Final = 100_000_000
"""Values of a missing camera stay unchanged for this long, or for 1.5 of its own periods when it is slower than 15 Hz."""
MAX_HOLD_NS: Final = 300_000_000
"""The longest hold that a measured period gives; a declared rate may ask for more."""
FADE_NS: Final = 400_000_000
"""Then they fade to 0 over this time."""
NEW_CLOCK_NS: Final = 1_000_000_000
"""A capture time that lies further back than this is no late frame: the headset's clock, or a recording, began again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a region stands at one capture time."""

    validity: Validity
    weight: float
    """In [0, 1]; values and confidence are multiplied by it."""


LIVE: Final = Seen(Validity.LIVE, 1.0)
_HELD: Final = Seen(Validity.HELD, 1.0)
_UNSEEN: Final = Seen(Validity.UNSEEN, 0.0)


class RegionClock:
    """The capture times of one camera."""

    def __init__(self) -> None:
        self.last_ns: int | None = None
        """Capture time of its newest frame; None before the first."""
        self._period_ns = 0

    def is_late(self, t_ns: int) -> bool:
        """Whether a frame of this capture time is not newer than what was seen, and so changes nothing any more."""
        return self.last_ns is not None and self.last_ns - NEW_CLOCK_NS <= t_ns <= self.last_ns

    def step(self, t_ns: int, reset_gap_ns: int) -> float:
        """Seconds since the last frame; 0 when the region starts anew: first frame, a gap, or a new clock."""
        step_ns = t_ns - self.last_ns if self.last_ns is not None else 0
        self.last_ns = t_ns
        if 0 < step_ns <= reset_gap_ns:
            self._period_ns = step_ns
            return step_ns * 1e-9
        self._period_ns = 0
        return 0.0

    def state(self, now_ns: int, rate_hz: float | None) -> Seen:
        """How the region stands at capture time `now_ns` without a new frame; `rate_hz` is its declared rate."""
        if self.last_ns is None or now_ns < self.last_ns - NEW_CLOCK_NS:
            return _UNSEEN
        own_ns = 1.5e9 / rate_hz if rate_hz is not None else min(1.5 * self._period_ns, MAX_HOLD_NS)
        fading_ns = now_ns - self.last_ns - max(HOLD_NS, own_ns)
        if fading_ns <= 0:
            return _HELD
        if fading_ns < FADE_NS:
            return Seen(Validity.FADING, 1 - fading_ns / FADE_NS)
        return _UNSEEN
