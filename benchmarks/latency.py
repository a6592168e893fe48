"""Latency of the service, from the headset's side: closed loop, and by the clock for one to eight headsets.

    python benchmarks/latency.py                       starts a service of its own, about five minutes
    python benchmarks/latency.py --quick               half a minute, to see that it works
    python benchmarks/latency.py --url http://127.0.0.1:8000
    python benchmarks/latency.py --seconds 65 --headsets 8 --rates 120     enough frame sets for p99.9

The client runs in this process, the service in another. The bare runtime is measured in the same run, taking turns with the
service, because a machine's speed drifts. Tables on stdout, progress on stderr, one JSON object as the last line.
"""

import itertools
import json
import math
import statistics
import sys
import time
import urllib.request
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    # A script finds its own folder, not the repository's.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np

from benchmarks.bare import BareRuntime
from benchmarks.loads import TAIL_FRAMES, Samples, closed_loop, open_loop, summarise_us
from benchmarks.machine import ServiceUse, describe_machine
from benchmarks.material import Material, read_material
from benchmarks.report import plot_report, text_report
from benchmarks.service_process import ServiceProcess
from model_export.contract import FrameSet, read_bundle
from model_export.contract.take import Encoding
from model_export.runtime import Runtime
from service.client import Client
from service.settings import shipped_bundle

TARGET_RATIO: Final = 1.25
TARGET_OVER_US: Final = 150
TARGET_P99_US: Final = 4200
TARGET_RSS_MB: Final = 150


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    seconds: float = 20.0
    """Of each load."""
    rates_hz: tuple[float, ...] = (90.0, 120.0)
    headsets: tuple[int, ...] = (1, 4, 8)
    rounds: int = 5
    """Turns that the bare runtime and the service take in the closed loop."""
    seed: int = 0
    """Of the headsets' phases."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.rounds < 1 or any(rate <= 0 for rate in self.rates_hz) or min(self.headsets) < 1:
            raise ValueError(f"A plan should have positive times, rates and counts. Found {self}.")


def _median_summary(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts added up, percentiles as the median over rounds: one disturbed round does not decide."""
    summary: dict[str, Any] = {
        name: sum(part[name] for part in rounds) for name in ("sent", "answered", "unanswered", "drops", "errors")
    }
    summary["latency_us"] = {
        name: None if any(part["latency_us"][name] is None for part in rounds)
        else statistics.median(part["latency_us"][name] for part in rounds)
        for name in rounds[0]["latency_us"]
    }  # fmt: skip
    summary["stages_us"] = {
        stage: {
            share: statistics.median(part["stages_us"][stage][share] for part in rounds) for share in ("p50", "p99")
        }
        for stage in rounds[0]["stages_us"]
    }
    return summary


def _bare_summary(times_ns: "array[int]") -> dict[str, Any]:
    counts = {"sent": len(times_ns), "answered": len(times_ns), "unanswered": 0, "drops": 0, "errors": 0}
    return {**counts, "latency_us": summarise_us(times_ns), "stages_us": {}}


def _library_loop(url: str, material: Material, seconds: float, warm_up: int = 20) -> Samples:
    """The closed loop through the package's own client library, encoding included, as an application would run it."""
    end_ns = math.inf
    samples = Samples()
    with Client(url) as client:
        start_ns = time.perf_counter_ns()
        for sequence in itertools.count():
            if sequence == warm_up:
                samples, end_ns = Samples(), time.perf_counter_ns() + seconds * 1e9
            sent_ns = time.perf_counter_ns()
            if sent_ns >= end_ns:
                break
            recorded = material.frame_sets[sequence % len(material.frame_sets)]
            t_ns = sent_ns - start_ns  # a frame that is not newer than the last would not be looked at
            client.ask(FrameSet(sequence, tuple(replace(frame, t_ns=t_ns) for frame in recorded)))
            samples.sent += 1
            samples.answered += 1
            samples.latency_ns.append(time.perf_counter_ns() - sent_ns)
    return samples


