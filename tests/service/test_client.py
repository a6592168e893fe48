import asyncio
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from websockets.sync.server import ServerConnection

from model_export.contract import Camera, Frame, FrameSet
from model_export.contract.take import Encoding
from service.client import AsyncClient, Client, encode_frame_set, post_expressions
from service.client.session import pauses_s
from service.errors import UnansweredError, UnreachableError, WireError
from service.wire import CameraPlacement, Closing, Configure, FrameMessage, Reply, encode_closing, encode_error
from tests.service.recording_service import RecordingService, recording
from tests.service.wire_material import frame_message, smooth_image


def _frame_set(sequence: int = 1) -> FrameSet:
    return FrameSet(sequence, tuple(Frame(camera, 1000 + sequence, smooth_image(32, 48)) for camera in Camera))


def _unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{probe.getsockname()[1]}/v1/stream"


@pytest.mark.parametrize("protocol", ["bin", "json"])
@pytest.mark.parametrize("jpeg_quality", [None, 80])
def test_sync_client_asks_and_is_answered(protocol: str, jpeg_quality: int | None) -> None:
    with recording(RecordingService()) as service:
        with Client(service.url, protocol=protocol, jpeg_quality=jpeg_quality) as client:
            assert client.hello.bundle_name == "base"
            assert client.ask(_frame_set(5)).values.sequence == 5
            assert (client.counts.sent, client.counts.answered, client.counts.unanswered) == (1, 1, 0)
        (message,) = service.messages
    assert isinstance(message, FrameMessage)
    assert {frame.encoding for frame in message.frames} == {Encoding.JPEG if jpeg_quality else Encoding.GRAY8}
    if jpeg_quality is None:
        assert bytes(message.frames[2].payload) == smooth_image(32, 48).tobytes()


@pytest.mark.parametrize("protocol", ["bin", "json"])
async def test_async_client_pipelines_frame_sets(protocol: str) -> None:
    with recording(RecordingService()) as service:
        async with AsyncClient(service.url, protocol=protocol) as client:
            for sequence in range(20):
                assert await client.send(_frame_set(sequence))
            received = []
            async for answer in client:
                assert isinstance(answer, Reply)
                received.append(answer.values.sequence)
                if len(received) == 20:
                    break
            assert received == list(range(20))
            assert client.counts.unanswered == 0
            assert client.counts.dropped == 2  # as the recording service tells in each reply


async def test_answers_go_to_the_callback_with_their_time_of_arrival() -> None:
    answers: list[tuple[Reply | WireError, int]] = []
    with recording(RecordingService()) as service:
        on_answer = lambda answer, received_ns: answers.append((answer, received_ns))  # noqa: E731 - a callback
        async with AsyncClient(service.url, on_answer=on_answer) as client:
            start_ns = time.perf_counter_ns()
            await client.send(frame_message(Encoding.JPEG, sequence=3))
            assert (await client.ask(_frame_set(4))).values.sequence == 4
    ((answer, received_ns),) = answers
    assert isinstance(answer, Reply)
    assert answer.values.sequence == 3
    assert start_ns < received_ns < time.perf_counter_ns()


async def test_wearer_and_rig_are_told_on_every_connection_and_before_the_first_frame() -> None:
    def close_at_one(connection: ServerConnection, message: FrameMessage | Configure) -> bool:
        if isinstance(message, FrameMessage) and message.sequence == 1:
            connection.send(encode_closing(Closing("the service stops")))
            connection.close(1001)
            return True
        return False

    rig = {Camera.MOUTH: CameraPlacement(side_px=100.0, mirrored=True)}
    with recording(RecordingService(close_at_one)) as service:
        async with AsyncClient(service.url, "anna", rig) as client:
            with pytest.raises(UnansweredError, match="a lost connection"):
                await client.ask(_frame_set(1))
            assert not await client.send(_frame_set(2))
            async with asyncio.timeout(5):
                while not client.connected:
                    await asyncio.sleep(0.01)
            assert (await client.ask(_frame_set(3))).values.sequence == 3
            assert (client.counts.reconnects, client.counts.unsent, client.counts.sent) == (1, 1, 2)
            assert client.counts.unanswered == 1
    wish = Configure("anna", rig)
    assert [message if isinstance(message, Configure) else message.sequence for message in service.messages] == [
        wish,
        1,
        wish,
        3,
    ]


