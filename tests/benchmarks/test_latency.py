"""The latency benchmark: what it counts is right, and a stall is charged to the service. No test here judges a time of ours."""

import json
import threading
import time
from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from benchmarks.headset import FramedMessage, Headset, LostError
from benchmarks.latency import main
from benchmarks.loads import TAIL_FRAMES, closed_loop, open_loop, summarise_us
from benchmarks.material import read_material
from benchmarks.service_process import ServiceProcess, StartError
from model_export.contract.take import Encoding
from service.errors import ErrorCode, WireError
from service.wire import StageTimes, decode_frames, encode_error, encode_reply
from tests.bundles import make_bundle
from tests.service.wire_material import a_reply, frame_message

STALL_AT, STALL_S = 20, 0.3


class ScriptedService:
    """Answers at once, except: a stall at frame set 20, an error for 25, nothing for 30 (told as a drop from then on)."""

    def __init__(self) -> None:
        self._server = serve(
            self._answer,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol("mien.v1.bin")],
            process_request=lambda connection, request: (
                connection.respond(403, "not this path") if request.path != "/v1/stream" else None
            ),
            compression=None,
            max_size=None,
        )
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/v1/stream"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _answer(self, connection: ServerConnection) -> None:
        connection.send('{"type": "hello"}')
        for data in connection:
            assert isinstance(data, bytes)
            sequence = decode_frames(data).sequence
            if sequence == STALL_AT:
                time.sleep(STALL_S)
            if sequence == 25:
                refusal = WireError(ErrorCode.JPEG, "A picture.", "none", sequence=sequence)
                connection.send(encode_error(refusal))
            elif sequence != 30:
                reply = replace(a_reply(sequence), drops=int(sequence > 30), stages=StageTimes(1, 2, 3, 4, 5, 6, 21))
                connection.send(encode_reply(reply))


@pytest.fixture(scope="module")
def messages() -> list[FramedMessage]:
    return [FramedMessage(frame_message(encoding, 128, 128)) for encoding in Encoding]


@pytest.mark.parametrize(("encoding", "side"), [(Encoding.GRAY8, 128), (Encoding.GRAY8, 240), (Encoding.JPEG, 64)])
def test_a_framed_message_is_a_frame_set_with_the_stamp(encoding: Encoding, side: int) -> None:
    message = frame_message(encoding, side, side)
    stamped = bytes(FramedMessage(message).stamp(4711, 5_000_000_000))
    start = 8 if stamped[1] & 0x7F == 126 else 14
    assert int.from_bytes(stamped[2 : start - 4], "big") == len(stamped) - start
    decoded = decode_frames(stamped[start:])
    assert decoded.sequence == 4711
    assert {frame.t_ns for frame in decoded.frames} == {5_000_000_000}
    assert [bytes(frame.payload) for frame in decoded.frames] == [bytes(frame.payload) for frame in message.frames]


