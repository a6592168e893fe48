"""The WebSocket of a real service in a process of its own: what a headset may rely on, and what a broken one cannot do."""

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from model_export.contract import EU_NAMES, Camera, Validity
from model_export.contract.take import Encoding
from service.errors import WireError
from service.wire import (
    CalibrationTold,
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    EncodedFrame,
    FrameMessage,
    Hello,
    Reply,
    decode_reply,
    encode_configure,
    encode_frames,
    encode_frames_json,
    parse_server_text,
)
from tests.bundles import make_crops
from tests.service.conftest import RunningService, StartService

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


def test_the_hello_names_everything_a_client_needs(service: RunningService) -> None:
    with connect(service.stream_url, subprotocols=[BINARY]) as client:  # type: ignore[list-item]
        hello = json.loads(read_text(client))
        assert client.subprotocol == BINARY
    assert hello["eu_names"] == list(EU_NAMES)
    assert hello["bundle"]["name"] == "test-0"
    assert (hello["wearer"], hello["head_version"]) == ("default", 0)
    assert hello["limits"]["max_message_bytes"] == 256 * 1024


@pytest.mark.parametrize("jpeg", [False, True])
def test_each_frame_set_is_answered(service: RunningService, jpeg: bool) -> None:
    with connected(service) as client:
        for sequence in range(20):
            message = make_message(sequence, jpeg=jpeg)
            reply = ask(client, message)
            assert (reply.values.sequence, reply.values.t_ns, reply.drops) == (sequence, message.t_ns, 0)
            assert [region.validity for region in reply.values.regions] == [Validity.LIVE] * 3
            assert ((reply.values.values_E >= 0) & (reply.values.values_E <= 1)).all()
            stages = reply.stages
            assert stages.service_us >= stages.inference_us > 0
            assert (stages.decode_us > 0) == jpeg
    assert np.ptp(reply.values.values_E) > 0.05


def test_both_subprotocols_give_the_same_values(service: RunningService) -> None:
    message = make_message(7)
    with connected(service) as client:
        binary = ask(client, message)
    with connected(service, JSON) as client:
        client.send(encode_frames_json(message))
        text = parse_server_text(read_text(client))
    assert isinstance(text, Reply)
    np.testing.assert_allclose(text.values.values_E, binary.values.values_E, atol=1e-6)
    np.testing.assert_allclose(text.values.gaze_deg, binary.values.gaze_deg, atol=1e-5)
    assert text.values.bundle_digest == binary.values.bundle_digest


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


def test_the_services_own_page_may_connect(service: RunningService) -> None:
    with connected(service, origin=service.http_url) as client:
        assert ask(client, make_message(0)).values.sequence == 0


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


def test_configure_is_confirmed_and_used(service: RunningService) -> None:
    with connected(service) as client:
        upright = ask(client, make_message(0))
        rig = {camera: CameraPlacement(rotation_deg=90.0, rate_hz=90.0) for camera in Camera}
        client.send(encode_configure(Configure(wearer="ada", rig=rig)))
        configured = read_answer(client)
        assert configured == Configured("ada", 0)
        turned = ask(client, make_message(1000))
        assert np.abs(upright.values.values_E - turned.values.values_E).max() > 0.01
        client.send('{"type":"configure","wearer":"../../etc"}')
        assert read_error(client).code == "field"


def test_a_refused_configure_changes_nothing(service: RunningService) -> None:
    with connected(service) as client:
        client.send(encode_configure(Configure("eve", {Camera.MOUTH: CameraPlacement(side_px=1.0)})))
        assert read_error(client).code == "field"  # a crop of one pixel shows nothing
        client.send(encode_configure(Configure()))
        assert read_answer(client) == Configured("default", 0)


