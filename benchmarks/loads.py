"""The two loads: as fast as answers come (closed loop), and by the clock, whatever comes (open loop).

In the open loop every latency runs from the time a frame set was due, not from when it was sent: a service that stalls is
charged for what it kept waiting (no coordinated omission: G. Tene, wrk2). How late this client itself was is reported beside it.
One thread serves all headsets; select() waits with microseconds, an event loop only with milliseconds.
"""

import ctypes
import itertools
import json
import math
import random
import select
import sys
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from benchmarks.headset import BINARY, FramedMessage, Headset
from service.wire import REPLY_BYTES, STAGES

GRACE_S: Final = 2.0
"""After the last frame set answers are awaited for this long."""
TAIL_FRAMES: Final = 60_000
"""p99.9 of fewer frames would rest on fewer than 60 of them."""
HIGHEST_US: Final = 60_000_000
_SPIN_NS: Final = 60_000
"""select() comes back up to this late; the rest is spent looking at the clock."""
_STAGES_AT: Final = 84
"""Byte of a reply where its stage times begin."""


def summarise_us(times_ns: "array[int]") -> dict[str, float | None]:
    """p50, p90, p99, p99.9 and the highest, in microseconds, from an HdrHistogram with 3 digits."""
    histogram = HdrHistogram(1, HIGHEST_US, 3)
    for time_ns in times_ns:
        histogram.record_value(min(HIGHEST_US, max(1, round(time_ns / 1000))))
    count = len(times_ns)
    wanted = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
    found: dict[str, float | None] = {
        name: float(histogram.get_value_at_percentile(share)) if count else None for name, share in wanted.items()
    }
    if count < TAIL_FRAMES:
        found["p99.9"] = None
    return found