def test_sync_client_comes_back_after_a_restart_of_the_service() -> None:
    with recording(RecordingService()) as service:
        client = Client(service.url, wearer="anna")
        client.connect()
        client.ask(_frame_set(1))
    port = urlsplit(service.url).port
    assert port
    with pytest.raises(UnansweredError):
        client.ask(_frame_set(2))
    with recording(RecordingService(), port) as again:
        give_up_s = time.monotonic() + 10
        while not client.send(_frame_set(3)):
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
        answer = client.receive(5)
        assert isinstance(answer, Reply)
        assert answer.values.sequence == 3
        assert client.counts.reconnects == 1
        assert client.counts.unsent >= 1
        client.close()
        assert again.messages[0] == Configure("anna")
        assert not client.send(_frame_set(4))


def _refuse(connection: ServerConnection, message: FrameMessage | Configure) -> bool:
    sequence = message.sequence if isinstance(message, FrameMessage) else None
    connection.send(encode_error(WireError("size", "Pictures should be square.", "48 x 32", "Crop.", sequence)))
    return True


async def test_a_refused_frame_set_is_an_error_of_that_frame_set() -> None:
    with recording(RecordingService(_refuse)) as service:
        async with AsyncClient(service.url) as client:
            with pytest.raises(WireError, match="should be square") as refused:
                await client.ask(_frame_set(9))
            assert refused.value.sequence == 9
            await client.send(_frame_set(10))
            answer = await client.receive(5)
            assert isinstance(answer, WireError)
            assert (answer.sequence, client.counts.refused, client.counts.unanswered) == (10, 2, 0)
            with pytest.raises(WireError, match="should be square"):
                await client.configure("anna")
        with Client(service.url) as sync_client:
            with pytest.raises(WireError, match="should be square"):
                sync_client.ask(_frame_set(9))
            with pytest.raises(WireError, match="should be square"):
                sync_client.configure("anna")
        with pytest.raises(WireError, match="should be square"):
            await AsyncClient(service.url, "anna").connect()
        with pytest.raises(WireError, match="should be square"):
            Client(service.url, "anna").connect()


async def test_a_new_wearer_is_confirmed() -> None:
    with recording(RecordingService()) as service:
        async with AsyncClient(service.url) as client:
            assert (await client.configure("anna")).wearer == "anna"
        with Client(service.url) as sync_client:
            assert sync_client.configure("anna").head_version == 3


async def test_no_answer_is_an_error_after_the_time_given() -> None:
    with recording(RecordingService(lambda _connection, _message: True)) as service:
        async with AsyncClient(service.url) as client:
            with pytest.raises(UnansweredError, match=r"frame set 1 should come. Found none after 0.05 s"):
                await client.ask(_frame_set(1), timeout_s=0.05)
            with pytest.raises(UnansweredError):
                await client.receive(0.01)
        with Client(service.url) as sync_client, pytest.raises(UnansweredError, match="none in time"):
            sync_client.ask(_frame_set(1), timeout_s=0.05)


async def test_a_service_that_is_down_is_an_error_with_a_remedy() -> None:
    url = _unused_url()
    for remedy in ("mien serve", url):
        with pytest.raises(UnreachableError, match=remedy):
            await AsyncClient(url).connect()
        with pytest.raises(UnreachableError, match=remedy):
            Client(url).connect()
    with pytest.raises(UnreachableError, match="should look like ws://"):
        await AsyncClient("127.0.0.1:8000").connect()
    with pytest.raises(UnreachableError, match="should look like ws://"):
        Client("http://127.0.0.1:8000").connect()


