"""Wire v1: frame sets and replies as little-endian bytes; pure functions on bytes, no I/O.

docs/protocol.md has the byte tables with worked examples. The JSON twin is in wire_json.py, control messages in
wire_control.py, the messages as values in wire_messages.py; all are re-exported here.

Versions (the byte after MIEN, and the subprotocols mien.v<version>.bin and mien.v<version>.json)
    1   frame sets (kind 1), replies of EU set 1 (kind 2)
"""

import struct
from math import isfinite
from struct import Struct
from typing import Final

import numpy as np

from model_export.contract.expression_units import EU_COUNT
from model_export.contract.frames import Camera
from model_export.contract.take import Encoding
from model_export.contract.values import ExpressionValues, RegionState, Validity
from service.errors import ErrorCode, WireError
from service.wire_control import (
    encode_calibrate,
    encode_calibration,
    encode_closing,
    encode_configure,
    encode_configured,
    encode_error,
    encode_hello,
    parse_control,
    parse_server_text,
    parse_text,
)
from service.wire_json import (
    decode_frames_json,
    decode_reply_json,
    encode_frames_json,
    encode_reply_json,
    reply_as_dict,
)
from service.wire_messages import (
    DEFAULT_LIMITS,
    DEFAULT_WEARER,
    FILTER_GROUPS,
    PROTOCOL_VERSION,
    STAGES,
    STARTS,
    SUBPROTOCOL_BINARY,
    SUBPROTOCOL_JSON,
    WEARER_PATTERN,
    Calibrate,
    CalibrationTold,
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    EncodedFrame,
    FrameMessage,
    GivenConsent,
    Hello,
    Limits,
    Reply,
    StageTimes,
)

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_WEARER",
    "FILTER_GROUPS",
    "PROTOCOL_VERSION",
    "STAGES",
    "STARTS",
    "SUBPROTOCOL_BINARY",
    "SUBPROTOCOL_JSON",
    "WEARER_PATTERN",
    "Calibrate",
    "CalibrationTold",
    "CameraPlacement",
    "Closing",
    "Configure",
    "Configured",
    "EncodedFrame",
    "FrameMessage",
    "GivenConsent",
    "Hello",
    "Limits",
    "Reply",
    "StageTimes",
    "decode_frames",
    "decode_frames_json",
    "decode_reply",
    "decode_reply_json",
    "encode_calibrate",
    "encode_calibration",
    "encode_closing",
    "encode_configure",
    "encode_configured",
    "encode_error",
    "encode_frames",
    "encode_frames_json",
    "encode_hello",
    "encode_reply",
    "encode_reply_json",
    "parse_control",
    "parse_server_text",
    "parse_text",
    "reply_as_dict",
]

MAGIC: Final = b"MIEN"
KIND_FRAMES: Final = 1
KIND_REPLY: Final = 2

FRAMES_HEADER: Final = Struct("<4sBBBBII")
"""magic, version, kind, frame count, reserved, sequence, reserved: 16 bytes."""
DESCRIPTOR: Final = Struct("<BBHHHqII")
"""camera, encoding, width, height, reserved, t_ns, payload bytes, reserved: 24 bytes."""
REPLY_HEADER: Final = Struct("<4sBBHIIq8sI3BB3f4f4f7I")
"""magic, version, kind, EU count, sequence, drops, t_ns, bundle, head version, validity, reserved, confidence, gaze, lag, stages:
112 bytes; then the values, float32 each."""
REPLY_BYTES: Final = REPLY_HEADER.size + 4 * EU_COUNT

_ENCODINGS: Final = (Encoding.GRAY8, Encoding.JPEG)
"""By their number on the wire."""
_CAMERAS: Final = tuple(Camera)
_VALIDITIES: Final = tuple(Validity)
_SEND_V1: Final = "Encode it as docs/protocol.md says for mien.v1.bin."
_DOCUMENT: Final = "Compare the message with the byte table in docs/protocol.md."


