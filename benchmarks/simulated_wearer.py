"""A wearer who calibrates: streams the resting face, performs each cue from its take when asked, skips cues without one.

What a headset sees is measured all the while: latencies from the planned time of a frame set to its reply, before and during the
calibration, frame sets that were dropped, head versions that answered.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from calibration.crops import crops_of
from model_export.contract import CROP_SIZE_PX, Camera, Take
from model_export.contract.take import Encoding
from service.client import AsyncClient, CalibrationTold, GivenConsent
from service.errors import UnansweredError, WireError
from service.wire import EncodedFrame, FrameMessage, Reply

REST: Final = "rest"
EVENT_S: Final = 240.0
"""No calibration is silent for so long: a fit has 180 s."""
LAST_ANSWERS_S: Final = 2.0

_Images = dict[Camera, bytes]


class Performance:
    """The takes of one wearer as pictures at the time they are asked for."""

    def __init__(self, takes: Mapping[str, Take]) -> None:
        self._takes = {name: (take.t_ns - take.t_ns[0], _images(take)) for name, take in takes.items()}
        self._cue = REST
        self._begun_ns = 0

    def knows(self, cue: str) -> bool:
        """Whether there is a take of this cue."""
        return cue in self._takes

    def begin(self, cue: str, now_ns: int) -> None:
        """Performs a cue from its start."""
        self._cue, self._begun_ns = cue, now_ns

    def pictures(self, now_ns: int) -> _Images:
        """What the cameras see: the take that runs, and the resting face, over and over, when it has ended."""
        for cue in (self._cue, REST):
            t_ns, images = self._takes[cue]
            since_ns = now_ns - self._begun_ns
            if cue != REST and since_ns > t_ns[-1]:
                continue
            row = int(t_ns.searchsorted(since_ns % (int(t_ns[-1]) + 1), side="right")) - 1
            return images[max(0, row)]
        raise AssertionError("rest never ends")


@dataclass(slots=True)
class Calibrated:
    """How a calibration went, as its headset saw it."""

    events: list[CalibrationTold] = field(default_factory=list)
    gauges: int = 0
    accepted: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    report: Mapping[str, Any] | None = None
    """Fields of the report; None where it ended without one."""
    last_cue_to_answer_s: float | None = None
    """From the end of the last recording to the report."""
    head_versions: list[int] = field(default_factory=list)
    """That answered, in the order in which they came."""
    latency_ms: dict[str, list[float]] = field(default_factory=lambda: {"before": [], "during": []})
    sent: int = 0
    answered: int = 0
    dropped: int = 0


class SimulatedWearer:
    """One headset with its wearer; `run` calibrates once. Frame sets go out at `rate_hz` by the clock."""

    def __init__(
        self,
        url: str,
        takes: Mapping[str, Take],
        *,
        wearer: str = "simulated",
        rate_hz: float = 30.0,
        before_s: float = 5.0,
    ) -> None:
        self._client = AsyncClient(url, wearer, on_answer=self._on_answer, reconnect=False)
        self._performance = Performance(takes)
        self._rate_hz = rate_hz
        self._before_s = before_s
        self._phase = "before"
        self._planned_ns: dict[int, int] = {}
        self._found = Calibrated()

    @property
    def found(self) -> Calibrated:
        """What was found so far, also where `run` ended with an error; the counts of frame sets come at its end."""
        return self._found

    async def run(self, consent: GivenConsent) -> Calibrated:
        """Streams, calibrates, and gives what was found; raises WireError where the start is refused, ClientError where the
        connection is lost.
        """
        found = self._found
        async with self._client as client:
            streaming = asyncio.create_task(self._stream(client))
            try:
                await asyncio.sleep(self._before_s)
                self._phase = "during"
                await client.calibrate(consent=consent, timeout_s=30.0)
                await self._answer_cues(client)
                await asyncio.sleep(1.0)  # the next replies name the head that answers now
            finally:
                streaming.cancel()
                await asyncio.gather(streaming, return_exceptions=True)  # a lost connection ends it, too
            give_up_s = time.monotonic() + LAST_ANSWERS_S
            while client.counts.unanswered > client.counts.dropped and time.monotonic() < give_up_s:
                await asyncio.sleep(0.01)
            counts = client.counts
            found.sent, found.answered, found.dropped = counts.sent, counts.answered, counts.dropped
        return found

    async def follow(self) -> None:
        """Streams until it is cancelled, and performs what is asked, whoever starts a calibration."""
        async with self._client as client:
            streaming = asyncio.create_task(self._stream(client))
            try:
                while True:
                    with suppress(UnansweredError):  # it ended while nothing was asked
                        if client.calibrating:
                            await self._answer_cues(client)
                    await asyncio.sleep(0.05)
            finally:
                streaming.cancel()
                await asyncio.wait([streaming])

    async def _answer_cues(self, client: AsyncClient) -> None:
        found, ended_s = self._found, time.monotonic()
        while True:
            told = await client.next_event(EVENT_S)
            if told.event == "gauge":
                found.gauges += 1
                continue
            found.events.append(told)
            match told.event:
                case "cue" if not self._performance.knows(told.fields["cue"]):
                    await client.calibrate("skip")
                case "recording":
                    self._performance.begin(told.fields["cue"], time.monotonic_ns())
                case "judging":
                    ended_s = time.monotonic()
                case "accepted":
                    found.accepted.append(told.fields["cue"])
                case "refused":
                    found.refused.append((told.fields["cue"], told.fields["reason"]))
                case "report":
                    found.report, found.last_cue_to_answer_s = told.fields, time.monotonic() - ended_s
                    return
                case "ended":
                    return

    async def _stream(self, client: AsyncClient) -> None:
        start_ns, sequence = time.monotonic_ns(), 0
        while True:
            planned_ns = start_ns + round(sequence * 1e9 / self._rate_hz)
            await asyncio.sleep(max(0.0, (planned_ns - time.monotonic_ns()) / 1e9))
            pictures = self._performance.pictures(planned_ns)
            side = CROP_SIZE_PX
            frames = tuple(
                EncodedFrame(camera, Encoding.GRAY8, side, side, planned_ns - start_ns, image)
                for camera, image in pictures.items()
            )
            if frames:
                self._planned_ns[sequence] = time.perf_counter_ns()
                await client.send(FrameMessage(sequence, frames))
            sequence += 1

    def _on_answer(self, answer: Reply | WireError, received_ns: int) -> None:
        if isinstance(answer, WireError):
            return
        versions = self._found.head_versions
        if not versions or versions[-1] != answer.values.head_version:
            versions.append(answer.values.head_version)
        planned_ns = self._planned_ns.pop(answer.values.sequence, None)
        if planned_ns is not None:
            self._found.latency_ms[self._phase].append((received_ns - planned_ns) / 1e6)


def _images(take: Take) -> list[_Images]:
    crops = crops_of(take)
    return [
        {camera: crops_THW[t].tobytes() for camera, (crops_THW, seen_T) in sorted(crops.items()) if seen_T[t]}
        for t in range(len(take))
    ]
