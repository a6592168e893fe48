"""The WebSocket of a real service in a process of its own: what a headset may rely on."""

import json
import threading
from collections import deque
from itertools import count

import numpy as np
import pytest
from websockets.sync.client import connect

from model_export.contract import EU_NAMES, Camera, Validity
from service.wire import (
    CameraPlacement,
    Configure,
    Configured,
    Reply,
    encode_configure,
    encode_frames,
    encode_frames_json,
    parse_server_text,
)
from tests.service.conftest import RunningService
from tests.service.stream_client import (
    BINARY,
    JSON,
    ask,
    connected,
    make_message,
    read_answer,
    read_error,
    read_text,
)


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


def test_the_services_own_page_may_connect(service: RunningService) -> None:
    with connected(service, origin=service.http_url) as client:
        assert ask(client, make_message(0)).values.sequence == 0


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