def test_percentiles_are_of_the_samples_and_a_short_tail_is_not_reported() -> None:
    times_ns = array("q", [1000 * number for number in range(1, 1001)])
    found = summarise_us(times_ns)
    assert (found["p50"], found["p90"], found["p99"], found["max"]) == (500, 900, 990, 1000)
    assert found["p99.9"] is None
    assert summarise_us(times_ns * (TAIL_FRAMES // 1000))["p99.9"] == 999
    assert summarise_us(array("q")) == dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"))


def test_every_frame_set_that_was_due_in_a_stall_is_charged(messages: list[FramedMessage]) -> None:
    with ScriptedService() as url:
        samples = open_loop(url, messages, rate_hz=100, headsets=2, seconds=0.6)
    assert samples.sent == 120
    # Two headsets: each has one error (25) and one silent drop (30).
    assert (samples.answered, samples.errors, samples.drops, samples.unanswered) == (116, 2, 2, 4)
    assert len(samples.latency_ns) == len(samples.transport_ns) == 116
    # 300 ms at 100 Hz keep 30 frame sets of each waiting, 20 of which for more than 100 ms.
    waited = sum(latency_ns > 100_000_000 for latency_ns in samples.latency_ns)
    assert waited >= 2 * 14
    table = samples.stage_table_us()
    assert [table[stage]["p50"] for stage in ("wait", "decode", "warp", "inference", "head", "filter", "service")] == [
        1, 2, 3, 4, 5, 6, 21,
    ]  # fmt: skip


def test_closed_loop_goes_on_after_an_error_and_times_each_answer(messages: list[FramedMessage]) -> None:
    class Patient(ScriptedService):
        def _answer(self, connection: ServerConnection) -> None:
            for data in connection:
                assert isinstance(data, bytes)
                sequence = decode_frames(data).sequence
                refusal = WireError(ErrorCode.JPEG, "A picture.", "none", sequence=sequence)
                connection.send(encode_error(refusal) if sequence == 12 else encode_reply(a_reply(sequence)))

    with Patient() as url:
        samples = closed_loop(url, messages, seconds=0.2, warm_up=10)
    assert samples.errors == 1
    assert samples.answered == samples.sent - 1 == len(samples.latency_ns)
    assert samples.drops == 0
    assert min(samples.latency_ns) > 0


def test_a_refused_handshake_says_why(messages: list[FramedMessage]) -> None:
    with ScriptedService() as url, pytest.raises(LostError, match="403.*not this path"):
        Headset(url.replace("/v1/stream", "/elsewhere"), messages)
    with pytest.raises(LostError, match="begin with ws"):
        Headset("http://127.0.0.1:1", messages)


def test_textures_stand_in_for_a_take() -> None:
    material = read_material(count=5)
    assert material.crops_TCHW.shape == (len(material.frame_sets), 3, 128, 128)
    assert material.crops_TCHW.std() > 1
    for message in material.framed(Encoding.JPEG):
        assert len(message.bytes) < 49_000


def test_a_service_that_does_not_start_says_what_it_wrote(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StartError, match=r"bundle\.json"), ServiceProcess(tmp_path / "empty"):
        pass


@pytest.fixture(scope="module")
def quick_result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], str, Path]:
    folder = tmp_path_factory.mktemp("latency")
    make_bundle(folder / "bundle")
    options = ["--bundle", str(folder / "bundle"), "--seconds", "0.5", "--rates", "60,120", "--headsets", "1,2"]
    result = CliRunner().invoke(main, [*options, "--rounds", "1", "--plot", str(folder / "plot.png")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    return json.loads(lines[-1]), "\n".join(lines[:-1]), folder / "plot.png"


def test_counts_of_a_whole_run_add_up(quick_result: tuple[dict[str, object], str, Path]) -> None:
    result = quick_result[0]
    runs = result["open_loop"]
    assert isinstance(runs, list)
    assert [(run["rate_hz"], run["headsets"], run["encoding"]) for run in runs] == [
        (rate, headsets, encoding) for rate in (60, 120) for headsets in (1, 2) for encoding in ("raw", "jpeg")
    ]
    for run in runs:
        assert run["sent"] == round(run["rate_hz"] * 0.5) * run["headsets"]
        assert run["sent"] == run["answered"] + run["unanswered"]
        assert run["drops"] <= run["unanswered"]
        assert run["errors"] == 0
        times = run["latency_us"]
        assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
        assert times["p99.9"] is None
        assert run["stages_us"]["inference"]["p50"] <= run["stages_us"]["service"]["p50"] <= times["p50"]
    closed = result["closed_loop"]
    assert isinstance(closed, dict)
    assert list(closed) == ["bare runtime", "raw", "jpeg", "raw, client library"]
    for name, measured in closed.items():
        assert measured["answered"] == measured["sent"] > 10
        if name != "bare runtime":
            assert measured["against_bare"]["ratio"] > 1
    assert result["bare_paced"]


def test_result_names_machine_versions_and_memory(quick_result: tuple[dict[str, object], str, Path]) -> None:
    result = quick_result[0]
    machine, service, targets = result["machine"], result["service"], result["targets"]
    assert isinstance(machine, dict)
    assert isinstance(service, dict)
    assert isinstance(targets, list)
    assert {"processor", "logical_cores", "python", "packages", "revision"} <= set(machine)
    assert "numpy" in machine["packages"]
    assert 20 < service["memory_mb"]["rss"] < 1000
    assert len(targets) == 7
    assert all(target["met"] == (target["found"] <= target["at_most"]) for target in targets)


def test_report_is_readable_and_a_picture_is_written(quick_result: tuple[dict[str, object], str, Path]) -> None:
    _, text, plot = quick_result
    for part in ("CLOSED LOOP", "OPEN LOOP", "STAGES", "bare runtime", "transport", "service memory"):
        assert part in text
    assert max(map(len, text.splitlines())) < 140
    assert plot.read_bytes().startswith(b"\x89PNG")
