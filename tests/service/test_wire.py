import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.contract import Camera, Validity
from model_export.contract.take import Encoding
from service.errors import WireError
from service.wire import (
    EncodedFrame,
    FrameMessage,
    Limits,
    Reply,
    StageTimes,
    decode_frames,
    decode_reply,
    encode_frames,
    encode_reply,
)
from tests.service.wire_material import a_reply, frame_message

_RAW = encode_frames(frame_message(Encoding.GRAY8))
_JPEG = encode_frames(frame_message(Encoding.JPEG))
_REPLY = encode_reply(a_reply())


@st.composite
def _messages(draw: st.DrawFn) -> FrameMessage:
    cameras = draw(st.lists(st.sampled_from(Camera), min_size=1, max_size=3, unique=True))
    frames = []
    for camera in cameras:
        width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
        payload = draw(st.binary(min_size=width * height, max_size=width * height))
        frames.append(EncodedFrame(camera, Encoding.GRAY8, width, height, draw(st.integers(0, 2**63 - 1)), payload))
    return FrameMessage(draw(st.integers(0, 2**32 - 1)), tuple(frames))


@given(_messages())
def test_a_frame_set_comes_back_as_it_was_sent(message: FrameMessage) -> None:
    assert decode_frames(encode_frames(message)) == message


@pytest.mark.parametrize("encoding", list(Encoding))
def test_sizes_and_times_of_a_message(encoding: Encoding) -> None:
    message = frame_message(encoding)
    decoded = decode_frames(memoryview(encode_frames(message)))
    assert decoded == message
    assert decoded.t_ns == 1_000_002
    assert decoded.byte_count == sum(len(frame.payload) for frame in message.frames)
    assert len(encode_frames(message)) == 16 + 3 * 24 + decoded.byte_count


def test_images_are_views_of_the_message_not_copies() -> None:
    payload = decode_frames(_RAW).frames[1].payload
    assert isinstance(payload, memoryview)
    assert payload.obj is _RAW


def _changed(data: bytes, position: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, position, value)
    return bytes(changed)


def _malformed() -> Iterator[tuple[bytes, str, bool]]:
    """Messages, the code they should be refused with, and whether the sequence can be told."""
    yield b"", "magic", False
    yield b"GET / HTTP/1.1\r\n\r\n", "magic", False
    yield b"MIEN\x01", "length", False
    yield _changed(_RAW, 4, "B", 2), "version", False
    yield _changed(_RAW, 5, "B", 2), "kind", False
    yield _changed(_RAW, 6, "B", 0), "frame_count", True
    yield _changed(_RAW, 6, "B", 4), "frame_count", True
    yield _changed(_RAW, 7, "B", 1), "reserved", True
    yield _changed(_RAW, 12, "I", 1), "reserved", True
    yield _changed(_RAW, 16, "B", 3), "camera", True
    yield _changed(_RAW, 16, "B", 1), "camera", True
    yield _changed(_RAW, 17, "B", 2), "encoding", True
    yield _changed(_RAW, 18, "<H", 15), "size", True
    yield _changed(_RAW, 18, "<H", 0), "size", True
    yield _changed(_RAW, 18, "<H", 5000), "size", True
    yield _changed(_RAW, 22, "<H", 1), "reserved", True
    yield _changed(_RAW, 24, "<q", -1), "time", True
    yield _changed(_RAW, 32, "<I", 2**32 - 1), "length", True
    yield _changed(_RAW, 36, "<I", 1), "reserved", True
    yield _RAW[:-1], "length", True
    yield _RAW[:40], "length", True
    yield _RAW + b"\x00", "length", True
    yield _changed(_JPEG, 18, "<H", 15), "size", True
    yield _changed(_JPEG, 88, "B", 0), "jpeg", True


@pytest.mark.parametrize(("data", "code", "tells_sequence"), list(_malformed()))
def test_a_malformed_frame_set_is_refused_by_name(data: bytes, code: str, tells_sequence: bool) -> None:
    with pytest.raises(WireError) as refused:
        decode_frames(data)
    error = refused.value
    assert error.code == code
    assert error.expected.endswith(".")
    assert error.found
    assert error.remedy.endswith(".")
    assert error.sequence == (7 if tells_sequence else None)
    assert str(error) == f"{error.expected} Found {error.found}. {error.remedy}"


def test_a_message_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match=f"at most 100 bytes. Found {len(_RAW)}") as refused:
        decode_frames(_RAW, Limits(max_message_bytes=100))
    assert refused.value.code == "too_large"


def test_three_raw_images_of_240_px_fit_the_default_limit() -> None:
    message = frame_message(Encoding.GRAY8, 240, 240)
    assert decode_frames(encode_frames(message)) == message


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_wire_errors(data: bytes) -> None:
    for start in (b"", b"MIEN\x01\x01\x01\x00", b"MIEN\x01\x02", _RAW[:40], _JPEG[:100], _REPLY[:100]):
        _only_wire_errors(start + data)


