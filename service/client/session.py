"""What both clients share: what to send, what a message of the service means, what was counted. No I/O, no clock.

A session lives as long as its client; connections come and go beneath it.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import ConnectionClosed, InvalidStatus

from model_export.contract.frames import Camera, FrameSet
from service.client.images import encode_frame_set
from service.errors import UnreachableError, WireError
from service.wire import (
    SUBPROTOCOL_BINARY,
    SUBPROTOCOL_JSON,
    Calibrate,
    CalibrationTold,
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    FrameMessage,
    Hello,
    Reply,
    decode_reply,
    encode_calibrate,
    encode_configure,
    encode_frames,
    encode_frames_json,
    parse_server_text,
)

_SUBPROTOCOLS: Final = {"bin": SUBPROTOCOL_BINARY, "json": SUBPROTOCOL_JSON}
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
UNREAD_EVENTS: Final = 256
"""Events of a calibration that wait to be fetched; the oldest go first."""


@dataclass(slots=True)
class Counts:
    """What became of the frame sets of one client, over all its connections."""

    sent: int = 0
    """Given to a connection."""
    unsent: int = 0
    """Offered while there was no connection; live frames are not kept for later."""
    answered: int = 0
    refused: int = 0
    """Answered with an error."""
    dropped: int = 0
    """Replaced by newer ones in the service, as the service told."""
    unread: int = 0
    """Answers that nobody fetched before newer ones pushed them out."""
    reconnects: int = 0

    @property
    def unanswered(self) -> int:
        """Sent, but not answered with values or an error: dropped, lost with a connection, or still under way."""
        return self.sent - self.answered - self.refused


class Session:
    """The state of a client that outlives its connections."""

    def __init__(
        self,
        url: str,
        wearer: str | None = None,
        rig: Mapping[Camera, CameraPlacement] | None = None,
        protocol: str = "bin",
        jpeg_quality: int | None = None,
    ) -> None:
        if protocol not in _SUBPROTOCOLS:
            raise ValueError(f"`protocol` should be 'bin' or 'json'. Found {protocol!r}.")
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise ValueError(f"`jpeg_quality` should be 1 to 100, or None for raw images. Found {jpeg_quality}.")
        self.url = url
        self.subprotocol = _SUBPROTOCOLS[protocol]
        self.wish = Configure(wearer, rig)
        self.counts = Counts()
        self.hello: Hello | None = None
        """Of the newest connection; its head version follows Configured and the replies."""
        self.closing: Closing | None = None
        """Why the service closed the newest connection, where it said so."""
        self.told: deque[CalibrationTold] = deque(maxlen=UNREAD_EVENTS)
        """Events of the calibration that nobody has fetched yet."""
        self.calibrating = False
        """Whether a calibration runs, as far as the service has told."""
        self._jpeg_quality = jpeg_quality
        self._drops_before = 0

    def encode(self, frame_set: FrameSet | FrameMessage) -> bytes | str:
        """The frame set as a message of the subprotocol; arrays are encoded raw or as JPEG, messages go as they are."""
        message = encode_frame_set(frame_set, self._jpeg_quality) if isinstance(frame_set, FrameSet) else frame_set
        return encode_frames(message) if self.subprotocol is SUBPROTOCOL_BINARY else encode_frames_json(message)

    def decode(self, data: bytes | str) -> Reply | WireError | Hello | Configured | CalibrationTold | Closing:
        """What a message of the service means; raises UnreachableError when it is none of a mien service."""
        try:
            message = parse_server_text(data) if isinstance(data, str) else decode_reply(data)
        except WireError as error:
            raise self.unreachable(f"a message that is refused here ({error})") from None
        if isinstance(message, Reply):
            self.counts.answered += 1
            self.counts.dropped = self._drops_before + message.drops
        elif isinstance(message, WireError):
            self.counts.refused += message.sequence is not None
        elif isinstance(message, Hello):
            self.hello = message
            self._drops_before = self.counts.dropped  # the service counts anew for each connection
            self.calibrating = False  # it ended with the connection before
        elif isinstance(message, CalibrationTold):
            self.calibrating = message.event != "ended"
            if message.event == "gauge" and self.told and self.told[-1].event == "gauge":
                self.told.pop()  # the newest is all that a gauge shows
            self.told.append(message)
        elif isinstance(message, Closing):
            self.closing = message
        return message

    def opening(self) -> str | None:
        """The first message of the client on each connection; None when it wishes nothing but the defaults."""
        return None if self.wish == Configure() else encode_configure(self.wish)

    def configure(self, wish: Configure) -> str:
        """Keeps a wish for later connections, and gives the message for this one."""
        rig = self.wish.rig if wish.rig is None else {**(self.wish.rig or {}), **wish.rig}
        self.wish = Configure(self.wish.wearer if wish.wearer is None else wish.wearer, rig)
        return encode_configure(wish)

    @staticmethod
    def calibrate(wish: Calibrate) -> str:
        """The message of a wish about a calibration; it is not repeated on later connections."""
        return encode_calibrate(wish)

    def unreachable(self, found: str) -> UnreachableError:
        """The error that says who should be at the URL."""
        return UnreachableError(
            f"A mien service should answer at {self.url}.", found, "Start one with `mien serve`, or give its --url."
        )


def pauses_s() -> Iterator[float]:
    """Seconds to wait before each attempt to connect again: 0.1 doubling to 5, each times 0.5 to 1.5.

    The jitter keeps a hundred headsets from coming back to a restarted service in the same instant.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.5)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def reason_of(error: BaseException) -> str:
    """What a failed handshake or a lost connection looked like, in a few words."""
    if isinstance(error, InvalidStatus):
        body = bytes(error.response.body or b"")[:300].decode("utf-8", "replace")
        return f"HTTP status {error.response.status_code} {body}".rstrip()
    if isinstance(error, ConnectionClosed):
        return f"a closed connection ({error})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"
