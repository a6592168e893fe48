"""Sends the shots of a source at their planned times, and tells what came back; `mien stream` and `mien demo` share it."""

import asyncio
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

import numpy as np

from service.client import AsyncClient
from service.display import Display, Status
from service.errors import WireError
from service.latency import Latencies
from service.sources import Agreement, Shot, Source, SourceError, replay
from service.wire import STAGES, FrameMessage, Reply, encode_error, encode_reply_json

_Result = TypeVar("_Result")

PENDING: Final = 4096
"""Frame sets whose send time is remembered; older ones were dropped or lost."""
LAST_ANSWERS_S: Final = 0.5
"""How long answers are awaited after the last frame set."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a source is sent."""

    rate_hz: float | None = None
    """Frame sets a second; None keeps the times of the source."""
    loop: bool = False
    seconds: float | None = None
    """Stops after this time; None sends to the end of the source."""


class StreamRun:
    """One run of a source through one client, with its measurements."""

    def __init__(self, source: Source, pace: Pace, title: str, display: Display) -> None:
        self.interrupted = False
        self.first_refusal: WireError | None = None
        self._source = source
        self._pace = pace
        self._title = title
        self._display = display
        self._latencies = Latencies()
        self._agreement = None if source.reference is None else Agreement(source.reference)
        self._planned: dict[int, tuple[int, int]] = {}
        self._reply: Reply | None = None
        self._stage_sums = [0] * len(STAGES)
        self._arrivals_ns: deque[int] = deque(maxlen=256)
        self._start_ns = 0
        self._end_ns = 0

    def on_answer(self, answer: Reply | WireError, received_ns: int) -> None:
        """For AsyncClient: takes one answer in."""
        if isinstance(answer, WireError):
            self.first_refusal = self.first_refusal or answer
            return
        self._reply = answer
        self._arrivals_ns.append(received_ns)
        planned = self._planned.pop(answer.values.sequence, None)
        if planned is None:
            return
        index, planned_ns = planned
        self._latencies.add((received_ns - planned_ns) / 1000)
        for number, name in enumerate(STAGES):
            self._stage_sums[number] += getattr(answer.stages, f"{name}_us")
        if self._agreement is not None:
            self._agreement.add(index, answer.values.values_E)

    async def send_all(self, client: AsyncClient) -> None:
        """Sends until the source, or the time, is over, or the task is cancelled; then waits a moment for the last answers."""
        self._start_ns = self._end_ns = time.perf_counter_ns()
        try:
            await self._send_all(client)
        except asyncio.CancelledError:
            self.interrupted = True
        self._end_ns = time.perf_counter_ns()
        give_up_ns = self._end_ns + round(LAST_ANSWERS_S * 1e9)
        while client.connected and client.counts.unanswered > client.counts.dropped:
            if time.perf_counter_ns() > give_up_ns:
                break
            await asyncio.sleep(0.005)
        self._show(client)

    async def _send_all(self, client: AsyncClient) -> None:
        first_t_ns: int | None = None
        pace = self._pace
        messages = replay(self._source, pace.rate_hz, loop=pace.loop)
        while (following := await self._next(messages)) is not None:
            shot, message = following
            first_t_ns = message.t_ns if first_t_ns is None else first_t_ns
            planned_ns = self._start_ns + message.t_ns - first_t_ns
            if self._source.live:
                planned_ns = time.perf_counter_ns()
            if pace.seconds is not None and planned_ns - self._start_ns >= pace.seconds * 1e9:
                return
            wait_ns = planned_ns - time.perf_counter_ns()
            await asyncio.sleep(max(0, wait_ns) / 1e9)
            _check_size(message, client)
            self._planned[message.sequence] = (shot.index, planned_ns)
            if len(self._planned) > PENDING:
                del self._planned[next(iter(self._planned))]
            await client.send(message)
            if self._display.due:
                self._show(client)

    async def _next(self, messages: Iterator[tuple[Shot, FrameMessage]]) -> tuple[Shot, FrameMessage] | None:
        if self._source.live:  # reading a camera blocks until its next picture
            return await asyncio.to_thread(next, messages, None)
        return next(messages, None)

    def _show(self, client: AsyncClient) -> None:
        if self._display.due or self._end_ns > self._start_ns:
            self._display.show(self.status(client))

    def status(self, client: AsyncClient) -> Status:
        """How the run is doing now."""
        arrivals = self._arrivals_ns
        span_ns = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0
        return Status(
            title=self._title,
            seconds=(time.perf_counter_ns() - self._start_ns) / 1e9,
            rate_hz=(len(arrivals) - 1) / span_ns * 1e9 if span_ns else 0.0,
            p50_ms=self._latencies.newest_us(50) / 1000,
            p99_ms=self._latencies.newest_us(99) / 1000,
            sent=client.counts.sent,
            drops=client.counts.dropped,
            unanswered=client.counts.unanswered,
            connected=client.connected,
            reply=self._reply,
        )

    def report(self, client: AsyncClient) -> dict[str, Any]:
        """The measurements of the run, as the JSON object that ends stdout."""
        seconds = max(1e-9, (self._end_ns - self._start_ns) / 1e9)
        count = self._latencies.count
        correlations = {} if self._agreement is None else self._agreement.correlations()
        return {
            "source": self._source.name,
            "bundle": client.hello.bundle_digest[:16],
            "head_version": client.hello.head_version if self._reply is None else self._reply.values.head_version,
            "seconds": round(seconds, 3),
            "rate_hz": round(client.counts.answered / seconds, 2),
            **asdict(client.counts),
            "unanswered": client.counts.unanswered,
            "latency_ms": {
                **{f"p{percent}": round(self._latencies.percentile_us(percent) / 1000, 3) for percent in (50, 90, 99)},
                "max": round(self._latencies.max_us / 1000, 3),
            },
            "stages_us": {
                name: round(total / max(1, count), 1) for name, total in zip(STAGES, self._stage_sums, strict=True)
            },
            "agreement": {
                "median_r": round(float(np.median(list(correlations.values()))), 4),
                "r": {name: round(r, 4) for name, r in correlations.items()},
            }
            if correlations
            else None,
        }