def test_a_camera_that_is_unplugged_is_held_then_fades_and_is_never_invented(service: RunningService) -> None:
    times_ns = count(0, 10_000_000)
    left_eye = int(Camera.LEFT_EYE)
    with connected(service) as client:
        for sequence, t_ns in zip(range(30), times_ns, strict=False):
            reply = ask(client, make_message(sequence, t_ns=t_ns))
        seen, last_values_E = [reply.values.regions[left_eye].validity], reply.values.values_E
        for sequence, t_ns in zip(range(30, 330), times_ns, strict=False):
            reply = ask(client, make_message(sequence, Camera.RIGHT_EYE, Camera.MOUTH, t_ns=t_ns))
            validity = reply.values.regions[left_eye].validity
            if validity is Validity.HELD:
                np.testing.assert_array_equal(reply.values.values_E[:12], last_values_E[:12])
            if validity is not seen[-1]:
                seen.append(validity)
            if sequence == 30 + 20:
                assert validity is not Validity.LIVE  # stale within 200 ms
            assert reply.values.regions[int(Camera.MOUTH)].validity is Validity.LIVE
        assert seen == [Validity.LIVE, Validity.HELD, Validity.FADING, Validity.UNSEEN]
        assert not reply.values.values_E[:12].any()
        reply = ask(client, make_message(330, t_ns=next(times_ns)))
        assert reply.values.regions[left_eye].validity is Validity.LIVE  # plugged in again


def test_under_a_flood_the_newest_frame_set_wins_and_every_drop_is_counted(service: RunningService) -> None:
    sent = 300
    messages = [encode_frames(make_message(sequence)) for sequence in range(sent)]
    with connected(service) as client:
        flood = threading.Thread(target=lambda: deque(map(client.send, messages), maxlen=0))
        flood.start()
        replies: list[Reply] = []
        while not replies or replies[-1].values.sequence != sent - 1:
            answer = read_answer(client)
            assert isinstance(answer, Reply)
            replies.append(answer)
        flood.join()
    sequences = [reply.values.sequence for reply in replies]
    assert sequences == sorted(set(sequences))
    assert len(sequences) + replies[-1].drops <= sent
    # What is neither answered nor dropped before the engine was an answer that a newer one replaced on its way out.
    assert sent - len(sequences) - replies[-1].drops < sent / 2


def test_malformed_messages_of_one_client_never_harm_another(service: RunningService) -> None:
    stop = threading.Event()

    def misbehave() -> None:
        random = np.random.default_rng(3)
        whole = encode_frames(make_message(0))
        while not stop.is_set():
            try:
                with connect(service.stream_url, subprotocols=[BINARY], compression=None) as client:  # type: ignore[list-item]
                    for _ in range(16):
                        broken = bytearray(whole[: random.integers(1, len(whole))])
                        broken[random.integers(len(broken))] ^= 0xFF
                        client.send(bytes(broken))
                    client.socket.close()
            except (ConnectionClosed, OSError):
                pass

    threads = [threading.Thread(target=misbehave) for _ in range(2)]
    with connected(service) as client:
        for thread in threads:
            thread.start()
        try:
            for sequence in range(150):
                reply = ask(client, make_message(sequence))
                assert (reply.values.sequence, reply.drops) == (sequence, 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_clients_that_do_not_read_cost_bounded_memory(start_service: StartService) -> None:
    service = start_service()
    message = encode_frames(make_message(0))
    stop = threading.Event()

    def send_only(client: ClientConnection) -> None:
        while not stop.is_set():
            try:
                client.send(message)
            except (ConnectionClosed, OSError):
                return
            time.sleep(0.002)

    with connected(service) as reader, ExitStack() as stack:
        ask(reader, make_message(0))
        # A receive queue of one message and a pause at zero: the client library stops reading from the socket.
        deaf = [
            stack.enter_context(
                connect(service.stream_url, subprotocols=[BINARY], max_queue=1, compression=None)  # type: ignore[list-item]
            )
            for _ in range(8)
        ]
        threads = [threading.Thread(target=send_only, args=(client,)) for client in deaf]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        early_bytes = service.rss_bytes()
        for sequence in range(1, 100):
            ask(reader, make_message(sequence))
            time.sleep(0.02)
        late_bytes = service.rss_bytes()
        stop.set()
        for client in deaf:
            client.socket.shutdown(2)
        for thread in threads:
            thread.join()
    assert late_bytes - early_bytes < 8 << 20, (early_bytes, late_bytes)  # 48 to 287 MiB where answers queue up


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=600), st.text(max_size=80)))
def test_whatever_bytes_arrive_the_service_answers_or_closes_with_a_code(
    service: RunningService, data: bytes | str
) -> None:
    with connected(service) as client:
        client.send(data)
        try:
            answer = read_answer(client)
            assert isinstance(answer, WireError)
            client.send(encode_frames(make_message(1)))
            answer = read_answer(client)
            if isinstance(answer, Reply):
                assert answer.values.sequence == 1
            else:
                assert isinstance(answer, Closing)
                read_answer(client)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            assert closed.rcvd.code == 1007
