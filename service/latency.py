"""Latencies of a run of any length in fixed memory: a histogram of logarithmic buckets, and the newest few."""

import math
from collections import deque
from typing import Final

_BUCKETS_PER_DOUBLING: Final = 32
"""Neighbouring buckets differ by 2.2 %."""
_BUCKETS: Final = 27 * _BUCKETS_PER_DOUBLING
"""From 1 us to 134 s."""


class Latencies:
    """Percentiles of all latencies, to 2.2 %, and exactly of the newest 512."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._newest_us: deque[float] = deque(maxlen=512)
        self.count = 0
        self.max_us = 0.0

    def add(self, latency_us: float) -> None:
        """Takes one latency in, microseconds."""
        bucket = int(_BUCKETS_PER_DOUBLING * math.log2(latency_us)) if latency_us > 1 else 0
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self._newest_us.append(latency_us)
        self.count += 1
        self.max_us = max(self.max_us, latency_us)

    def percentile_us(self, percent: float) -> float:
        """The latency that `percent` of all stay under; 0 when there is none yet."""
        if not self.count:
            return 0.0
        left = max(1, math.ceil(self.count * percent / 100))
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return min(self.max_us, 2 ** ((bucket + 1) / _BUCKETS_PER_DOUBLING))
        return self.max_us

    def newest_us(self, percent: float) -> float:
        """The same of the newest 512 latencies, for a display."""
        if not self._newest_us:
            return 0.0
        ordered = sorted(self._newest_us)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
