"""A headset that costs almost nothing: a blocking socket that speaks just enough WebSocket to be measured against.

A client library, however good, adds its own time to each latency: 100 to 200 us for Python's. Here each message is framed before
the clock starts, masked with the key 0 (a key a client may not choose on the open internet, where proxies listen), and only
its sequence number and capture times are written into it before it goes out with one system call.
"""

import base64
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Self
from urllib.parse import urlsplit

from service.wire import DESCRIPTOR, FRAMES_HEADER, SUBPROTOCOL_BINARY, FrameMessage, encode_frames

TEXT: Final = 1
BINARY: Final = 2
_CLOSE: Final = 8
_PING: Final = 9
_SEND_BUFFER_BYTES: Final = 4 << 20
"""So that one headset of several in a thread never waits for the service to read another's message."""


class LostError(ConnectionError):
    """The service refused or ended the connection."""


class FramedMessage:
    """A frame set as the bytes that go out, with places for its sequence number and capture times."""

    def __init__(self, message: FrameMessage) -> None:
        payload = encode_frames(message)
        self._start = 8 if len(payload) <= 0xFFFF else 14
        size = struct.pack(">BH", 0xFE, len(payload)) if self._start == 8 else struct.pack(">BQ", 0xFF, len(payload))
        self.bytes = bytearray(b"\x82" + size + bytes(4) + payload)
        first = self._start + FRAMES_HEADER.size
        self._times = [first + DESCRIPTOR.size * frame + 8 for frame in range(len(message.frames))]

    def stamp(self, sequence: int, t_ns: int) -> bytearray:
        """The bytes with another sequence number and capture time."""
        struct.pack_into("<I", self.bytes, self._start + 8, sequence)
        for place in self._times:
            struct.pack_into("<q", self.bytes, place, t_ns)
        return self.bytes


class Headset:
    """One connection; `url` is ws://host:port/v1/stream. Raises LostError when the service does not take it."""

    def __init__(self, url: str, messages: Sequence[FramedMessage], timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "ws" or parts.hostname is None:
            raise LostError(f"The address should begin with ws:// and name a host. Found {url!r}.")
        self._messages = messages
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._received = bytearray()
        try:
            self._shake_hands(parts.netloc, parts.path)
        except BaseException:
            self.socket.close()
            raise
        if sys.platform == "win32":
            return  # where this option is another type
        self.socket.settimeout(None)  # a Python timeout costs a poll before each call
        seconds = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shake_hands(self, netloc: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL_BINARY}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                raise LostError(f"The service closed the handshake. Found {bytes(self._received)[:200]!r}.")
            self._received += data
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise LostError(f"The service refused the handshake: {head.splitlines()[0].decode()} {rest[:300]!r}")
        self._received = bytearray(rest)

    def send(self, sequence: int, t_ns: int) -> None:
        """Sends the next recorded frame set under this number and capture time."""
        self.socket.sendall(self._messages[sequence % len(self._messages)].stamp(sequence, t_ns))

    def receive(self) -> Iterator[tuple[int, bytes]]:
        """Waits for bytes, then gives each whole message in them as (TEXT or BINARY, payload); answers pings."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            raise TimeoutError("The service did not answer in time.") from None
        if not data:
            raise LostError("The service closed the connection.")
        received = self._received
        received += data
        while len(received) >= 2:
            kind, size, start = received[0] & 0x0F, received[1] & 0x7F, 2
            if size >= 126:
                start = 4 if size == 126 else 10
                if len(received) < start:
                    return
                size = int.from_bytes(received[2:start], "big")
            if len(received) < start + size:
                return
            payload = bytes(received[start : start + size])
            del received[: start + size]
            if kind == _CLOSE:
                raise LostError(f"The service closed the connection: {payload[2:].decode(errors='replace')}")
            if kind == _PING:
                self.socket.sendall(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)
            elif kind in (TEXT, BINARY):
                yield kind, payload

    def close(self) -> None:
        """Says goodbye and closes."""
        with suppress(OSError):  # the service was faster
            self.socket.sendall(b"\x88\x82" + bytes(4) + struct.pack(">H", 1000))
        self.socket.close()