def measure(
    url: str, *, bare: BareRuntime | None, material: Material, plan: Plan, use: ServiceUse, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Every load of the plan against the service at `url` (http://host:port); the result as JSON values."""
    stream = "ws" + url.removeprefix("http") + "/v1/stream"
    framed = {encoding: material.framed(encoding) for encoding in (Encoding.GRAY8, Encoding.JPEG)}
    names = {Encoding.GRAY8: "raw", Encoding.JPEG: "jpeg"}
    loads: dict[str, Callable[[float], dict[str, Any]]] = {}
    if bare is not None:
        loads["bare runtime"] = lambda seconds: _bare_summary(bare.closed_loop(seconds))
    for encoding, name in names.items():
        loads[name] = lambda seconds, encoding=encoding: closed_loop(stream, framed[encoding], seconds).summary()  # type: ignore[misc]  # a bound default
    loads["raw, client library"] = lambda seconds: _library_loop(stream, material, seconds).summary()
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in loads}
    for turn in range(plan.rounds):
        tell(f"closed loop, round {turn + 1} of {plan.rounds}")
        for name, load in loads.items():
            turns[name].append(load(plan.seconds / plan.rounds))
    closed = {name: _median_summary(rounds) for name, rounds in turns.items()}
    if bare is not None:
        for name in set(closed) - {"bare runtime"}:
            # Compared turn by turn, then the median: what slows the machine for a while slows both of a turn.
            pairs = [
                (ours["latency_us"]["p50"], floor["latency_us"]["p50"])
                for ours, floor in zip(turns[name], turns["bare runtime"], strict=True)
            ]
            closed[name]["against_bare"] = {
                "ratio": round(statistics.median(ours / floor for ours, floor in pairs), 3),
                "over_us": round(statistics.median(ours - floor for ours, floor in pairs), 1),
            }
    open_runs, bare_paced = [], {}
    for rate_hz in plan.rates_hz:
        paced_ns: list[array[int]] = []
        for headsets in plan.headsets:
            for encoding, name in names.items():
                tell(f"open loop, {rate_hz:g} Hz, {headsets} headset(s), {name}")
                compared = bare is not None and headsets == 1 and encoding is Encoding.GRAY8
                if bare is not None and compared:
                    paced_ns.append(bare.paced(rate_hz, plan.seconds / 4))
                use.begin()
                start_s = time.monotonic()
                samples = open_loop(
                    stream, framed[encoding], rate_hz=rate_hz, headsets=headsets, seconds=plan.seconds, seed=plan.seed
                )
                cpu_percent = use.cpu_percent(time.monotonic() - start_s)
                if bare is not None and compared:
                    paced_ns.append(bare.paced(rate_hz, plan.seconds / 4))
                    floor_us = statistics.median(float(np.median(times)) / 1000 for times in paced_ns)
                    ours_us = float(np.median(samples.latency_ns)) / 1000
                    bare_paced[f"{rate_hz:g}"] = {
                        "p50_us": round(floor_us, 1),
                        "against_bare": {
                            "ratio": round(ours_us / floor_us, 3),
                            "over_us": round(ours_us - floor_us, 1),
                        },
                    }
                open_runs.append(
                    {
                        "rate_hz": rate_hz,
                        "headsets": headsets,
                        "encoding": name,
                        **samples.summary(),
                        "cpu_percent": cpu_percent,
                    }
                )
    return {
        "material": {
            "source": material.source,
            "frame_sets": len(material.frame_sets),
            "raw_bytes": len(framed[Encoding.GRAY8][0].bytes),
            "jpeg_bytes": round(statistics.mean(len(message.bytes) for message in framed[Encoding.JPEG])),
        },
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "tail_frames": TAIL_FRAMES,
        "closed_loop": closed,
        "bare_paced": bare_paced,
        "open_loop": open_runs,
        "service": {"memory_mb": use.memory_mb()},
    }


def judge(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The numbers to reach, each with what was found; a number that was not measured is left out."""
    found: list[tuple[str, float | None, float]] = []
    compared = result["closed_loop"]["raw"].get("against_bare")
    if compared is not None:
        found.append(("closed loop p50, raw, times the bare runtime", compared["ratio"], TARGET_RATIO))
        found.append(("closed loop p50, raw, us over the bare runtime", compared["over_us"], TARGET_OVER_US))
    for run in result["open_loop"]:
        if run["rate_hz"] == 120 and run["headsets"] == 1:
            name = f"120 Hz, 3 cameras, {run['encoding']}"
            found.append((f"{name}: p99 us", run["latency_us"]["p99"], TARGET_P99_US))
            found.append((f"{name}: unanswered frame sets", run["unanswered"], 0))
    found.append(("resident memory of the service, MB", result["service"]["memory_mb"]["rss"], TARGET_RSS_MB))
    return [
        {"name": name, "found": value, "at_most": limit, "met": value <= limit}
        for name, value, limit in found
        if value is not None
    ]


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"should be numbers separated by commas. Found {text!r}.") from None


@click.command()
@click.option("--url", help="A running service, http://host:port; by default one is started.")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Bundle folder to serve, and for the bare runtime.  [default: the one shipped]",
)
@click.option("--take", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Recorded frames to send.")
@click.option("--seconds", default=20.0, show_default=True, help="Length of each load, seconds.")
@click.option("--rates", default="90,120", show_default=True, callback=_numbers, help="Frame sets a second.")
@click.option("--headsets", default="1,4,8", show_default=True, callback=_numbers, help="Headsets at once.")
@click.option("--rounds", default=5, show_default=True, help="Turns in the closed loop.")
@click.option("--quick", is_flag=True, help="2 s loads, 120 Hz, 1 and 4 headsets, 2 rounds.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of the result.")
@click.option("--check", is_flag=True, help="Exit with 4 when a number to reach is missed.")
def main(
    *,
    url: str | None,
    bundle: Path | None,
    take: Path | None,
    seconds: float,
    rates: tuple[float, ...],
    headsets: tuple[float, ...],
    rounds: int,
    quick: bool,
    plot: Path | None,
    check: bool,
) -> None:
    """Measures the latency of the service; needs a quiet machine."""
    try:
        plan = Plan(2.0, (120.0,), (1, 4), 2) if quick else Plan(seconds, rates, tuple(map(int, headsets)), rounds)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    result = run(plan, url=url, bundle_folder=bundle, take=take, tell=lambda text: click.echo(text, err=True))
    click.echo(text_report(result))
    if plot is not None:
        plot_report(result, plot)
        click.echo(f"plot: {plot}", err=True)
    click.echo(json.dumps(result))
    if check and not all(target["met"] for target in result["targets"]):
        sys.exit(4)


def run(
    plan: Plan, *, url: str | None, bundle_folder: Path | None, take: Path | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The whole benchmark as a JSON object; starts and stops a service when `url` is None."""
    machine = describe_machine()
    bundle = read_bundle(bundle_folder or shipped_bundle())
    material = read_material(take)
    with ExitStack() as stack:
        pid = None
        if url is None:
            service = stack.enter_context(ServiceProcess(bundle_folder))
            url, pid = service.url, service.pid
        with urllib.request.urlopen(f"{url}/v1/bundle", timeout=5) as answer:  # noqa: S310 - the person's own address
            served = json.load(answer)
        bare = None
        if served["digest"] == bundle.digest:
            bare = BareRuntime(Runtime(bundle, provider="cpu"), material.crops_TCHW)
        else:
            tell("The service serves another bundle: no comparison with the bare runtime. Name it with --bundle.")
        result = measure(url.rstrip("/"), bare=bare, material=material, plan=plan, use=ServiceUse(url, pid), tell=tell)
    result = {
        "benchmark": "latency",
        "machine": machine,
        "bundle": {"name": served["name"], "digest": served["digest"]},
        **result,
    }
    result["targets"] = judge(result)
    return result


if __name__ == "__main__":
    main()
