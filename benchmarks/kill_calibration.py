"""Kills the service or its worker anywhere in a whole calibration, again and again, and holds what is left against what was told.

    python -m benchmarks.kill_calibration FOLDER --rounds 200        FOLDER holds one wearer's takes (mien render-takes)

Each round a simulated wearer calibrates against the real service with the real worker, both as shipped, in a session of three
cues at twice their speed (benchmarks.short_calibrations). Recordings are kept, so that an accepted take is an acknowledged one;
before three of four rounds a spoiled head is made live, so that the fit is better and is promoted. SIGKILL comes at a moment
that benchmarks.killer draws; one round of ten kills a service that is just starting. Then

    the store opens; every acknowledged take and head is there and reads, with at most one take or head that was under way;
    the live head is byte for byte the one before, or the one promoted, whose parent is the one before;
    a service that is started again serves that version, and leaves no file in the store that nothing names;
    where the worker alone died, the calibration comes to its report, and each frame set of the stream to its end.

The last line is one JSON object; `faults` should be empty. A killed process is not a lost power supply.
"""

import asyncio
import json
import random
import re
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from benchmarks.calibrate import read_takes
from benchmarks.kept import WEARER, Kept, check
from benchmarks.kill_profiles import records
from benchmarks.killer import SERVICE, WORKER, Killer, Plan
from benchmarks.machine import describe_machine
from benchmarks.service_process import ServiceProcess, StartError
from benchmarks.short_calibrations import CUES, hurried
from benchmarks.simulated_wearer import Calibrated, Performance, SimulatedWearer
from calibration.errors import CalibrationError
from calibration.profiles import Profiles
from model_export.contract import CROP_SIZE_PX, Bundle, ContractError, Head, Take, read_bundle
from model_export.contract.take import Encoding
from service.client import AsyncClient, GivenConsent
from service.errors import ServiceError
from service.settings import shipped_bundle
from service.wire import EncodedFrame, FrameMessage

_RATE_HZ: Final = 30.0
_MOST: Final = 6
"""More heads or takes than this are deleted again, so that a round costs the same at the end as at the beginning."""
_REPLACED: Final = re.compile(r"^mien_replies_replaced(?:_total)? (\d+)", re.MULTILINE)


@dataclass(slots=True)
class Counts:
    """What is told at the end."""

    killed: dict[str, Counter[str]] = field(default_factory=lambda: {SERVICE: Counter(), WORKER: Counter()})
    live: Counter[str] = field(default_factory=Counter)
    """Live heads after a kill: the old one, the new one that was told, the new one that was not told yet."""
    takes: Counter[str] = field(default_factory=Counter)
    files_left: int = 0
    """Files that a killed process left, half written or without a row."""
    frame_sets: Counter[str] = field(default_factory=Counter)
    """Of rounds in which the worker alone died."""
    slowest_reply_ms: float = 0.0
    """Of those rounds."""
    faults: list[str] = field(default_factory=list)


