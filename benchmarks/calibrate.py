"""A simulated wearer calibrates against a running service: seconds from the last cue to the answer, and what the stream noticed.

    python benchmarks/calibrate.py FOLDER                a service of its own; FOLDER holds one wearer's takes (mien render-takes)
    python benchmarks/calibrate.py FOLDER --url http://127.0.0.1:8000 --wearer ada

About two and a half minutes: the cues are performed at their own pace. Latencies are from sending a frame set to its reply, the
Python client included. Progress on stderr, one JSON object as the last line of stdout.
"""

import asyncio
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __name__ == "__main__":
    # A script finds its own folder, not the repository's.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.service_process import ServiceProcess
from benchmarks.simulated_wearer import Calibrated, SimulatedWearer
from model_export.contract import SCRIPT, Take, read_take
from service.client import GivenConsent


def read_takes(folder: Path) -> dict[str, Take]:
    """The takes of a folder that are named after cues, by cue."""
    cues = {cue.name for cue in SCRIPT}
    named = {path.stem.partition("_")[2]: path for path in sorted(folder.glob("[0-9]*_*.take"))}
    return {cue: read_take(path.read_bytes()) for cue, path in named.items() if cue in cues}


def summarise(found: Calibrated) -> dict[str, Any]:
    """The figures of a calibration as JSON values."""
    report = found.report
    return {
        "accepted": found.accepted,
        "refused": [{"cue": cue, "reason": reason} for cue, reason in found.refused],
        "gauges": found.gauges,
        "last_cue_to_answer_s": None if found.last_cue_to_answer_s is None else round(found.last_cue_to_answer_s, 2),
        "head_version": None if report is None else report["head_version"],
        "failure": None if report is None else report["failure"],
        "head_versions_seen": found.head_versions,
        "sent": found.sent,
        "answered": found.answered,
        "dropped": found.dropped,
        "latency_ms": {
            phase: {name: round(float(np.percentile(times_ms, share)), 2) for name, share in (("p50", 50), ("p99", 99))}
            for phase, times_ms in found.latency_ms.items()
            if times_ms
        },
        "report": None if report is None else report["report"],
    }


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--url", help="A running service, http://host:port; by default one is started.")
@click.option(
    "--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), help="[default: the one shipped]"
)
@click.option("--wearer", default="simulated", show_default=True, help="Whose profile it is.")
@click.option("--rate", "rate_hz", default=30.0, show_default=True, help="Frame sets a second, Hz.")
@click.option("--before", "before_s", default=5.0, show_default=True, help="How long it streams before, seconds.")
def main(*, folder: Path, url: str | None, bundle: Path | None, wearer: str, rate_hz: float, before_s: float) -> None:
    """Calibrates once and tells what it took."""
    takes = read_takes(folder)
    if "rest" not in takes:
        raise click.ClickException(f"{folder} should hold takes named after cues, 00_rest.take among them.")
    with ExitStack() as stack:
        if url is None:
            profiles = stack.enter_context(TemporaryDirectory())
            url = stack.enter_context(ServiceProcess(bundle, options=("--profiles", profiles))).url
        click.echo(f"{len(takes)} cues at {rate_hz:g} Hz against {url}", err=True)
        stream = "ws" + url.removeprefix("http") + "/v1/stream"
        one = SimulatedWearer(stream, takes, wearer=wearer, rate_hz=rate_hz, before_s=before_s)
        found = asyncio.run(one.run(GivenConsent("1")))
    click.echo(json.dumps({"machine": describe_machine(), **summarise(found)}))


if __name__ == "__main__":
    main()
