"""What a watcher is sent, decided without a socket: messages, rates, latencies, which headset is shown."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest

from model_export.contract import Camera, Slip
from model_export.contract.take import Encoding
from service.watch import (
    HISTORY_S,
    MAX_PICTURE_PX,
    RATE_HZ,
    SUBPROTOCOL,
    Observations,
    encode_watch,
)
from service.wire import FrameMessage, Reply, StageTimes, decode_reply
from tests.service.wire_material import a_reply, frame_message, smooth_image


@dataclass
class RecordedConnection:
    """A connection whose answers the test decides."""

    number: int
    wearer: str = "default"
    drops: int = 0
    answered: tuple[FrameMessage, Reply] | None = None
    slips: Mapping[Camera, Slip] = field(default_factory=dict)
    places: Mapping[Camera, Slip] = field(default_factory=dict)

    def answer(self, sequence: int, service_us: int = 1000, drops: int = 0) -> None:
        reply = a_reply(sequence)
        self.drops = drops
        self.answered = (
            frame_message(Encoding.JPEG, sequence=sequence),
            replace(reply, drops=drops, stages=StageTimes(0, 0, 0, 0, 0, 0, service_us)),
        )


def _pictures(message: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """Camera, encoding, width, height and bytes of each picture, read as docs/watch.md says."""
    count, start, pictures = message[6], 352 + 16 * message[6], []
    for index in range(count):
        camera, encoding, width, height, reserved, size, reserved_too = struct.unpack_from(
            "<BBHHHII", message, 352 + 16 * index
        )
        assert (reserved, reserved_too) == (0, 0)
        pictures.append((camera, encoding, width, height, message[start : start + size]))
        start += size
    assert start == len(message)
    return pictures


def test_message_has_the_documented_bytes() -> None:
    frames, reply = frame_message(Encoding.GRAY8, 40, 48), a_reply()
    message = encode_watch(258, frames, reply)
    assert message[:16] == b"MIEN\x01\x03\x03\x00" + bytes([2, 1, 0, 0]) + bytes(4)
    assert decode_reply(message[16:352]).stages == reply.stages
    assert [picture[:4] for picture in _pictures(message)] == [(camera, 1, 48, 40) for camera in Camera]


def test_raw_frames_are_shown_as_they_are() -> None:
    frames = frame_message(Encoding.GRAY8, 64, 64)
    for frame, (_, _, _, _, jpeg) in zip(frames.frames, _pictures(encode_watch(1, frames, a_reply())), strict=True):
        shown_HW = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        sent_HW = np.frombuffer(frame.payload, np.uint8).reshape(64, 64)
        assert shown_HW is not None
        assert np.abs(shown_HW.astype(int) - sent_HW).mean() < 3


def test_a_clients_jpeg_is_passed_on_unchanged() -> None:
    frames = frame_message(Encoding.JPEG)
    message = encode_watch(1, frames, a_reply())
    assert [picture[4] for picture in _pictures(message)] == [bytes(frame.payload) for frame in frames.frames]


def test_large_raw_frames_are_scaled_down_in_proportion() -> None:
    pixels_HW = smooth_image(200, 640)
    frame = replace(frame_message(Encoding.GRAY8).frames[0], width=640, height=200, payload=pixels_HW.tobytes())
    ((_, _, width, height, jpeg),) = _pictures(encode_watch(1, FrameMessage(1, (frame,)), a_reply()))
    shown_HW = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (width, height) == (MAX_PICTURE_PX, 100)
    assert shown_HW is not None
    assert shown_HW.shape == (100, MAX_PICTURE_PX)


def test_rate_counts_answers_between_the_looks() -> None:
    connection, observations = RecordedConnection(1), Observations()
    for step in range(60):  # 90 Hz sent, every ninth dropped, looked at 30 times a second
        connection.answer(sequence=3 * step, drops=step // 3)
        observations.look([connection], step / RATE_HZ)
    (state,) = observations.status([connection], 59 / RATE_HZ)
    assert state["rate_hz"] == pytest.approx(80, abs=1)
    assert state["drops"] == 19
    assert state["active"] is True


def test_latency_percentiles_are_of_the_last_seconds_only() -> None:
    connection, observations = RecordedConnection(1), Observations()
    connection.answer(1, service_us=90_000)
    observations.look([connection], 0.0)
    for step in range(1, 101):
        connection.answer(1 + step, service_us=1000 * step)
        observations.look([connection], HISTORY_S + step / 1000)
    (state,) = observations.status([connection], HISTORY_S + 0.1)
    assert state["latency_ms"]["p50"] == pytest.approx(50.5)
    assert state["latency_ms"]["p99"] == pytest.approx(99.01)


def test_an_answer_seen_twice_counts_once() -> None:
    connection, observations = RecordedConnection(1), Observations()
    connection.answer(1, service_us=1000)
    observations.look([connection], 0.0)
    observations.look([connection], 0.03)
    connection.answer(2, service_us=3000)
    observations.look([connection], 0.06)
    (state,) = observations.status([connection], 0.06)
    assert state["latency_ms"]["p50"] == pytest.approx(2.0)


def test_a_headset_that_says_nothing_has_no_numbers() -> None:
    connection, observations = RecordedConnection(4), Observations()
    observations.look([connection], 0.0)
    (state,) = observations.status([connection], 0.0)
    assert state["active"] is False
    assert state["latency_ms"] == {"p50": None, "p99": None}
    assert state["head_version"] is None
    assert observations.newest_active(0.0) == 4


def test_the_newest_active_headset_is_followed() -> None:
    first, second, observations = RecordedConnection(1), RecordedConnection(2), Observations()
    assert observations.newest_active(0.0) is None
    first.answer(1)
    second.answer(1)
    observations.look([first, second], 0.0)
    assert observations.newest_active(0.5) == 2
    first.answer(2)  # the second one falls silent
    observations.look([first, second], 3.0)
    assert observations.newest_active(3.0) == 1
    observations.look([second], 3.1)  # the first one leaves
    assert observations.newest_active(3.1) == 2


def test_the_status_tells_the_slip_of_each_camera_that_is_known() -> None:
    connection, observations = RecordedConnection(1), Observations()
    observations.look([connection], 0.0)
    assert observations.status([connection], 0.0)[0]["slip"] == {}
    connection.slips = {Camera.MOUTH: Slip(1.23, -4.56, 0.04)}
    told = {"right_px": 1.2, "down_px": -4.6, "turn_deg": 0.0}
    assert observations.status([connection], 0.0)[0]["slip"] == {"mouth": told}
    connection.places = {Camera.LEFT_EYE: Slip(2.0, 0.0, 0.0)}
    assert observations.status([connection], 0.0)[0]["placed"]["left_eye"]["right_px"] == 2.0


def test_the_page_speaks_the_subprotocol() -> None:
    assert SUBPROTOCOL == "mien.watch.v1"
