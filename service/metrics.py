"""What the service counts about itself, in the text format of Prometheus.

prometheus_client takes a lock for each number, 1 to 2 us apiece and twelve numbers a frame set. Here all counting happens on the
event loop, so plain integers do (1.5 us a frame set, measured), and prometheus_client only writes them out when it is asked to.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.errors import ErrorCode
from service.wire import STAGES, StageTimes

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STAGE_BOUNDS_US: Final = (10, 25, 50, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 33_000, 100_000, 1_000_000)
"""Upper bounds of the stage histograms: a frame at 120 Hz has 8,300 us."""
_OTHER: Final = "other"
_LABELS: Final = frozenset((*ErrorCode, _OTHER))
"""All values of the label `code`: what a client sends can never add one."""


class Metrics(Collector):
    """Counts of one service process; every method runs on its event loop."""

    def __init__(
        self, bundle_name: str, bundle_digest: str, provider: Callable[[], str], drops: Callable[[], int]
    ) -> None:
        """`provider` tells what runs the backbones now: a GPU that fails at work is replaced by the CPU."""
        self._info = {"bundle": bundle_name, "digest": bundle_digest, "version": version("mien-expression-units")}
        self._provider = provider
        self._drops = drops
        self._stage_counts = tuple([0] * (len(STAGE_BOUNDS_US) + 1) for _ in STAGES)
        self._stage_sums_us = [0] * len(STAGES)
        self._errors = dict.fromkeys(sorted(_LABELS), 0)
        self.connections = 0
        """Open now."""
        self.connections_total = 0
        self.connections_refused = 0
        self.frame_sets = 0
        """Received and well-formed."""
        self.replies = 0
        """Handed to the socket."""
        self.replies_replaced = 0
        """Replaced by a newer one because their client had not read the one before."""
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def reply(self, stages: StageTimes) -> None:
        """Counts a reply that was handed to the socket."""
        self.replies += 1
        times_us = (
            stages.wait_us,
            stages.decode_us,
            stages.warp_us,
            stages.inference_us,
            stages.head_us,
            stages.filter_us,
            stages.service_us,
        )
        sums_us = self._stage_sums_us
        for stage, time_us in enumerate(times_us):
            self._stage_counts[stage][bisect_left(STAGE_BOUNDS_US, time_us)] += 1
            sums_us[stage] += time_us

    def error(self, code: str) -> None:
        """Counts a refused message or request."""
        self._errors[code if code in _LABELS else _OTHER] += 1

    def text(self) -> bytes:
        """All numbers, as GET /metrics gives them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The counts as metric families; called by the registry."""
        yield InfoMetricFamily("mien_service", "What is served.", {**self._info, "provider": self._provider()})
        yield GaugeMetricFamily("mien_connections", "Headsets connected now.", self.connections)
        yield CounterMetricFamily("mien_connections_opened", "Headsets that connected.", self.connections_total)
        yield CounterMetricFamily(
            "mien_connections_refused", "Connections refused because too many were open.", self.connections_refused
        )
        yield CounterMetricFamily("mien_frame_sets", "Well-formed frame sets received.", self.frame_sets)
        yield CounterMetricFamily("mien_replies", "Replies handed to the socket.", self.replies)
        yield CounterMetricFamily(
            "mien_drops", "Frame sets replaced by a newer one before their turn came.", self._drops()
        )
        yield CounterMetricFamily(
            "mien_replies_replaced",
            "Replies replaced by a newer one for a client that reads slowly.",
            self.replies_replaced,
        )
        errors = CounterMetricFamily("mien_errors", "Refused messages and requests.", labels=["code"])
        for code, count in self._errors.items():
            errors.add_metric([code], count)
        yield errors
        yield self._stages()

    def _stages(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "mien_stage_seconds",
            "Time of a frame set in each stage; service is from receipt to encoding.",
            labels=["stage"],
        )
        for name, counts, sum_us in zip(STAGES, self._stage_counts, self._stage_sums_us, strict=True):
            total, buckets = 0, []
            for bound, count in zip((*(f"{us / 1e6:g}" for us in STAGE_BOUNDS_US), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            family.add_metric([name], buckets, sum_us / 1e6)
        return family