def _check_size(message: FrameMessage, client: AsyncClient) -> None:
    """Says what to do before the service closes the connection over it."""
    most = client.hello.limits.max_message_bytes
    size = message.byte_count + 16 + 24 * len(message.frames)
    if size > most:
        raise SourceError(
            f"A frame set should have at most {most} bytes for this service.", f"{size}", "Add --jpeg 90."
        )


def run_precisely(main: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """asyncio.run on a loop whose timers are exact to tens of microseconds; SIGINT and SIGTERM cancel the task.

    epoll and uvloop round sleeps up to whole milliseconds, which would be a tenth of a 90 Hz frame; select() does not.
    """

    async def cancelled_by_signals() -> _Result:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, task.cancel)
            except NotImplementedError:  # Windows: asyncio.Runner turns Ctrl-C into a cancellation itself
                break
        return await main()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        try:
            return runner.run(cancelled_by_signals())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def stream_through(
    run: StreamRun, url: str, *, wearer: str | None = None, protocol: str = "bin", print_replies: bool = False
) -> dict[str, Any]:
    """Connects, sends everything and gives the report; raises what AsyncClient.connect raises."""

    def on_answer(answer: Reply | WireError, received_ns: int) -> None:
        run.on_answer(answer, received_ns)
        if print_replies:
            text = encode_reply_json(answer) if isinstance(answer, Reply) else encode_error(answer)
            sys.stdout.write(text + "\n")

    client = AsyncClient(url, wearer, protocol=protocol, on_answer=on_answer)
    await client.connect()
    try:
        await run.send_all(client)
        return run.report(client)
    finally:
        await client.close()
