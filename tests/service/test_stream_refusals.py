"""What the WebSocket refuses, and how: handshakes, broken messages, messages that are too long, forged images."""

import json
import socket
import time
from typing import Any

import cv2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from model_export.contract import Camera
from service.errors import WireError
from service.wire import (
    Closing,
    EncodedFrame,
    FrameMessage,
    Reply,
    encode_frames,
    encode_frames_json,
)
from tests.service.conftest import RunningService, StartService
from tests.service.stream_client import (
    BINARY,
    CROPS_BHW,
    JSON,
    ask,
    connected,
    make_message,
    read_answer,
    read_error,
    read_until_closed,
)


@pytest.mark.parametrize("offered", [None, ["mien.v9.bin"], ["chat"]])
def test_a_client_of_no_known_subprotocol_is_refused_with_a_reason(service: RunningService, offered: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(service.stream_url, subprotocols=offered)
    assert refused.value.response.status_code == 400
    assert json.loads(refused.value.response.body)["error"]["code"] == "subprotocol"


def test_a_path_without_a_websocket_is_refused_with_a_reason(service: RunningService) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(service.stream_url.replace("/v1/stream", "/stream"), subprotocols=[BINARY])  # type: ignore[list-item]
    assert refused.value.response.status_code == 404
    error = json.loads(refused.value.response.body)["error"]
    assert (error["code"], error["remedy"]) == ("not_found", "Connect to /v1/stream.")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "https://evil.example"}, "origin"),
        ({"Origin": "null"}, "origin"),
        ({"Origin": "http://localhost:3000"}, "origin"),
        ({"Host": "evil.example"}, "host"),
    ],
)
def test_web_pages_of_other_origins_are_refused(service: RunningService, headers: dict[str, str], code: str) -> None:
    if "Host" in headers:
        # A rebound name: the browser resolves it to this machine, and says so in Host.
        options: dict[str, Any] = {"sock": socket.create_connection((service.host, service.port))}
        url = f"ws://{headers.pop('Host')}/v1/stream"
    else:
        options, url = {}, service.stream_url
    with pytest.raises(InvalidStatus) as refused:
        connect(url, subprotocols=[BINARY], additional_headers=headers, **options)  # type: ignore[list-item]
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["error"]["code"] == code


def test_a_malformed_message_gets_a_typed_error_and_the_connection_stays(service: RunningService) -> None:
    whole = encode_frames(make_message(5))
    with connected(service) as client:
        for broken, code, sequence in (
            (b"", "magic", None),
            (b"JUNK" + whole[4:], "magic", None),
            (whole[:4] + b"\x09" + whole[5:], "version", None),
            (whole[:-1], "length", 5),
            (whole + b"\x00", "length", 5),
            (whole[:6] + b"\x07" + whole[7:], "frame_count", 5),
        ):
            client.send(broken)
            error = read_error(client)
            assert (error.code, error.sequence) == (code, sequence)
            assert error.expected
            assert error.found
            assert ask(client, make_message(6)).values.sequence == 6


def test_text_of_an_unknown_type_gets_a_typed_error_and_the_connection_stays(service: RunningService) -> None:
    with connected(service) as client:
        for text in ('{"type":"sing"}', "[]", encode_frames_json(make_message(0))):
            client.send(text)
            assert read_error(client).code in ("json", "kind")
        assert ask(client, make_message(1)).values.sequence == 1


def test_many_refused_messages_in_a_row_end_the_connection_with_1008(service: RunningService) -> None:
    with connected(service) as client:
        for _ in range(15):
            client.send(b"junk")
        client.send(encode_frames(make_message(0)))  # one good message, and the count begins anew
        answers = [read_answer(client) for _ in range(16)]
        assert sum(isinstance(answer, WireError) for answer in answers) == 15
        for _ in range(16):
            client.send(b"junk")
        answers, code = read_until_closed(client)
    assert code == 1008
    assert [type(answer) for answer in answers] == [WireError] * 16 + [Closing]


@pytest.mark.parametrize(
    ("protocol", "message", "code"),
    [
        (JSON, encode_frames(make_message(0)), 1003),
        (JSON, "{", 1007),
        (BINARY, "{", 1007),
        (BINARY, '{"type":NaN}', 1007),
    ],
)
def test_a_message_of_the_wrong_kind_is_told_and_closed(
    service: RunningService, protocol: str, message: str | bytes, code: int
) -> None:
    with connected(service, protocol) as client:
        client.send(message)
        answers, found = read_until_closed(client)
    assert found == code
    assert [type(answer) for answer in answers] == [WireError, Closing]


def test_a_message_that_is_too_long_is_closed_with_1009_and_others_go_on(service: RunningService) -> None:
    with connected(service) as other, connected(service) as client:
        client.send(bytes(256 * 1024 + 1))
        assert read_until_closed(client) == ([], 1009)
        assert ask(other, make_message(3)).values.sequence == 3


def test_a_headset_too_many_is_told_to_come_again(start_service: StartService) -> None:
    service = start_service("--max-connections", "1")
    with connected(service) as first:
        with connect(service.stream_url, subprotocols=[BINARY]) as second:  # type: ignore[list-item]
            answers, code = read_until_closed(second)
            assert [type(answer) for answer in answers] == [Closing]
            assert code == 1013
        assert ask(first, make_message(0)).values.sequence == 0
    with connected(service) as third:
        assert ask(third, make_message(0)).values.sequence == 0


def test_a_forged_jpeg_is_refused_at_once(service: RunningService) -> None:
    jpeg = bytearray(cv2.imencode(".jpg", CROPS_BHW[0])[1].tobytes())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (32_000).to_bytes(2, "big") * 2
    honest = encode_frames(make_message(1, Camera.LEFT_EYE, jpeg=True))
    # The descriptor, too: the size a client claims and the size in the JPEG agree.
    header, descriptor = bytearray(honest[:16]), bytearray(honest[16:40])
    descriptor[2:6] = (32_000).to_bytes(2, "little") * 2
    forged = bytes(header + descriptor) + bytes(jpeg)
    claimed_small = honest[:40] + bytes(jpeg)
    with connected(service) as client:
        before_bytes = service.rss_bytes()
        ask(client, make_message(0))
        for message in (forged, claimed_small):
            start_s = time.perf_counter()
            client.send(message)
            error = read_error(client)
            assert time.perf_counter() - start_s < 2  # 12 s and 2 GiB where the body is decoded first
            assert error.code in ("size", "jpeg")
        assert ask(client, make_message(2)).values.sequence == 2
        assert service.rss_bytes() - before_bytes < 10 << 20


def test_a_jpeg_with_a_broken_body_is_an_error_of_that_frame_set_only(service: RunningService) -> None:
    message = make_message(4, jpeg=True)
    first = message.frames[0]
    cut = bytes(first.payload[: len(first.payload) // 4])
    broken = FrameMessage(4, (EncodedFrame(first.camera, first.encoding, first.width, first.height, 0, cut),))
    with connected(service) as client:
        client.send(encode_frames(broken))
        answer = read_answer(client)
        assert isinstance(answer, WireError | Reply)  # libjpeg fills what is missing when it can
        if isinstance(answer, WireError):
            assert (answer.code, answer.sequence) == ("jpeg", 4)
        assert ask(client, make_message(5, jpeg=True)).values.sequence == 5
