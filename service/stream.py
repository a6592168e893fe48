"""One headset on the WebSocket: frame sets in, replies out, newest wins in both directions.

Read top to bottom: Streams takes a connection in; Stream.run greets, reads until the client leaves, and sends what the engine
answers. The engine computes on a thread of its own and never waits for a client; a client never waits for another.

This speaks raw ASGI. Starlette's WebSocket checks a state machine around each message, which costs 2 us of the 150 us that
the whole path may cost, and hides the one thing that matters here: what happens while a send has to wait.

Close codes: 1001 the service stops, 1003 a binary message where only text is spoken, 1007 text that is not UTF-8 or not JSON,
1008 too many refused messages in a row, 1009 a message that is too long, 1011 the engine failed, 1013 too many headsets.
"""

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from calibration.worker import WorkerConfig
from model_export.contract import Bundle
from service.access import refuse
from service.calibrating import Calibration, Calibrations
from service.calibration_log import CalibrationLog
from service.engine import Connection, Engine
from service.errors import ErrorCode, RequestError, WireError
from service.json_fields import is_json
from service.metrics import Metrics
from service.settings import Settings
from service.wearers import Wearers
from service.wire import (
    DEFAULT_WEARER,
    STARTS,
    SUBPROTOCOL_BINARY,
    SUBPROTOCOL_JSON,
    Calibrate,
    CalibrationTold,
    Closing,
    Configure,
    Configured,
    FrameMessage,
    Hello,
    Limits,
    Reply,
    decode_frames,
    encode_calibration,
    encode_closing,
    encode_configured,
    encode_error,
    encode_hello,
    encode_reply,
    encode_reply_json,
    parse_control,
    parse_text,
)

SUBPROTOCOLS: Final = (SUBPROTOCOL_BINARY, SUBPROTOCOL_JSON)
GOODBYE_S: Final = 0.5
"""How long a client that does not read can hold up the goodbye to it."""

_log = logging.getLogger("mien.stream")


