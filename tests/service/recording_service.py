"""A service that records what it is sent and answers as it is told: for what a healthy service never does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from service.errors import WireError
from service.wire import (
    STARTS,
    SUBPROTOCOL_BINARY,
    SUBPROTOCOL_JSON,
    Calibrate,
    CalibrationTold,
    Configure,
    Configured,
    FrameMessage,
    Hello,
    decode_frames,
    encode_calibration,
    encode_configured,
    encode_error,
    encode_hello,
    encode_reply,
    encode_reply_json,
    parse_text,
)
from tests.service.wire_material import a_reply


@dataclass
class RecordingService:
    """Answers each frame set; `behave(connection, message)` may act instead and returns True when it did."""

    behave: Callable[[ServerConnection, FrameMessage | Configure], bool] = lambda _connection, _message: False
    greeting: str | None = field(default_factory=lambda: encode_hello(Hello("base", "0123456789abcdef" * 4)))
    leaves: bool = False
    """Whether it closes each connection after its greeting."""
    url: str = ""
    messages: list[FrameMessage | Configure] = field(default_factory=list)
    wishes: list[Calibrate] = field(default_factory=list)
    script: tuple[CalibrationTold, ...] = ()
    """What it tells of a calibration after its start."""
    connections: int = 0

    def answer(self, connection: ServerConnection) -> None:
        self.connections += 1
        if self.greeting is not None:
            connection.send(self.greeting)
        if self.leaves:
            return
        try:
            for data in connection:
                self._answer_one(connection, data)
        except ConnectionClosed:
            return

    def _answer_one(self, connection: ServerConnection, data: str | bytes) -> None:
        try:
            message = parse_text(data) if isinstance(data, str) else decode_frames(data)
        except WireError as error:
            connection.send(encode_error(error))
            return
        if isinstance(message, Calibrate):
            self._calibrate(connection, message)
            return
        self.messages.append(message)
        if self.behave(connection, message):
            return
        if isinstance(message, Configure):
            connection.send(encode_configured(Configured(message.wearer or "default", 3)))
        elif connection.subprotocol == SUBPROTOCOL_BINARY:
            connection.send(encode_reply(a_reply(message.sequence)))
        else:
            connection.send(encode_reply_json(a_reply(message.sequence)))

    def _calibrate(self, connection: ServerConnection, wish: Calibrate) -> None:
        """Starts where there is a consent; shows three values of a gauge for a skip; ends for a cancel."""
        self.wishes.append(wish)
        if wish.do in STARTS and wish.consent is None:
            connection.send(encode_error(WireError("consent", "A consent.", "none", "Send it.")))
        elif wish.do in STARTS:
            connection.send(encode_reply(a_reply(77)))
            for told in (CalibrationTold("starting", {"wearer": "ada"}), *self.script):
                connection.send(encode_calibration(told))
        elif wish.do == "skip":
            for value in (0.1, 0.4, 0.7):
                connection.send(encode_calibration(CalibrationTold("gauge", {"cue": "smile", "value": value})))
        elif wish.do == "cancel":
            connection.send(encode_calibration(CalibrationTold("ended", {"outcome": "cancelled"})))


@contextmanager
def recording(service: RecordingService, port: int = 0) -> Iterator[RecordingService]:
    protocols = [Subprotocol(SUBPROTOCOL_BINARY), Subprotocol(SUBPROTOCOL_JSON)]
    with serve(service.answer, "127.0.0.1", port, subprotocols=protocols, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        service.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/stream"
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