class Trial:
    """A store, the service over it, and a wearer who calibrates. Final."""

    def __init__(self, folder: Path, takes: Mapping[str, Take], bundle: Path, *, seed: int, pace: int) -> None:
        self.counts = Counts()
        self._folder = folder
        self._takes = {cue: hurried(takes[cue], pace) for cue in CUES}
        self._bundle_folder = bundle
        self._bundle = read_bundle(bundle)
        self._pace = pace
        self._random = random.Random(seed)
        self._services = ExitStack()
        self._service = self._started()
        self._start_s = 0.0
        self._course_s = 0.0

    def __enter__(self) -> "Trial":
        return self

    def __exit__(self, *_: object) -> None:
        self._services.close()

    def measure(self) -> None:
        """Starts the service and calibrates once without a kill: how long both take. Raises AssertionError when that fails."""
        self._enter(self._service)
        started_s = time.monotonic()
        wearer = self._wearer(0.0)
        asyncio.run(wearer.run(GivenConsent("1", keep_takes=True)))
        self._course_s = time.monotonic() - started_s
        assert wearer.found.report is not None, wearer.found.events[-1:]
        assert wearer.found.accepted == list(CUES), wearer.found.refused

    def round(self, number: int) -> None:
        """One kill, and what it left."""
        before = self._prepare()
        starting = self._random.random() < 0.1
        what = "a start" if starting else "?"
        try:
            if starting:
                told, what = self._kill_start(), "service loading"
            else:
                told, what = self._kill_calibration()
            with closing(Profiles(self._folder)) as store:
                found = check(store, before, told)
                self._count(before, found, told)
                if not self._service.running:
                    self.counts.files_left += len(self._strays(store))
                    self._service = self._started()
                    self._enter(self._service)
                    assert not (left := self._strays(store)), f"the service left {left}"
            asyncio.run(self._ask(found.live))
        except (AssertionError, CalibrationError, ContractError, ServiceError, StartError, OSError) as error:
            self.counts.faults.append(f"round {number}, {what}: {error}")
            if not self._service.running:
                self._service = self._started()
                self._enter(self._service)

    def _prepare(self) -> Kept:
        """A wearer with a spoiled head, in one round of four a new one; the store is kept small."""
        with closing(Profiles(self._folder)) as store:
            fresh = self._random.random() < 0.25
            if fresh and WEARER in store.wearers():
                store.delete_wearer(WEARER)
            if not fresh:
                if WEARER not in store.wearers():
                    store.create(WEARER)
                store.give_consent(WEARER, "1", keep_takes=True)
                if len(store.profile(WEARER).takes) > _MOST:
                    store.withdraw_consent(WEARER)
                    store.give_consent(WEARER, "1", keep_takes=True)
                store.add_head(WEARER, spoiled(self._bundle, self._random), live=True)
                for head in store.profile(WEARER).heads[:-_MOST]:
                    store.delete_head(WEARER, head.version)
            return Kept.of(store)

    def _kill_start(self) -> Calibrated:
        self._service.kill()
        self._service = self._started()
        time.sleep(self._random.uniform(0.0, self._start_s))
        self._service.kill()
        self.counts.killed[SERVICE]["service loading"] += 1
        return Calibrated()

    def _kill_calibration(self) -> tuple[Calibrated, str]:
        plan = Plan.drawn(self._random, self._course_s)
        wearer = self._wearer(self._random.uniform(0.0, 0.3))
        killer = Killer(plan, self._service, wearer.found, self._folder / "files")
        replaced = self._replaced()
        killer.start()
        lost: ServiceError | None = None
        early = False
        try:
            asyncio.run(wearer.run(GivenConsent("1", keep_takes=True)))
        except ServiceError as error:
            lost, early = error, not killer.killed
        killer.calibration_over()
        assert killer.killed, f"the service died by itself, {killer.phase}"
        found, what = wearer.found, f"{killer.killed}, {killer.phase}"
        self.counts.killed[killer.killed][killer.phase] += 1
        try:
            assert lost is None or (killer.killed == SERVICE and not early), f"{lost} The service lived."
            assert not killer.orphans, "the worker lives on without its service"
            if killer.killed == WORKER:
                self._look_at_stream(found, self._replaced() - replaced)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None
        return found, what

    def _look_at_stream(self, found: Calibrated, replaced: int) -> None:
        """The worker alone died: the service goes on, and the calibration comes to its end."""
        assert self._service.running, "the service died with its worker"
        told = [event.event for event in found.events]
        assert found.report is not None, f"no report: {found.events[-1:]}"
        assert found.report["failure"] is None, f"{found.report['failure']} {told}"
        ends = {"sent": found.sent, "answered": found.answered, "dropped": found.dropped, "replaced": replaced}
        self.counts.frame_sets.update(ends)
        self.counts.slowest_reply_ms = max(self.counts.slowest_reply_ms, *found.latency_ms["during"])
        assert found.sent == found.answered + found.dropped + replaced, f"frame sets without an end: {ends}"

    def _count(self, before: Kept, found: Kept, told: Calibrated) -> None:
        promoted = told.report is not None and told.report["head_version"] is not None
        self.counts.live["old" if found.live == before.live else "new" if promoted else "new, not told yet"] += 1
        self.counts.takes["acknowledged"] += len(told.accepted)
        self.counts.takes["not told yet"] += len(found.takes) - len(before.takes) - len(told.accepted)

    async def _ask(self, live: int) -> None:
        """The service answers this wearer with the live head."""
        images = Performance(self._takes).pictures(0)
        side = CROP_SIZE_PX
        frames = tuple(EncodedFrame(camera, Encoding.GRAY8, side, side, 0, image) for camera, image in images.items())
        async with AsyncClient(self._stream_url, reconnect=False) as client:
            configured = await client.configure(WEARER)
            assert configured.head_version == live, f"configured with {configured.head_version}, live is {live}"
            reply = await client.ask(FrameMessage(0, frames))
            assert reply.values.head_version == live, f"answered by {reply.values.head_version}, live is {live}"

    def _strays(self, store: Profiles) -> list[str]:
        """Files of the store that nothing names."""
        named = {record.digest for wearer in store.wearers() for record in records(store.profile(wearer))}
        files = self._folder / "files"
        return sorted(path.name for path in files.iterdir() if path.name not in named) if files.exists() else []

    def _wearer(self, before_s: float) -> SimulatedWearer:
        return SimulatedWearer(self._stream_url, self._takes, wearer=WEARER, rate_hz=_RATE_HZ, before_s=before_s)

    @property
    def _stream_url(self) -> str:
        return f"ws{self._service.url.removeprefix('http')}/v1/stream"

    def _started(self) -> ServiceProcess:
        options = ("--profiles", str(self._folder), "--pace", str(self._pace))
        return ServiceProcess(self._bundle_folder, options=options, program=("-m", "benchmarks.short_calibrations"))

    def _enter(self, service: ServiceProcess) -> None:
        """Waits until it serves."""
        self._services.close()  # those before are dead
        started_s = time.monotonic()
        self._services.enter_context(service)
        self._start_s = max(self._start_s, time.monotonic() - started_s)

    def _replaced(self) -> int:
        with urllib.request.urlopen(f"{self._service.url}/metrics") as answer:  # noqa: S310 - our own service
            found = _REPLACED.search(str(answer.read(), "utf-8"))
        assert found is not None
        return int(found[1])


