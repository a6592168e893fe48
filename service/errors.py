"""The errors of the service; each says what was expected, what was found and the remedy.

ServiceError
├── WireError       a message of a client that is refused; travels back to it as {"type": "error", ...}
├── RequestError    an HTTP request or a WebSocket handshake that is refused; answered with a status and {"error": {...}}
├── SettingsError   a setting that cannot be; the service does not start
└── ClientError     a client without its service; raised by service.client only
    ├── UnreachableError    nobody answers at the address, or somebody who is no mien service
    └── UnansweredError     a frame set got no answer in time, or its connection was lost
"""

from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """What is wrong with a message, for programs; the texts beside it are for people. Append, never rename."""

    MAGIC = "magic"
    """The message does not begin with MIEN."""
    VERSION = "version"
    """A protocol version that this service does not speak."""
    KIND = "kind"
    """A known frame, but not one that is expected here."""
    LENGTH = "length"
    """Bytes are missing, or left over."""
    RESERVED = "reserved"
    """A reserved field is not 0."""
    SEQUENCE = "sequence"
    """Not an unsigned 32 bit number."""
    FRAME_COUNT = "frame_count"
    """A frame set holds one to three frames."""
    CAMERA = "camera"
    """An unknown camera, or one that comes twice."""
    ENCODING = "encoding"
    """An unknown image encoding."""
    SIZE = "size"
    """Width, height and payload do not agree, or are out of bounds."""
    TIME = "time"
    """A capture time below 0 or beyond 63 bits."""
    JPEG = "jpeg"
    """A JPEG that cannot be read, or is of a refused kind."""
    TOO_LARGE = "too_large"
    """The message is longer than the service takes."""
    JSON = "json"
    """Not a JSON object, or one of an unknown type."""
    FIELD = "field"
    """A field of a JSON message is missing, unknown, or of another type or range."""
    VALUE = "value"
    """A number of a reply is out of its range."""
    HOST = "host"
    """The Host header names a service that this one is not."""
    ORIGIN = "origin"
    """A web page of another origin."""
    SUBPROTOCOL = "subprotocol"
    """The WebSocket handshake offers no subprotocol that is spoken here."""
    NOT_FOUND = "not_found"
    """Nothing stands at this path, or goes by this name."""
    METHOD = "method"
    """The path does not take this HTTP method."""
    MEDIA_TYPE = "media_type"
    """A body, or a part of one, of another media type."""
    BUSY = "busy"
    """As many connections as the service takes are open."""
    NOT_READY = "not_ready"
    """The service is starting, stopping, or broken."""
    CONFLICT = "conflict"
    """The profile is in a state that does not allow it."""
    CONSENT = "consent"
    """The wearer has not agreed to it."""
    STORAGE = "storage"
    """The profile store cannot be read or written, or its disk is full."""
    INTERNAL = "internal"
    """The service failed; the message was not at fault."""


class ServiceError(Exception):
    """Something that the service refuses or cannot do."""


class WireError(ServiceError):
    """A message that is refused: what should stand there, what stood there, and what to do."""

    def __init__(
        self, code: ErrorCode | str, expected: str, found: str, remedy: str = "", sequence: int | None = None
    ) -> None:
        super().__init__(f"{expected} Found {found}.{' ' if remedy else ''}{remedy}")
        self.code = str(code)
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.sequence = sequence
        """Of the frame set at fault; None where the message was too broken to tell, or was no frame set."""

    def of(self, sequence: int | None) -> "WireError":
        """The same error, said of a frame set."""
        return WireError(self.code, self.expected, self.found, self.remedy, sequence)

    def as_dict(self) -> dict[str, Any]:
        """The JSON message that tells the client."""
        return {
            "type": "error",
            "code": self.code,
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
            "sequence": self.sequence,
        }


class RequestError(ServiceError):
    """An HTTP request or a WebSocket handshake that is refused."""

    def __init__(self, status: int, code: ErrorCode, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"Expected {expected}. Found {found}. {remedy}")
        self.status = status
        """The HTTP status of the answer."""
        self.code = code
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def as_dict(self) -> dict[str, str]:
        """What the answer says under `error`."""
        return {"code": str(self.code), "expected": self.expected, "found": self.found, "remedy": self.remedy}


class SettingsError(ServiceError):
    """A setting that cannot be."""

    def __init__(self, name: str, expected: str, found: str, remedy: str = "") -> None:
        super().__init__(f"`{name}` should be {expected}. Found {found}.{' ' if remedy else ''}{remedy}")
        self.name = name
        """The setting's name, or its environment variable's."""
        self.expected = expected
        self.found = found
        self.remedy = remedy


class ClientError(ServiceError):
    """A client without its service."""

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{expected} Found {found}. {remedy}")
        self.expected = expected
        self.found = found
        self.remedy = remedy


class UnreachableError(ClientError):
    """Nobody answers at the address, or somebody who is no mien service."""


class UnansweredError(ClientError):
    """A frame set got no answer in time, or its connection was lost."""