@dataclass(slots=True)
class Samples:
    """What one load saw."""

    sent: int = 0
    answered: int = 0
    drops: int = 0
    """Frame sets that the service says a newer one replaced."""
    errors: int = 0
    """Error messages of the service."""
    latency_ns: "array[int]" = field(default_factory=lambda: array("q"))
    """From the time a frame set was due (closed loop: sent) to its answer."""
    lateness_ns: "array[int]" = field(default_factory=lambda: array("q"))
    """How late this client sent; part of the latency."""
    transport_ns: "array[int]" = field(default_factory=lambda: array("q"))
    """From sending to the answer, less the time in the service."""
    stages: bytearray = field(default_factory=bytearray)
    """The stage times of each answer as they came."""

    @property
    def unanswered(self) -> int:
        """Frame sets without an answer: dropped, refused, or answered by a reply that a newer one overtook in the service."""
        return self.sent - self.answered

    def reply(self, payload: bytes, due_ns: int, sent_ns: int, now_ns: int) -> None:
        """Counts one answer."""
        stages = payload[_STAGES_AT : _STAGES_AT + 4 * len(STAGES)]
        service_us = int.from_bytes(stages[-4:], "little")
        self.answered += 1
        self.latency_ns.append(now_ns - due_ns)
        self.transport_ns.append(now_ns - sent_ns - 1000 * service_us)
        self.stages += stages

    def stage_table_us(self) -> dict[str, dict[str, float]]:
        """Median and p99 of each stage, of transport, and of this client's lateness; microseconds."""
        columns: dict[str, NDArray[np.float64]] = {}
        stages_TS = np.frombuffer(self.stages, "<u4").reshape(-1, len(STAGES)).astype(np.float64)
        columns.update({name: stages_TS[:, column] for column, name in enumerate(STAGES)})
        columns["transport"] = np.asarray(self.transport_ns, np.float64) / 1000
        columns["client late"] = np.asarray(self.lateness_ns, np.float64) / 1000
        return {
            name: {"p50": round(float(np.percentile(times, 50)), 1), "p99": round(float(np.percentile(times, 99)), 1)}
            for name, times in columns.items()
            if len(times)
        }

    def summary(self) -> dict[str, Any]:
        """Counts, percentiles and stages."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "unanswered": self.unanswered,
            "drops": self.drops,
            "errors": self.errors,
            "latency_us": summarise_us(self.latency_ns),
            "stages_us": self.stage_table_us(),
        }


def _text(samples: Samples, payload: bytes) -> None:
    message = json.loads(payload)
    if message["type"] == "error":
        samples.errors += 1


def closed_loop(url: str, messages: Sequence[FramedMessage], seconds: float, warm_up: int = 50) -> Samples:
    """One headset that sends the next frame set as soon as it has the answer to the last; `warm_up` sets are not counted."""
    with Headset(url, messages) as headset:
        start_ns = time.perf_counter_ns()
        before = _ask_in_turn(headset, range(warm_up), start_ns, math.inf)
        end_ns = time.perf_counter_ns() + seconds * 1e9
        samples = _ask_in_turn(headset, itertools.count(warm_up), start_ns, end_ns)
    samples.drops -= before.drops
    return samples


def _ask_in_turn(headset: Headset, sequences: Iterable[int], start_ns: int, end_ns: float) -> Samples:
    samples = Samples()
    for sequence in sequences:
        sent_ns = time.perf_counter_ns()
        if sent_ns >= end_ns:
            break
        headset.send(sequence, sent_ns - start_ns)
        samples.sent += 1
        answered, errors = -1, samples.errors
        while answered != sequence and samples.errors == errors:
            for kind, payload in headset.receive():
                now_ns = time.perf_counter_ns()
                if kind != BINARY or len(payload) != REPLY_BYTES:
                    _text(samples, payload)
                    continue
                answered = int.from_bytes(payload[8:12], "little")
                samples.reply(payload, sent_ns, sent_ns, now_ns)
                samples.drops = int.from_bytes(payload[12:16], "little")
    return samples


def open_loop(
    url: str, messages: Sequence[FramedMessage], *, rate_hz: float, headsets: int, seconds: float, seed: int = 0
) -> Samples:
    """Headsets that send by the clock, each at its own phase (drawn from `seed`), whether answers come or not."""
    _sharpen_timers()
    samples = Samples()
    period_ns = round(1e9 / rate_hz)
    count = max(1, round(seconds * rate_hz))
    random_phase = random.Random(seed)
    opened = [Headset(url, messages) for _ in range(headsets)]
    try:
        by_socket = {headset.socket: number for number, headset in enumerate(opened)}
        start_ns = time.perf_counter_ns() + 100_000_000
        phases_ns = [round(random_phase.random() * period_ns) for _ in opened]
        plan = sorted(
            (start_ns + phase_ns + frame * period_ns, number, frame)
            for number, phase_ns in enumerate(phases_ns)
            for frame in range(count)
        )
        open_frames: list[dict[int, tuple[int, int]]] = [{} for _ in opened]
        drops = [0] * headsets
        sockets, step = list(by_socket), 0
        deadline_ns = plan[-1][0] + round(GRACE_S * 1e9)
        while True:
            now_ns = time.perf_counter_ns()
            if step < len(plan):
                due_ns, number, frame = plan[step]
                if now_ns >= due_ns:
                    sent_ns = time.perf_counter_ns()
                    opened[number].send(frame, due_ns - start_ns)
                    open_frames[number][frame] = (due_ns, sent_ns)
                    samples.sent += 1
                    samples.lateness_ns.append(sent_ns - due_ns)
                    step += 1
                wait_ns = 0 if step == len(plan) else max(0, plan[step][0] - time.perf_counter_ns() - _SPIN_NS)
            elif samples.answered + sum(drops) + samples.errors >= samples.sent or now_ns >= deadline_ns:
                break
            else:
                wait_ns = deadline_ns - now_ns
            for ready in select.select(sockets, (), (), wait_ns / 1e9)[0]:
                number = by_socket[ready]
                for kind, payload in opened[number].receive():
                    now_ns = time.perf_counter_ns()
                    if kind != BINARY or len(payload) != REPLY_BYTES:
                        _text(samples, payload)
                        continue
                    due_ns, sent_ns = open_frames[number].pop(int.from_bytes(payload[8:12], "little"))
                    samples.reply(payload, due_ns, sent_ns, now_ns)
                    drops[number] = int.from_bytes(payload[12:16], "little")
        samples.drops = sum(drops)
    finally:
        for headset in opened:
            headset.close()
    return samples


def _sharpen_timers() -> None:
    """Lets Linux wake this thread on time instead of up to 50 us later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK, nanoseconds