def spoiled(bundle: Bundle, random_: random.Random) -> Head:
    """The bundle's head with a mouth that is wrong by half a range, each time otherwise: any fit is better."""
    mouth = bundle.head.mouth
    off_O = np.float32(0.5) + np.float32(0.01 * random_.random())
    return replace(bundle.head, mouth=replace(mouth, bias_O=mouth.bias_O + off_O))


def run(
    folder: Path, takes: Mapping[str, Take], rounds: int, seed: int, bundle: Path | None = None, *, pace: int = 2
) -> dict[str, Any]:
    """Kills `rounds` times; gives the counts, among them `faults`, which should be empty. `folder`: of a new store."""
    started_s = time.monotonic()
    with Trial(folder, takes, bundle or shipped_bundle(), seed=seed, pace=pace) as trial:
        trial.measure()
        for number in range(rounds):
            trial.round(number)
            if number % 10 == 9:
                click.echo(f"{number + 1} rounds, {len(trial.counts.faults)} faults", err=True)
        counts = trial.counts
        return {
            "rounds": rounds,
            "seed": seed,
            "killed": {victim: dict(sorted(phases.items())) for victim, phases in counts.killed.items()},
            "live_head_after": dict(sorted(counts.live.items())),
            "takes": dict(counts.takes),
            "files_left_by_the_killed": counts.files_left,
            "frame_sets_when_the_worker_died": dict(counts.frame_sets),
            "slowest_reply_ms": round(counts.slowest_reply_ms, 1),
            "faults": counts.faults,
            "seconds": round(time.monotonic() - started_s, 1),
        }


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="Kills.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--pace", type=click.IntRange(1, 4), default=2, show_default=True, help="Speed of the cues.")
def main(folder: Path, rounds: int, seed: int, pace: int) -> None:
    """Kills calibrations; exit code 1 when one of them left a fault."""
    takes = read_takes(folder)
    if not set(CUES) <= set(takes):
        raise click.ClickException(f"{folder} should hold takes of {', '.join(CUES)}, named after their cues.")
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as scratch:
        result = run(Path(scratch) / "profiles", takes, rounds, seed, pace=pace)
    click.echo(json.dumps({"machine": machine, **result}))
    raise SystemExit(1 if result["faults"] else 0)


if __name__ == "__main__":
    main()
