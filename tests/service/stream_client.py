"""A headset of the tests: frame sets of crops, and a connection that reads what the service says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from model_export.contract import Camera
from model_export.contract.take import Encoding
from service.errors import WireError
from service.wire import (
    CalibrationTold,
    Closing,
    Configured,
    EncodedFrame,
    FrameMessage,
    Hello,
    Reply,
    decode_reply,
    encode_frames,
    parse_server_text,
)
from tests.bundles import make_crops
from tests.service.conftest import RunningService

CROPS_BHW = make_crops(3)
BINARY, JSON = "mien.v1.bin", "mien.v1.json"


def make_message(sequence: int, *cameras: Camera, t_ns: int | None = None, jpeg: bool = False) -> FrameMessage:
    """A frame set of crops; of all cameras when none is named, one every 10 ms."""
    t_ns = sequence * 10_000_000 if t_ns is None else t_ns
    frames = []
    for camera in cameras or tuple(Camera):
        pixels_HW = CROPS_BHW[camera]
        height, width = pixels_HW.shape
        payload = cv2.imencode(".jpg", pixels_HW)[1].tobytes() if jpeg else pixels_HW.tobytes()
        frames.append(EncodedFrame(camera, Encoding.JPEG if jpeg else Encoding.GRAY8, width, height, t_ns, payload))
    return FrameMessage(sequence, tuple(frames))


@contextmanager
def connected(service: RunningService, protocol: str = BINARY, **options: Any) -> Iterator[ClientConnection]:
    """A client that has read the hello."""
    with connect(service.stream_url, subprotocols=[protocol], compression=None, **options) as client:  # type: ignore[list-item]
        assert isinstance(parse_server_text(read_text(client)), Hello)
        yield client


def read_text(client: ClientConnection) -> str:
    message = client.recv(5)
    assert isinstance(message, str), message[:40]
    return message


def read_answer(client: ClientConnection) -> Reply | Hello | Configured | CalibrationTold | Closing | WireError:
    message = client.recv(5)
    return decode_reply(message) if isinstance(message, bytes) else parse_server_text(message)


def ask(client: ClientConnection, message: FrameMessage) -> Reply:
    client.send(encode_frames(message))
    reply = read_answer(client)
    assert isinstance(reply, Reply), reply
    return reply


def read_error(client: ClientConnection) -> WireError:
    error = read_answer(client)
    assert isinstance(error, WireError), error
    return error


def read_until_closed(client: ClientConnection) -> tuple[list[Any], int | None]:
    """All that comes before the close, and its code."""
    answers = []
    try:
        while True:
            answers.append(read_answer(client))
    except ConnectionClosed as closed:
        return answers, None if closed.rcvd is None else closed.rcvd.code