async def test_a_client_waits_for_a_service_that_is_about_to_start() -> None:
    url = _unused_url()
    port = urlsplit(url).port
    assert port
    client = AsyncClient(url)
    connecting = asyncio.create_task(client.connect(patience_s=10))
    await asyncio.sleep(0.2)
    with recording(RecordingService(), port):
        assert (await connecting).bundle_name == "base"
        await client.close()


@pytest.mark.parametrize("greeting", ["hello", '{"type":"hello"}', encode_closing(Closing("too many headsets")), None])
async def test_a_stranger_at_the_address_is_an_error(greeting: str | None) -> None:
    with recording(RecordingService(greeting=greeting, leaves=True)) as service:
        for client in (AsyncClient(service.url), Client(service.url)):
            with pytest.raises(
                UnreachableError, match="too many headsets" if greeting and "closing" in greeting else "A mien service"
            ):
                await _connect(client)


async def _connect(client: AsyncClient | Client) -> None:
    if isinstance(client, Client):
        client.connect()
    else:
        await client.connect()


async def test_a_client_without_reconnecting_ends_with_the_connection() -> None:
    def hang_up(connection: ServerConnection, _message: FrameMessage | Configure) -> bool:
        connection.send(encode_closing(Closing("good night")))
        connection.close(1001)
        return True

    with recording(RecordingService(hang_up)) as service:
        async with AsyncClient(service.url, reconnect=False) as client:
            await client.send(_frame_set())
            with pytest.raises(UnreachableError, match="good night"):
                await client.receive(5)
            with pytest.raises(UnreachableError, match="good night"):
                await client.send(_frame_set())
            assert [answer async for answer in client] == []


def test_pauses_grow_to_five_seconds_and_differ() -> None:
    pauses = [pause for pause, _ in zip(pauses_s(), range(50), strict=False)]
    assert 0.05 <= pauses[0] <= 0.15
    assert all(2.5 <= pause <= 7.5 for pause in pauses[10:])
    assert len(set(pauses)) == 50


@pytest.mark.parametrize("wrong", [{"protocol": "xml"}, {"jpeg_quality": 0}, {"jpeg_quality": 101}])
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="should be"):
        Client("ws://127.0.0.1:1/v1/stream", **wrong)  # type: ignore[arg-type]


def test_raw_frames_are_views_and_jpeg_frames_tell_their_size() -> None:
    frame_set = _frame_set()
    raw = encode_frame_set(frame_set)
    assert isinstance(raw.frames[0].payload, memoryview)
    strided = FrameSet(1, (Frame(Camera.MOUTH, 1, smooth_image(32, 48)[::2, ::3]),))
    assert bytes(encode_frame_set(strided).frames[0].payload) == smooth_image(32, 48)[::2, ::3].tobytes()
    jpeg = encode_frame_set(frame_set, 70)
    assert [(frame.width, frame.height) for frame in jpeg.frames] == [(48, 32)] * 3


def test_a_client_of_raw_frames_loads_neither_opencv_nor_onnxruntime_nor_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from model_export.contract.frames import Camera, Frame, FrameSet\n"
        "from service.client import AsyncClient, Client, encode_frame_set\n"
        "encode_frame_set(FrameSet(0, (Frame(Camera.MOUTH, 0, np.zeros((8, 8), np.uint8)),)))\n"
        "print(sorted({'cv2', 'onnxruntime', 'torch', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_posting_to_nobody_is_an_error_with_a_remedy() -> None:
    with pytest.raises(UnreachableError, match="mien serve"):
        post_expressions(_unused_url().replace("ws:", "http:"), _frame_set())
    with pytest.raises(UnreachableError, match="should look like http://"):
        post_expressions("127.0.0.1", _frame_set())