def encode_frames(message: FrameMessage) -> bytes:
    """The frame set as one binary message; copies each image once."""
    frames = message.frames
    parts: list[bytes | memoryview] = [
        FRAMES_HEADER.pack(MAGIC, PROTOCOL_VERSION, KIND_FRAMES, len(frames), 0, message.sequence, 0)
    ]
    parts.extend(
        DESCRIPTOR.pack(
            frame.camera,
            frame.encoding is Encoding.JPEG,
            frame.width,
            frame.height,
            0,
            frame.t_ns,
            len(frame.payload),
            0,
        )
        for frame in frames
    )
    parts.extend(frame.payload for frame in frames)
    return b"".join(parts)


def decode_frames(data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> FrameMessage:
    """The frame set in a binary message; its images are views of `data`, not copies.

    Raises WireError for everything that is not exactly one frame set of version 1; JPEG headers are read, bodies are not.
    """
    size = len(data)
    if size > limits.max_message_bytes:
        raise WireError(
            ErrorCode.TOO_LARGE,
            f"A message should have at most {limits.max_message_bytes} bytes.",
            f"{size}",
            "Send smaller images, or JPEG.",
        )
    if size < FRAMES_HEADER.size:
        _check_magic(bytes(data[:4]))
        raise WireError(ErrorCode.LENGTH, "A frame set should have a header of 16 bytes.", f"{size} bytes", _SEND_V1)
    magic, version, kind, count, reserved, sequence, reserved_too = FRAMES_HEADER.unpack_from(data)
    _check_start(magic, version, kind, KIND_FRAMES)
    if not 1 <= count <= len(_CAMERAS):
        raise WireError(
            ErrorCode.FRAME_COUNT,
            "A frame set should hold 1 to 3 frames.",
            f"{count}",
            "Send one frame a camera.",
            sequence,
        )
    if reserved or reserved_too:
        raise _reserved("the header", sequence)
    start = FRAMES_HEADER.size + count * DESCRIPTOR.size
    if size < start:
        raise WireError(
            ErrorCode.LENGTH, f"{count} descriptors should end at byte {start}.", f"{size} bytes", _DOCUMENT, sequence
        )
    view = memoryview(data)
    frames = []
    try:
        for position in range(FRAMES_HEADER.size, start, DESCRIPTOR.size):
            camera, encoding, width, height, reserved, t_ns, length, reserved_too = DESCRIPTOR.unpack_from(
                data, position
            )
            if camera >= len(_CAMERAS):
                raise WireError(
                    ErrorCode.CAMERA,
                    "A camera should be 0 (left_eye), 1 (right_eye) or 2 (mouth).",
                    f"{camera}",
                    _DOCUMENT,
                )
            if encoding >= len(_ENCODINGS):
                raise WireError(
                    ErrorCode.ENCODING, "An encoding should be 0 (gray8) or 1 (jpeg).", f"{encoding}", _DOCUMENT
                )
            if reserved or reserved_too:
                raise _reserved(f"the descriptor at byte {position}", None)
            end = start + length
            if end > size:
                raise WireError(
                    ErrorCode.LENGTH,
                    f"The image of {_CAMERAS[camera].label} should end at byte {end}.",
                    f"{size} bytes",
                    _DOCUMENT,
                )
            frames.append(EncodedFrame(_CAMERAS[camera], _ENCODINGS[encoding], width, height, t_ns, view[start:end]))
            start = end
        if start != size:
            raise WireError(
                ErrorCode.LENGTH,
                f"The message should end at byte {start}, after its last image.",
                f"{size} bytes",
                _DOCUMENT,
            )
    except WireError as error:
        raise error.of(sequence) from None
    return FrameMessage(sequence, tuple(frames))


def encode_reply(reply: Reply) -> bytes:
    """The reply as one binary message of 336 bytes; raises WireError when a number does not fit its field."""
    values, stages = reply.values, reply.stages
    left, right, mouth = values.regions
    try:
        header = REPLY_HEADER.pack(
            MAGIC,
            PROTOCOL_VERSION,
            KIND_REPLY,
            EU_COUNT,
            values.sequence,
            reply.drops,
            values.t_ns,
            bytes.fromhex(values.bundle_digest[:16]),
            values.head_version,
            left.validity,
            right.validity,
            mouth.validity,
            0,
            left.confidence,
            right.confidence,
            mouth.confidence,
            *values.gaze_deg.tolist(),
            *reply.lag_ms,
            stages.wait_us,
            stages.decode_us,
            stages.warp_us,
            stages.inference_us,
            stages.head_us,
            stages.filter_us,
            stages.service_us,
        )
    except (struct.error, ValueError, OverflowError) as error:
        raise WireError(
            ErrorCode.VALUE, "Every number of a reply should fit its field.", str(error), _DOCUMENT
        ) from None
    return header + values.values_E.astype("<f4", copy=False).tobytes()


def decode_reply(data: bytes | memoryview) -> Reply:
    """The reply in a binary message; `bundle_digest` is its first 16 digits. Raises WireError for anything else."""
    size = len(data)
    _check_magic(bytes(data[:4]))
    if size != REPLY_BYTES:
        raise WireError(ErrorCode.LENGTH, f"A reply should have {REPLY_BYTES} bytes.", f"{size}", _DOCUMENT)
    fields = REPLY_HEADER.unpack_from(data)
    magic, version, kind, count, sequence, drops, t_ns, digest, head_version = fields[:9]
    _check_start(magic, version, kind, KIND_REPLY)
    if count != EU_COUNT:
        raise WireError(
            ErrorCode.VALUE,
            f"A reply should have {EU_COUNT} values.",
            f"{count}",
            "Use a client of this version.",
            sequence,
        )
    validity, confidence, lag = fields[9:12], fields[13:16], fields[20:24]
    if fields[12]:
        raise _reserved("the reply", sequence)
    if t_ns < 0:
        raise WireError(ErrorCode.TIME, "The capture time t_ns should be 0 or more.", f"{t_ns}", _DOCUMENT, sequence)
    if max(validity) >= len(_VALIDITIES):
        raise WireError(ErrorCode.VALUE, "A validity should be 0 to 3.", f"{max(validity)}", _DOCUMENT, sequence)
    gaze = np.frombuffer(data, "<f4", 4, 52).astype(np.float32)
    values = np.frombuffer(data, "<f4", EU_COUNT, REPLY_HEADER.size).astype(np.float32)
    if not all(map(isfinite, (*confidence, *fields[16:24]))) or not np.isfinite(values).all():
        raise WireError(ErrorCode.VALUE, "The numbers of a reply should be finite.", "others", _DOCUMENT, sequence)
    left, right, mouth = (
        RegionState(_VALIDITIES[number], share) for number, share in zip(validity, confidence, strict=True)
    )
    answer = ExpressionValues(sequence, t_ns, values, gaze, (left, right, mouth), digest.hex(), head_version)
    return Reply(answer, drops, lag, StageTimes(*fields[24:31]))


def _check_magic(magic: bytes) -> None:
    if magic != MAGIC:
        raise WireError(
            ErrorCode.MAGIC,
            "A binary message should begin with MIEN (4d 49 45 4e).",
            magic.hex(" ") or "no bytes",
            _SEND_V1,
        )


def _check_start(magic: bytes, version: int, kind: int, expected_kind: int) -> None:
    _check_magic(magic)
    if version != PROTOCOL_VERSION:
        raise WireError(
            ErrorCode.VERSION, f"The protocol version should be {PROTOCOL_VERSION}.", f"{version}", "Use mien.v1.bin."
        )
    if kind != expected_kind:
        raise WireError(
            ErrorCode.KIND,
            f"The kind should be {expected_kind} (1 frame set, 2 reply).",
            f"{kind}",
            "A client sends frame sets, the service replies.",
        )


def _reserved(where: str, sequence: int | None) -> WireError:
    return WireError(
        ErrorCode.RESERVED, f"Reserved fields of {where} should be 0.", "another value", _DOCUMENT, sequence
    )
