"""Client: a headset without asyncio; the calling thread sends and receives.

The same messages as AsyncClient. A lost connection is made again by the next call, no sooner than the growing pauses allow.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidURI
from websockets.sync.client import ClientConnection, connect
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

HANDSHAKE_S = 5.0


class Client:
    """A connection to the service that comes back by itself; use it with `with`.

        with Client("ws://127.0.0.1:8000/v1/stream", wearer="anna") as client:
            reply = client.ask(frame_set)

    Not for several threads at once.
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
    ) -> None:
        self._session = Session(url, wearer, rig, protocol, jpeg_quality)
        self._reconnect = reconnect
        self._socket: ClientConnection | None = None
        self._answers: deque[Reply | WireError] = deque(maxlen=256)
        self._pauses = pauses_s()
        self._next_attempt_s = 0.0
        self._closed = False

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
        """Whether a connection is open, as far as the last call could tell."""
        return self._socket is not None

    def connect(self, patience_s: float = 0.0) -> Hello:
        """Connects, and tries again for `patience_s`; raises UnreachableError, or WireError for a refused wearer or rig."""
        give_up_s = time.monotonic() + patience_s
        for pause_s in pauses_s():
            try:
                self._socket = self._open()
                break
            except UnreachableError:
                if time.monotonic() + pause_s > give_up_s:
                    raise
            time.sleep(pause_s)
        return self.hello

    def send(self, frame_set: FrameSet | FrameMessage) -> bool:
        """Sends without waiting for the answer; False when there is no connection: live frames are not kept for later."""
        socket = self._connected_socket()
        if socket is not None:
            try:
                socket.send(self._session.encode(frame_set))
            except ConnectionClosed as error:
                self._lose(error)
            else:
                self.counts.sent += 1
                return True
        self.counts.unsent += 1
        return False

    def ask(self, frame_set: FrameSet | FrameMessage, timeout_s: float = 5.0) -> Reply:
        """Sends and waits for this answer; raises WireError when it is refused, UnansweredError when there is none."""
        sequence = frame_set.sequence
        if not self.send(frame_set):
            raise _unanswered("no connection")
        give_up_s = time.monotonic() + timeout_s
        while True:
            answer = self._read(give_up_s)
            found = answer.values.sequence if isinstance(answer, Reply) else getattr(answer, "sequence", None)
            if isinstance(answer, Reply) and found == sequence:
                return answer
            if isinstance(answer, WireError) and found == sequence:
                raise answer
            if isinstance(answer, Reply | WireError):
                self._keep(answer)

    def receive(self, timeout_s: float | None = None) -> Reply | WireError:
        """The next answer; raises UnansweredError when none comes in time or the connection is lost."""
        if self._answers:
            return self._answers.popleft()
        give_up_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            answer = self._read(give_up_s)
            if isinstance(answer, Reply | WireError):
                return answer

    def __iter__(self) -> Iterator[Reply | WireError]:
        """Answers until the connection is lost."""
        while True:
            try:
                yield self.receive()
            except ClientError:
                return

    def configure(
        self, wearer: str | None = None, rig: Mapping[Camera, CameraPlacement] | None = None, timeout_s: float = 5.0
    ) -> Configured:
        """Tells who wears the headset or how its cameras sit, now and after each reconnect; raises WireError when refused."""
        text = self._session.configure(Configure(wearer, rig))
        socket = self._connected_socket()
        if socket is None:
            raise _unanswered("no connection")
        try:
            socket.send(text)
        except ConnectionClosed as error:
            self._lose(error)
            raise _unanswered(reason_of(error)) from None
        give_up_s = time.monotonic() + timeout_s
        while True:
            answer = self._read(give_up_s)
            if isinstance(answer, Configured):
                return answer
            if isinstance(answer, WireError) and answer.sequence is None:
                raise answer
            if isinstance(answer, Reply | WireError):
                self._keep(answer)

    def calibrate(
        self, do: str = "start", *, cue: str | None = None, consent: GivenConsent | None = None, timeout_s: float = 5.0
    ) -> None:
        """Starts a calibration of this wearer, or wishes something of the one that runs: "skip", "redo" a `cue`, "cancel".

        Frame sets have to be sent all the while; events() tells how it goes. Raises WireError for a start that is refused;
        the refusal of another wish comes as an answer.
        """
        socket = self._connected_socket()
        if socket is None:
            raise _unanswered("no connection")
        try:
            socket.send(self._session.calibrate(Calibrate(do, cue, consent)))
        except ConnectionClosed as error:
            self._lose(error)
            raise _unanswered(reason_of(error)) from None
        give_up_s = time.monotonic() + timeout_s
        while do in STARTS:
            answer = self._read(give_up_s)
            if isinstance(answer, CalibrationTold):
                return
            if isinstance(answer, WireError) and answer.sequence is None:
                raise answer
            if isinstance(answer, Reply | WireError):
                self._keep(answer)

    def recentre(self, *, consent: GivenConsent | None = None, timeout_s: float = 5.0) -> None:
        """After the headset was put on again: a few seconds of rest, by which the head in use is moved where that is better.

        As calibrate(): frame sets have to be sent, events() tells how it goes, and it ends by itself after its report.
        """
        self.calibrate("recentre", consent=consent, timeout_s=timeout_s)

    def events(self) -> list[CalibrationTold]:
        """What the calibration told since the last call, as far as it was read along with answers; never waits."""
        told = list(self._session.told)
        self._session.told.clear()
        return told

    @property
    def calibrating(self) -> bool:
        """Whether a calibration runs, as far as the last call could tell."""
        return self._session.calibrating

    def close(self) -> None:
        """Says goodbye and stops reconnecting; harmless when done twice."""
        self._closed = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        if self._socket is None:
            self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connected_socket(self) -> ClientConnection | None:
        """The connection, made again where that is due; None while there is none."""
        if self._socket is not None or self._closed or not self._reconnect or self._session.hello is None:
            return self._socket
        if time.monotonic() < self._next_attempt_s:
            return None
        try:
            self._socket = self._open()
        except UnreachableError:
            self._next_attempt_s = time.monotonic() + next(self._pauses)
            return None
        self._pauses = pauses_s()
        self.counts.reconnects += 1
        return self._socket

    def _open(self) -> ClientConnection:
        """A greeted and configured connection."""
        session = self._session
        try:
            opened = connect(
                session.url,
                subprotocols=[Subprotocol(session.subprotocol)],
                compression=None,
                proxy=None,
                open_timeout=HANDSHAKE_S,
                close_timeout=1.0,
                user_agent_header=None,
            )
            # The connection outlives this function; close() is all that its __exit__ would do.
            socket = opened.__enter__()
        except InvalidURI as error:
            raise UnreachableError(
                "The URL should look like ws://127.0.0.1:8000/v1/stream.", str(error), "Give another URL."
            ) from None
        except (OSError, TimeoutError, InvalidHandshake, InvalidMessage) as error:
            raise session.unreachable(reason_of(error)) from None
        try:
            self._greet(socket)
        except (ConnectionClosed, TimeoutError) as error:
            socket.close()
            told = f": {session.closing.reason}" if session.closing else ""
            raise session.unreachable(reason_of(error) + told) from None
        except (ClientError, WireError):
            socket.close()
            raise
        return socket

    def _greet(self, socket: ClientConnection) -> None:
        session = self._session
        session.closing = None
        message = session.decode(socket.recv(HANDSHAKE_S))
        while isinstance(message, Closing):
            message = session.decode(socket.recv(HANDSHAKE_S))
        if not isinstance(message, Hello):
            raise session.unreachable("no hello as the first message")
        opening = session.opening()
        if opening is None:
            return
        socket.send(opening)
        while not isinstance(message, Configured):
            message = session.decode(socket.recv(HANDSHAKE_S))
            if isinstance(message, WireError):
                raise message

    def _read(self, give_up_s: float | None) -> Reply | WireError | Hello | Configured | CalibrationTold | Closing:
        if self._socket is None:
            raise _unanswered("no connection")
        try:
            timeout_s = None if give_up_s is None else max(0.0, give_up_s - time.monotonic())
            return self._session.decode(self._socket.recv(timeout_s))
        except TimeoutError:
            raise _unanswered("none in time") from None
        except ConnectionClosed as error:
            self._lose(error)
            raise _unanswered(reason_of(error)) from None

    def _lose(self, error: ConnectionClosed) -> None:
        del error
        self._socket = None
        self._session.calibrating = False
        self._next_attempt_s = time.monotonic() + next(self._pauses)

    def _keep(self, answer: Reply | WireError) -> None:
        self.counts.unread += len(self._answers) == self._answers.maxlen
        self._answers.append(answer)


def _unanswered(found: str) -> UnansweredError:
    return UnansweredError("An answer should come.", found, "The service may be busy with newer frame sets, or gone.")
