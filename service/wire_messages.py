"""The messages between a headset and the service, as values; wire.py and wire_json.py put them into bytes and text.

Axes: none here; the arrays of a reply are described in model_export.contract.values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from model_export.contract.expression_units import EU_NAMES, EU_SET_VERSION
from model_export.contract.frames import Camera
from model_export.contract.take import Encoding
from model_export.contract.values import ExpressionValues
from service.errors import ErrorCode, WireError
from service.jpeg import MAX_PIXELS, MAX_SIDE_PX, read_jpeg_size

PROTOCOL_VERSION: Final = 1
SUBPROTOCOL_BINARY: Final = "mien.v1.bin"
SUBPROTOCOL_JSON: Final = "mien.v1.json"
DEFAULT_WEARER: Final = "default"
FILTER_GROUPS: Final = ("gaze", "lids", "brows", "mouth")
"""Groups of the filter, in the order of `lag_ms`."""
STAGES: Final = ("wait", "decode", "warp", "inference", "head", "filter", "service")
"""Stages of a reply, in the order of StageTimes."""

WEARER_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""What a wearer's identifier looks like, from its first to its last letter: it may become the name of a file."""
_WEARER: Final = re.compile(WEARER_PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a message may cost; told to each client in the hello."""

    max_message_bytes: int = 256 * 1024
    """Of one WebSocket message. Three raw 240x240 images are 173 kB, 231 kB as base64; 128 px crops are 49 kB."""
    max_side_px: int = MAX_SIDE_PX
    max_pixels: int = MAX_PIXELS
    """Of one image."""


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One image of one camera as it travels; one that exists has a size that agrees with its payload.

    Raises WireError otherwise. The body of a JPEG is not looked at: it may still be broken.
    """

    camera: Camera
    encoding: Encoding
    width: int
    """Pixels, 1 to 4096."""
    height: int
    """Pixels, 1 to 4096."""
    t_ns: int
    """Capture time, nanoseconds of the headset's monotonic clock, 0 to 2**63 - 1."""
    payload: bytes | memoryview
    """gray8: height rows of width bytes. jpeg: a whole JPEG. Possibly a view of the message it came in."""

    def __post_init__(self) -> None:
        width, height = self.width, self.height
        if not 0 <= self.t_ns < 2**63:
            raise WireError(
                ErrorCode.TIME,
                "The capture time t_ns should be 0 to 2**63 - 1.",
                f"{self.t_ns} for {self.camera.label}",
                "Send nanoseconds of a monotonic clock.",
            )
        if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX and width * height <= MAX_PIXELS):
            raise WireError(
                ErrorCode.SIZE,
                f"An image should have sides of 1 to {MAX_SIDE_PX} px and at most {MAX_PIXELS} px in all.",
                f"{width} x {height} for {self.camera.label}",
                "Crop or scale the image before sending it.",
            )
        if self.encoding is Encoding.GRAY8:
            if len(self.payload) != width * height:
                raise WireError(
                    ErrorCode.SIZE,
                    f"A gray8 image of {width} x {height} px should have {width * height} bytes.",
                    f"{len(self.payload)} for {self.camera.label}",
                    "Send one byte a pixel, rows without padding.",
                )
        elif read_jpeg_size(self.payload) != (width, height):
            found_width, found_height = read_jpeg_size(self.payload)
            raise WireError(
                ErrorCode.SIZE,
                f"The JPEG of {self.camera.label} should be {width} x {height} px, as its descriptor says.",
                f"{found_width} x {found_height} in its header",
                "Write the size of the JPEG into the descriptor.",
            )


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """A frame set as it travels: one to three images of different cameras. Raises WireError for anything else."""

    sequence: int
    """Counts the frame sets of one connection; unsigned 32 bit."""
    frames: tuple[EncodedFrame, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.sequence < 2**32:
            raise WireError(
                ErrorCode.SEQUENCE,
                "`sequence` should be an unsigned 32 bit number.",
                f"{self.sequence}",
                "Count the frame sets of a connection from 0, and begin again at 0 after 2**32 - 1.",
            )
        if not 1 <= len(self.frames) <= len(Camera):
            raise WireError(
                ErrorCode.FRAME_COUNT,
                "A frame set should hold 1 to 3 frames.",
                f"{len(self.frames)}",
                "Send one frame a camera.",
                self.sequence,
            )
        if len({frame.camera for frame in self.frames}) != len(self.frames):
            raise WireError(
                ErrorCode.CAMERA,
                "The frames of a frame set should be of different cameras.",
                ", ".join(frame.camera.label for frame in self.frames),
                "Send one frame a camera; later frames of the same camera go into the next frame set.",
                self.sequence,
            )

    @property
    def t_ns(self) -> int:
        """Capture time of the newest frame of the set."""
        return max(frame.t_ns for frame in self.frames)

    @property
    def byte_count(self) -> int:
        """Bytes of the images, without headers."""
        return sum(len(frame.payload) for frame in self.frames)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """How long the service spent on each stage of a frame set, whole microseconds, 0 to 2**32 - 1."""

    wait_us: int
    """From receipt to the start of work: the slot of the connection, and the batch."""
    decode_us: int
    """JPEG decoding; 0 for raw images."""
    warp_us: int
    """Crop, rotation, mirror and resize."""
    inference_us: int
    """The backbones."""
    head_us: int
    """The wearer's head."""
    filter_us: int
    """The filter on capture times."""
    service_us: int
    """From receipt of the message to the encoding of its reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one frame set."""

    values: ExpressionValues
    drops: int
    """Frame sets of this connection that were replaced by newer ones before they were looked at."""
    lag_ms: tuple[float, float, float, float]
    """What the filter adds, milliseconds, in the order of FILTER_GROUPS."""
    stages: StageTimes


@dataclass(frozen=True, slots=True)
class CameraPlacement:
    """Where the canonical crop lies in the images of one camera; what is None keeps its default."""

    center_px: tuple[float, float] | None = None
    """x and y of the crop's centre, pixels from the image's upper left corner; default: the image's centre."""
    side_px: float | None = None
    """Side of the square crop; default: the shorter side of the image."""
    rotation_deg: float = 0.0
    """How far the image must be turned counter-clockwise, as seen, to stand upright."""
    mirrored: bool = False
    """True where the camera looks through a mirror."""
    rate_hz: float | None = None
    """Nominal frame rate; default: measured from the capture times."""


@dataclass(frozen=True, slots=True)
class Configure:
    """A client says who wears the headset and how its cameras sit; None leaves a part as it is."""

    wearer: str | None = None
    rig: Mapping[Camera, CameraPlacement] | None = None
    """Cameras that are absent keep their placement."""

    def __post_init__(self) -> None:
        if self.wearer is not None and not _WEARER.fullmatch(self.wearer):
            raise WireError(
                ErrorCode.FIELD,
                "`wearer` should be 1 to 64 letters, digits, '_', '.' or '-', the first a letter or digit.",
                ascii(self.wearer)[:80],
                "Name the wearer by an identifier of yours.",
            )


@dataclass(frozen=True, slots=True)
class GivenConsent:
    """What the wearer agreed to, as the client asked it."""

    version: str
    """Of the text that was shown, 1 to 64 letters."""
    keep_takes: bool = False
    """Whether recordings may outlive the calibration."""
    retention_days: int = 30


CALIBRATION_WISHES: Final = ("start", "skip", "redo", "cancel", "recentre")
STARTS: Final = ("start", "recentre")
"""Wishes that begin something, and may bring a consent; the others go to what runs."""


@dataclass(frozen=True, slots=True)
class Calibrate:
    """A client wants a calibration of its wearer, or something of the one that runs."""

    do: str
    """One of CALIBRATION_WISHES."""
    cue: str | None = None
    """Of a redo."""
    consent: GivenConsent | None = None
    """Of a start or a recentre; None where one is on record."""


@dataclass(frozen=True, slots=True)
class CalibrationTold:
    """The service tells how a calibration goes."""

    event: str
    fields: Mapping[str, Any]
    """What belongs to the event, as in docs/protocol.md."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the service says first on each connection."""

    bundle_name: str
    bundle_digest: str
    """sha256 of the bundle, hexadecimal; its first 16 digits stand in each reply."""
    wearer: str = DEFAULT_WEARER
    head_version: int = 0
    limits: Limits = DEFAULT_LIMITS
    protocol: int = PROTOCOL_VERSION
    eu_set: int = EU_SET_VERSION
    eu_names: tuple[str, ...] = field(default=EU_NAMES, repr=False)


@dataclass(frozen=True, slots=True)
class Configured:
    """The service has taken over a Configure; later replies follow it."""

    wearer: str
    head_version: int


@dataclass(frozen=True, slots=True)
class Closing:
    """The service is about to close the connection."""

    reason: str