@given(st.sampled_from([_RAW, _JPEG, _REPLY]), st.integers(0, 2**16), st.integers(0, 255), st.booleans())
def test_one_changed_byte_raises_nothing_but_wire_errors(whole: bytes, position: int, byte: int, cut: bool) -> None:
    position %= len(whole)
    _only_wire_errors(whole[:position] + bytes([byte]) + (b"" if cut else whole[position + 1 :]))


def test_every_bit_of_every_header_is_guarded_or_carried() -> None:
    for position in range(88):
        for bit in range(8):
            changed = bytearray(_RAW)
            changed[position] ^= 1 << bit
            try:
                assert encode_frames(decode_frames(bytes(changed))) == bytes(changed)
            except WireError:
                continue


def _only_wire_errors(data: bytes) -> None:
    """What is decoded holds every byte of the message; what is not is refused with a message for the client."""
    try:
        assert encode_frames(decode_frames(data)) == data
    except WireError as error:
        assert error.as_dict()["type"] == "error"
    try:
        assert encode_reply(decode_reply(data)) == data
    except WireError as error:
        assert error.as_dict()["type"] == "error"


def test_a_reply_of_336_bytes_comes_back_as_it_was_sent() -> None:
    reply = a_reply()
    assert len(_REPLY) == 336
    _assert_equal(decode_reply(_REPLY), reply, digest=reply.values.bundle_digest[:16])
    _assert_equal(decode_reply(memoryview(_REPLY)), reply, digest=reply.values.bundle_digest[:16])


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), min_size=7, max_size=7)
)
def test_counters_and_stages_of_a_reply_come_back(sequence: int, drops: int, stages: list[int]) -> None:
    reply = a_reply(sequence)
    decoded = decode_reply(encode_reply(Reply(reply.values, drops, reply.lag_ms, StageTimes(*stages))))
    assert (decoded.values.sequence, decoded.drops) == (sequence, drops)
    assert decoded.stages == StageTimes(*stages)


def _assert_equal(found: Reply, expected: Reply, digest: str) -> None:
    assert (found.values.values_E == expected.values.values_E).all()
    assert (found.values.gaze_deg == expected.values.gaze_deg).all()
    assert found.values.regions == expected.values.regions
    assert found.values.bundle_digest == digest
    assert (found.drops, found.lag_ms, found.stages) == (expected.drops, expected.lag_ms, expected.stages)
    assert (found.values.sequence, found.values.t_ns) == (expected.values.sequence, expected.values.t_ns)
    assert found.values.head_version == expected.values.head_version


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_REPLY[:-1], "length"),
        (_REPLY + b"\x00", "length"),
        (_RAW[:336], "kind"),
        (_changed(_REPLY, 4, "B", 9), "version"),
        (_changed(_REPLY, 6, "<H", 55), "value"),
        (_changed(_REPLY, 16, "<q", -5), "time"),
        (_changed(_REPLY, 36, "B", len(Validity)), "value"),
        (_changed(_REPLY, 39, "B", 1), "reserved"),
        (_changed(_REPLY, 40, "<I", 0x7FC00000), "value"),
        (_changed(_REPLY, 52, "<I", 0x7F800000), "value"),
        (_changed(_REPLY, 332, "<I", 0x7FC00000), "value"),
    ],
)
def test_a_malformed_reply_is_refused_by_name(data: bytes, code: str) -> None:
    with pytest.raises(WireError) as refused:
        decode_reply(data)
    assert refused.value.code == code


def test_a_reply_that_does_not_fit_its_fields_is_an_error_not_a_wrong_number() -> None:
    reply = a_reply()
    with pytest.raises(WireError, match="should fit its field"):
        encode_reply(Reply(reply.values, -1, reply.lag_ms, reply.stages))
    with pytest.raises(WireError, match="should fit its field"):
        encode_reply(Reply(reply.values, 0, reply.lag_ms, StageTimes(0, 0, 0, 0, 0, 0, 2**32)))


@pytest.mark.parametrize("count", [0, 4])
def test_a_frame_set_of_no_or_four_frames_cannot_exist(count: int) -> None:
    frame = EncodedFrame(Camera.MOUTH, Encoding.GRAY8, 1, 1, 0, b"\x00")
    with pytest.raises(WireError, match=f"1 to 3 frames. Found {count}"):
        FrameMessage(1, (frame,) * count)


def test_a_sequence_beyond_32_bits_cannot_exist() -> None:
    frame = EncodedFrame(Camera.MOUTH, Encoding.GRAY8, 1, 1, 0, np.zeros(1, np.uint8).tobytes())
    with pytest.raises(WireError, match="unsigned 32 bit number. Found 4294967296"):
        FrameMessage(2**32, (frame,))