class Streams:
    """The connected headsets; an ASGI application, called once for each WebSocket."""

    def __init__(
        self,
        engine: Engine,
        wearers: Wearers,
        settings: Settings,
        metrics: Metrics,
        bundle: Bundle,
    ) -> None:
        self.engine = engine
        self.wearers = wearers
        self.calibrations = Calibrations(
            wearers, bundle.backbone_digest, partial(_worker_config, settings.bundle, settings.profiles)
        )
        self.metrics = metrics
        self.limits = Limits(max_message_bytes=settings.max_message_bytes)
        self.max_malformed = settings.max_malformed
        self.bundle_name = bundle.name
        self.bundle_digest = bundle.digest
        self._max_connections = settings.max_connections
        self._open: set[Stream] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One headset, from handshake to close."""
        protocol = next((name for name in scope["subprotocols"] if name in SUBPROTOCOLS), None)
        if protocol is None:
            offered = ", ".join(scope["subprotocols"])[:100] or "none"
            remedy = "Name one of them in the handshake (Sec-WebSocket-Protocol)."
            error = RequestError(400, ErrorCode.SUBPROTOCOL, f"one of {', '.join(SUBPROTOCOLS)}", offered, remedy)
            self.metrics.error(error.code)
            await refuse(scope, receive, send, error)
            return
        await receive()
        await send({"type": "websocket.accept", "subprotocol": protocol})
        # A browser cannot read the body of a refused handshake, but it sees a close code: full is told after accepting.
        if self._stopping or len(self._open) >= self._max_connections or not self.engine.running:
            self.metrics.connections_refused += 1
            code, reason = (
                (1001, "The service stops.") if self._stopping else (1013, "Too many headsets; try again later.")
            )
            if not self._stopping and not self.engine.running:
                code, reason = 1011, "The engine does not run."
            await send({"type": "websocket.send", "text": encode_closing(Closing(reason))})
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return
        stream = Stream(self, protocol, receive, send)
        self._open.add(stream)
        self.metrics.connections = len(self._open)
        self.metrics.connections_total += 1
        try:
            await stream.run()
        finally:
            self._open.discard(stream)
            self.metrics.connections = len(self._open)

    def stream_of(self, number: int) -> "Stream | None":
        """The headset of this number; None when it is not connected."""
        return next((stream for stream in self._open if stream.number == number), None)

    def calibration_log(self, number: int) -> CalibrationLog | None:
        """What the calibration of this headset has told; None when it is not connected."""
        stream = self.stream_of(number)
        return None if stream is None else stream.log

    async def say_goodbye(self) -> None:
        """Tells every headset that the service stops, and takes no new ones in."""
        self._stopping = True
        goodbyes = [asyncio.create_task(stream.close(1001, "The service stops.")) for stream in self._open]
        if goodbyes:
            _, waiting = await asyncio.wait(goodbyes, timeout=GOODBYE_S)
            for task in waiting:
                task.cancel()


class Stream:
    """One connected headset."""

    def __init__(self, streams: Streams, protocol: str, receive: Receive, send: Send) -> None:
        self._streams = streams
        self._metrics = streams.metrics
        self._binary = protocol == SUBPROTOCOL_BINARY
        self._receive = receive
        self._send_raw = send
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        self._wearer = DEFAULT_WEARER
        self._refused_in_a_row = 0
        self._closed = False
        self.log = CalibrationLog()
        """What its newest calibration has told."""
        self._setting_up = asyncio.Lock()  # headset and page may both configure and start; frame sets never wait for it
        self._calibration: Calibration | None = None
        self._calibrating: asyncio.Task[None] | None = None
        self._connection: Connection = streams.engine.connect(DEFAULT_WEARER, None, self._on_answer)

    @property
    def number(self) -> int:
        """Counts the connections of this service from 1."""
        return self._connection.number

    @property
    def wearer(self) -> str:
        """Who wears the headset."""
        return self._wearer

    async def calibrate(self, wish: Calibrate, wearer: str | None = None) -> None:
        """What somebody else than the headset wishes; `wearer`: who wears it from now on. Raises WireError where it cannot be."""
        async with self._setting_up:
            if wearer is not None and wearer != self._wearer:
                await self._configure(Configure(wearer))
            await self._calibrate(wish)

    async def run(self) -> None:
        """Serves the headset until it leaves, misbehaves too often, or the service stops."""
        answers = self._loop.create_task(self._send_answers())
        try:
            streams = self._streams
            version = self._connection.head_version
            hello = Hello(streams.bundle_name, streams.bundle_digest, self._wearer, version, streams.limits)
            await self._send({"type": "websocket.send", "text": encode_hello(hello)})
            await self._read_messages()
        except OSError:
            pass  # the headset left while something was being sent to it
        finally:
            self._closed = True
            self._connection.close()
            answers.cancel()
            tasks = [answers]
            if self._calibrating is not None:
                self._calibrating.cancel()
                tasks.append(self._calibrating)
            await asyncio.wait(tasks)

    async def _read_messages(self) -> None:
        receive, connection, limits, metrics = self._receive, self._connection, self._streams.limits, self._metrics
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            received_ns = time.perf_counter_ns()
            data = event.get("bytes")
            try:
                if data is not None and self._binary:
                    message = decode_frames(data, limits)
                    connection.offer(message, received_ns)
                    metrics.frame_sets += 1
                    if self._calibration is not None:
                        self._calibration.offer(message, connection.rig)
                elif data is not None:
                    raise _not_text(len(data))
                else:
                    await self._read_text(event["text"], received_ns)
                self._refused_in_a_row = 0
            except WireError as error:
                await self._refuse(error, event.get("text"))

    async def _read_text(self, text: str, received_ns: int) -> None:
        limits = self._streams.limits
        message = parse_control(text, limits) if self._binary else parse_text(text, limits)
        if isinstance(message, FrameMessage):
            self._connection.offer(message, received_ns)
            self._metrics.frame_sets += 1
            if self._calibration is not None:
                self._calibration.offer(message, self._connection.rig)
        else:
            async with self._setting_up:
                await (self._calibrate(message) if isinstance(message, Calibrate) else self._configure(message))

    async def _calibrate(self, wish: Calibrate) -> None:
        """Starts a calibration, or hands a wish to the one that runs; the rest of it goes on beside the stream."""
        running = self._calibration is not None and not self._calibration.over
        if running == (wish.do in STARTS):
            raise WireError(
                ErrorCode.CONFLICT,
                f"A `{wish.do}` needs {'no' if running else 'a'} calibration on this connection.",
                "one that runs" if running else "none",
                "Cancel it first." if running else "Start one.",
            )
        if self._calibration is not None and running:
            self._calibration.wish(wish)
            return
        self._calibration = await self._streams.calibrations.start(self._wearer, wish, self._tell)
        self._calibrating = self._loop.create_task(self._run_calibration(self._calibration))

    async def _run_calibration(self, calibration: Calibration) -> None:
        try:
            await calibration.run()
        except OSError:
            pass  # the headset left; the reader sees it too
        finally:
            if self._calibration is calibration:
                self._calibration = None

    async def _tell(self, told: dict[str, Any]) -> None:
        self.log.add(told)
        event = told.pop("event")
        await self._send({"type": "websocket.send", "text": encode_calibration(CalibrationTold(event, told))})

    async def _configure(self, wish: Configure) -> None:
        if self._calibration is not None and not self._calibration.over:
            raise WireError(
                ErrorCode.CONFLICT,
                "A wearer and a rig should stay during a calibration.",
                "another",
                "Cancel it first.",
            )
        if wish.wearer is not None:
            await self._streams.wearers.bring(wish.wearer)
        self._connection.configure(wish.wearer, wish.rig)  # refuses before anything has changed
        self._wearer = wish.wearer or self._wearer
        configured = Configured(self._wearer, self._connection.head_version)
        await self._send({"type": "websocket.send", "text": encode_configured(configured)})

    async def _refuse(self, error: WireError, text: str | None) -> None:
        self._metrics.error(error.code)
        self._refused_in_a_row += 1
        await self._send({"type": "websocket.send", "text": encode_error(error)})
        if self._refused_in_a_row >= self._streams.max_malformed:
            await self.close(1008, f"{self._refused_in_a_row} refused messages in a row.")
        elif text is None and not self._binary:
            await self.close(1003, f"{SUBPROTOCOL_JSON} is text only.")
        elif text is not None and error.code == ErrorCode.JSON and not is_json(text):
            await self.close(1007, "Text that is not JSON.")

    def _on_answer(self, answer: Reply | WireError) -> None:
        # On the inference thread, which goes on with the next frame set at once.
        self._loop.call_soon_threadsafe(self._outbox.put, answer)

    async def _send_answers(self) -> None:
        outbox, send, metrics, binary = self._outbox, self._send, self._metrics, self._binary
        try:
            while True:
                answer = await outbox.take()
                if isinstance(answer, WireError):
                    await self._send_engine_error(answer)
                    continue
                if binary:
                    await send({"type": "websocket.send", "bytes": encode_reply(answer)})
                else:
                    await send({"type": "websocket.send", "text": encode_reply_json(answer)})
                metrics.reply(answer.stages)
                metrics.replies_replaced += outbox.replaced
                outbox.replaced = 0
        except OSError:
            pass  # the headset left; the reader sees it too and ends the stream

    async def _send_engine_error(self, error: WireError) -> None:
        self._metrics.error(error.code)
        await self._send({"type": "websocket.send", "text": encode_error(error)})
        if not self._streams.engine.running:
            await self.close(1011, "The engine failed.")

    async def close(self, code: int, reason: str) -> None:
        """Says why and closes; waits while the headset does not read."""
        if not self._closed:
            await self._send({"type": "websocket.send", "text": encode_closing(Closing(reason))})
        if not self._closed:
            self._closed = True
            await self._send_raw({"type": "websocket.close", "code": code, "reason": reason})

    async def _send(self, message: Message) -> None:
        if not self._closed:
            await self._send_raw(message)


class Outbox:
    """A slot for one answer: a newer one replaces the one that waits. Every method runs on the event loop."""

    def __init__(self) -> None:
        self.replaced = 0
        """How many answers were replaced."""
        self._answer: Reply | WireError | None = None
        self._filled = asyncio.Event()

    def put(self, answer: Reply | WireError) -> None:
        """Fills the slot."""
        if self._answer is not None:
            self.replaced += 1
        self._answer = answer
        self._filled.set()

    async def take(self) -> Reply | WireError:
        """Waits for an answer and empties the slot."""
        await self._filled.wait()
        self._filled.clear()
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer


def _worker_config(bundle: Path, profiles: Path | None, wearer: str, *, keeps: bool, recentres: bool) -> WorkerConfig:
    return WorkerConfig.for_bundle(bundle, profiles if keeps else None, wearer, recentre=recentres)


def _not_text(size: int) -> WireError:
    return WireError(
        ErrorCode.KIND,
        f"Messages of {SUBPROTOCOL_JSON} should be text.",
        f"a binary message of {size} bytes",
        f"Ask for the subprotocol {SUBPROTOCOL_BINARY} to send binary frame sets.",
    )
