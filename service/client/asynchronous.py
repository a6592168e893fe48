"""AsyncClient: a headset on asyncio, pipelined and reconnecting.

One task of its own reads. It gives each answer to whoever asked for it, to the callback, or to a bounded queue; when the
connection is lost it connects again, with growing pauses. Sending never waits for answers.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidURI
from websockets.typing import Subprotocol

from model_export.contract.frames import Camera, FrameSet
from service.client.session import Counts, Session, pauses_s, reason_of
from service.errors import ClientError, UnansweredError, UnreachableError, WireError
from service.wire import (
    STARTS,
    Calibrate,
    CalibrationTold,
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    FrameMessage,
    GivenConsent,
    Hello,
    Reply,
)

Answer = Reply | WireError

UNREAD_ANSWERS: Final = 256
"""Answers that wait for receive(); the oldest go first. Three seconds of 90 Hz."""
HANDSHAKE_S: Final = 5.0


class AsyncClient:
    """A connection to the service that comes back by itself; use it with `async with`.

        async with AsyncClient("ws://127.0.0.1:8000/v1/stream", wearer="anna") as client:
            reply = await client.ask(frame_set)

    `on_answer(answer, received_ns)`, where given, is called for each answer on the event loop instead of keeping it for
    receive(); received_ns is time.perf_counter_ns() of its arrival. One client is one headset; not for several threads.
    """

    def __init__(
        self,
        url: str,
        wearer: str | None = None,
        rig: Mapping[Camera, CameraPlacement] | None = None,
        *,
        protocol: str = "bin",
        jpeg_quality: int | None = None,
        reconnect: bool = True,
        on_answer: Callable[[Answer, int], None] | None = None,
    ) -> None:
        self._session = Session(url, wearer, rig, protocol, jpeg_quality)
        self._reconnect = reconnect
        self._on_answer = on_answer
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._configuring: asyncio.Future[Configured] | None = None
        self._starting: asyncio.Future[None] | None = None
        self._answers: deque[Answer] = deque(maxlen=UNREAD_ANSWERS)
        self._news = asyncio.Event()
        self._end: ClientError | None = None

    @property
    def counts(self) -> Counts:
        """What became of the frame sets so far."""
        return self._session.counts

    @property
    def hello(self) -> Hello:
        """What the service said first on the newest connection."""
        assert self._session.hello is not None, "connect() first"
        return self._session.hello

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._socket is not None

    @property
    def closing(self) -> Closing | None:
        """Why the service closed the newest connection, where it said so."""
        return self._session.closing

    async def connect(self, patience_s: float = 0.0) -> Hello:
        """Connects, and tries again for `patience_s`; raises UnreachableError, or WireError for a refused wearer or rig."""
        give_up_s = time.monotonic() + patience_s
        for pause_s in pauses_s():
            try:
                self._socket = await self._open()
                break
            except UnreachableError:
                if time.monotonic() + pause_s > give_up_s:
                    raise
            await asyncio.sleep(pause_s)
        self._reader = asyncio.create_task(self._read())
        return self.hello

    async def send(self, frame_set: FrameSet | FrameMessage) -> bool:
        """Sends without waiting for the answer; False when there is no connection: live frames are not kept for later."""
        socket = self._socket
        if socket is None:
            if self._end is not None:
                raise self._end
            self.counts.unsent += 1
            return False
        data = self._session.encode(frame_set)
        try:
            await socket.send(data)
        except ConnectionClosed:
            self.counts.unsent += 1
            return False
        self.counts.sent += 1
        return True

    async def ask(self, frame_set: FrameSet | FrameMessage, timeout_s: float = 5.0) -> Reply:
        """Sends and waits for this answer; raises WireError when it is refused, UnansweredError when there is none."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[frame_set.sequence] = future
        try:
            if not await self.send(frame_set):
                raise _unanswered(frame_set.sequence, "no connection")
            answer = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise _unanswered(frame_set.sequence, f"none after {timeout_s:g} s") from None
        finally:
            self._asked.pop(frame_set.sequence, None)
        if isinstance(answer, WireError):
            raise answer
        return answer

    async def receive(self, timeout_s: float | None = None) -> Answer:
        """The next answer that nobody asked for by name; raises UnansweredError, or UnreachableError at the end."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._answers:
                    if self._end is not None:
                        raise self._end
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise _unanswered(None, f"none after {timeout_s:g} s") from None
        return self._answers.popleft()

    async def __aiter__(self) -> AsyncIterator[Answer]:
        """Answers until the client is closed, or the connection is lost for good."""
        while True:
            try:
                yield await self.receive()
            except ClientError:
                return

    async def configure(
        self, wearer: str | None = None, rig: Mapping[Camera, CameraPlacement] | None = None, timeout_s: float = 5.0
    ) -> Configured:
        """Tells who wears the headset or how its cameras sit, now and after each reconnect; raises WireError when refused."""
        text = self._session.configure(Configure(wearer, rig))
        if self._socket is None:
            raise _unanswered(None, "no connection")
        self._configuring = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(text)
            return await asyncio.wait_for(self._configuring, timeout_s)
        except (TimeoutError, ConnectionClosed) as error:
            raise _unanswered(None, reason_of(error)) from None
        finally:
            self._configuring = None

    async def calibrate(
        self, do: str = "start", *, cue: str | None = None, consent: GivenConsent | None = None, timeout_s: float = 5.0
    ) -> None:
        """Starts a calibration of this wearer, or wishes something of the one that runs: "skip", "redo" a `cue`, "cancel".

        Frame sets have to be sent all the while; next_event() tells how it goes. Raises WireError for a start that is refused;
        the refusal of another wish comes as an answer.
        """
        if self._socket is None:
            raise _unanswered(None, "no connection")
        started = self._starting = asyncio.get_running_loop().create_future() if do in STARTS else None
        try:
            await self._socket.send(self._session.calibrate(Calibrate(do, cue, consent)))
            if started is not None:
                await asyncio.wait_for(started, timeout_s)
        except (TimeoutError, ConnectionClosed) as error:
            raise _unanswered(None, reason_of(error)) from None
        finally:
            self._starting = None

    async def recentre(self, *, consent: GivenConsent | None = None, timeout_s: float = 5.0) -> None:
        """After the headset was put on again: a few seconds of rest, by which the head in use is moved where that is better.

        As calibrate(): frame sets have to be sent, next_event() tells how it goes, and it ends by itself after its report.
        """
        await self.calibrate("recentre", consent=consent, timeout_s=timeout_s)

    @property
    def calibrating(self) -> bool:
        """Whether a calibration runs, whoever started it."""
        return self._session.calibrating

    async def next_event(self, timeout_s: float | None = None) -> CalibrationTold:
        """The next event of the calibration; raises UnansweredError when none comes in time, or no calibration runs any more."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._session.told:
                    if not self._session.calibrating:
                        raise _no_event("no calibration that runs")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise _no_event(f"none after {timeout_s:g} s") from None
        return self._session.told.popleft()

    async def close(self) -> None:
        """Says goodbye and stops reconnecting; harmless when done twice."""
        self._reconnect = False
        if self._end is None:
            self._end = UnansweredError("The client should be open.", "a closed one", "Connect a new client.")
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        if self._socket is not None:
            await self._socket.close()
            self._socket = None
        self._fail_waiting("a closed client")

    async def __aenter__(self) -> Self:
        if self._reader is None:
            await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> ClientConnection:
        """A greeted and configured connection."""
        session = self._session
        try:
            socket = await connect(
                session.url,
                subprotocols=[Subprotocol(session.subprotocol)],
                compression=None,  # 157 us a message, and images do not shrink
                proxy=None,  # pictures of a face go to the address given, nowhere else
                open_timeout=HANDSHAKE_S,
                close_timeout=1.0,
                user_agent_header=None,
            )
        except InvalidURI as error:
            raise UnreachableError(
                "The URL should look like ws://127.0.0.1:8000/v1/stream.", str(error), "Give another --url."
            ) from None
        except (OSError, TimeoutError, InvalidHandshake, InvalidMessage) as error:
            raise session.unreachable(reason_of(error)) from None
        try:
            await self._greet(socket)
        except (ConnectionClosed, TimeoutError) as error:
            await socket.close()
            told = f": {session.closing.reason}" if session.closing else ""
            raise session.unreachable(reason_of(error) + told) from None
        except (ClientError, WireError):
            await socket.close()
            raise
        return socket

    async def _greet(self, socket: ClientConnection) -> None:
        session = self._session
        session.closing = None
        async with asyncio.timeout(HANDSHAKE_S):
            message = session.decode(await socket.recv())
            while isinstance(message, Closing):
                message = session.decode(await socket.recv())
            if not isinstance(message, Hello):
                raise session.unreachable("no hello as the first message")
            opening = session.opening()
            if opening is None:
                return
            await socket.send(opening)
            while not isinstance(message, Configured):
                message = session.decode(await socket.recv())
                if isinstance(message, WireError):
                    raise message

    async def _read(self) -> None:
        """Reads until the client is closed or the connection is lost for good."""
        try:
            while True:
                assert self._socket is not None
                try:
                    while True:
                        data = await self._socket.recv()
                        self._take(data, time.perf_counter_ns())
                except ConnectionClosed as error:
                    self._socket = None
                    told = f": {self.closing.reason}" if self.closing else ""
                    lost = self._session.unreachable(reason_of(error) + told)
                self._fail_waiting("a lost connection")
                if not self._reconnect:
                    raise lost
                self._socket = await self._open_again()
                self.counts.reconnects += 1
        except (ClientError, WireError) as error:
            self._end = error if isinstance(error, ClientError) else self._session.unreachable(f"a refusal ({error})")
            self._news.set()

    async def _open_again(self) -> ClientConnection:
        for pause_s in pauses_s():
            await asyncio.sleep(pause_s)
            try:
                return await self._open()
            except UnreachableError:
                continue
        raise AssertionError("pauses never end")

    def _take(self, data: bytes | str, received_ns: int) -> None:
        message = self._session.decode(data)
        if isinstance(message, Reply | WireError):
            sequence = message.values.sequence if isinstance(message, Reply) else message.sequence
            future = self._asked.get(sequence) if self._asked and sequence is not None else None
            if future is not None and not future.done():
                future.set_result(message)
            elif sequence is None and self._starting is not None and isinstance(message, WireError):
                if not self._starting.done():
                    self._starting.set_exception(message)
            elif sequence is None and self._configuring is not None and isinstance(message, WireError):
                if not self._configuring.done():
                    self._configuring.set_exception(message)
            elif self._on_answer is not None:
                self._on_answer(message, received_ns)
            else:
                self.counts.unread += len(self._answers) == UNREAD_ANSWERS
                self._answers.append(message)
                self._news.set()
        elif isinstance(message, Configured) and self._configuring is not None and not self._configuring.done():
            self._configuring.set_result(message)
        elif isinstance(message, CalibrationTold):
            if self._starting is not None and not self._starting.done():
                self._starting.set_result(None)
            self._news.set()

    def _fail_waiting(self, found: str) -> None:
        for sequence, future in self._asked.items():
            if not future.done():
                future.set_exception(_unanswered(sequence, found))
        if self._configuring is not None and not self._configuring.done():
            self._configuring.set_exception(_unanswered(None, found))
        if self._starting is not None and not self._starting.done():
            self._starting.set_exception(_unanswered(None, found))
        self._session.calibrating = False
        self._news.set()


def _unanswered(sequence: int | None, found: str) -> UnansweredError:
    which = "the next frame set" if sequence is None else f"frame set {sequence}"
    return UnansweredError(
        f"An answer to {which} should come.", found, "The service may be busy with newer frame sets, or gone."
    )


def _no_event(found: str) -> UnansweredError:
    return UnansweredError("An event of a calibration should come.", found, "Start one with calibrate().")
