import time
from importlib.metadata import version

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import STAGE_BOUNDS_US, Metrics
from service.wire import STAGES, StageTimes


def samples_of(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def make_metrics(drops: int = 0) -> Metrics:
    return Metrics("test", "ab" * 32, lambda: "cpu", lambda: drops)


def test_counts_are_given_in_prometheus_format() -> None:
    metrics = make_metrics(drops=7)
    metrics.frame_sets, metrics.connections = 5, 2
    metrics.error("jpeg")
    metrics.error("jpeg")
    samples = samples_of(metrics)
    assert samples["mien_frame_sets_total", ()] == 5
    assert samples["mien_connections", ()] == 2
    assert samples["mien_drops_total", ()] == 7
    assert samples["mien_errors_total", (("code", "jpeg"),)] == 2
    assert samples["mien_errors_total", (("code", "magic"),)] == 0
    info = {"bundle": "test", "digest": "ab" * 32, "version": version("mien-expression-units"), "provider": "cpu"}
    assert samples["mien_service_info", tuple(sorted(info.items()))] == 1


def test_stage_histograms_hold_each_reply_once() -> None:
    metrics = make_metrics()
    metrics.reply(StageTimes(10, 0, 11, 900, 60, 50, 2_000_000))
    metrics.reply(StageTimes(10, 0, 11, 1_100, 60, 50, 1_200))
    samples = samples_of(metrics)
    assert samples["mien_replies_total", ()] == 2
    for stage in STAGES:
        counts = [
            samples["mien_stage_seconds_bucket", (("le", f"{bound / 1e6:g}"), ("stage", stage))]
            for bound in STAGE_BOUNDS_US
        ]
        assert counts == sorted(counts)
        assert samples["mien_stage_seconds_bucket", (("le", "+Inf"), ("stage", stage))] == 2
        assert samples["mien_stage_seconds_count", (("stage", stage),)] == 2
    assert samples["mien_stage_seconds_bucket", (("le", "1e-05"), ("stage", "wait"))] == 2
    assert samples["mien_stage_seconds_bucket", (("le", "1e-05"), ("stage", "warp"))] == 0
    assert samples["mien_stage_seconds_bucket", (("le", "0.001"), ("stage", "inference"))] == 1
    assert samples["mien_stage_seconds_bucket", (("le", "1"), ("stage", "service"))] == 1
    assert samples["mien_stage_seconds_sum", (("stage", "inference"),)] == pytest.approx(0.002)


def test_labels_stay_bounded_whatever_a_client_sends() -> None:
    metrics = make_metrics()
    before = len(samples_of(metrics))
    for number in range(100):
        metrics.error(f"invented-{number}")
    samples = samples_of(metrics)
    assert len(samples) == before
    assert samples["mien_errors_total", (("code", "other"),)] == 100


@pytest.mark.latency
def test_a_reply_costs_less_than_five_microseconds() -> None:
    metrics, stages = make_metrics(), StageTimes(120, 100, 60, 900, 60, 50, 1_200)
    start = time.perf_counter()
    for _ in range(20_000):
        metrics.reply(stages)
    assert (time.perf_counter() - start) / 20_000 < 5e-6
