"""`mien serve` as a process: how it starts, what it refuses, how it ends."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from service.wire import Closing
from tests.service.conftest import RunningService, StartService
from tests.service.stream_client import BINARY, ask, connected, make_message, read_until_closed

SERVE = [sys.executable, "-c", "from service.command import main; main()", "serve", "--port", "0"]


def refused(*options: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVE, *options], capture_output=True, text=True, check=False, timeout=30, env=environment)


@pytest.mark.parametrize("file", ["bundle.json", "eye.onnx", "mouth.onnx", "head.safetensors", "golden.safetensors"])
def test_a_damaged_bundle_is_refused_at_start_by_file(bundle_dir: Path, tmp_path: Path, file: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bundle_dir, damaged)
    content = bytearray((damaged / file).read_bytes())
    content[len(content) // 2] ^= 0x10
    (damaged / file).write_bytes(bytes(content))
    done = refused("--bundle", str(damaged))
    assert done.returncode == 1
    assert file in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_with_a_missing_file_is_refused_at_start(bundle_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_dir, tmp_path / "cut")
    (tmp_path / "cut" / "mouth.onnx").unlink()
    done = refused("--bundle", str(tmp_path / "cut"))
    assert done.returncode == 1
    assert "mouth.onnx" in done.stderr


def test_a_wrong_setting_is_a_usage_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_MAX_CONNECTIONS", "many")
    done = refused()
    assert done.returncode == 2
    assert "MIEN_MAX_CONNECTIONS" in done.stderr


def test_a_mistyped_variable_is_a_usage_error_that_names_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_PROT", "9000")
    done = refused()
    assert done.returncode == 2
    assert "Did you mean MIEN_PORT?" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_ends_with_a_reason(service: RunningService, bundle_dir: Path) -> None:
    done = refused("--bundle", str(bundle_dir), "--port", str(service.port))
    assert done.returncode == 1
    assert "address already in use" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_tells_the_clients_and_is_quick(start_service: StartService, number: signal.Signals) -> None:
    service = start_service()
    with connected(service) as first, connected(service) as second:
        ask(first, make_message(0))
        start_s = time.monotonic()
        service.process.send_signal(number)
        for client in (first, second):
            answers, code = read_until_closed(client)
            assert [type(answer) for answer in answers] == [Closing]
            assert code == 1001
        assert service.process.wait(5) == (0 if number == signal.SIGTERM else 130)
        assert time.monotonic() - start_s < 2
    assert not any("Traceback" in line for line in service.log), service.log


def test_stopping_does_not_wait_for_clients_that_neither_read_nor_answer(start_service: StartService) -> None:
    service = start_service()
    deaf = [connect(service.stream_url, subprotocols=[BINARY], max_queue=1) for _ in range(3)]  # type: ignore[list-item]
    half_open = connect(service.stream_url, subprotocols=[BINARY])  # type: ignore[list-item]
    half_open.socket.sendall(b"\x82\xfe")  # the beginning of a message
    watcher = httpx.Client(base_url=service.http_url, trust_env=False)
    watcher.get("/livez")  # and an idle HTTP connection
    start_s = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(6) == 0
    assert time.monotonic() - start_s < 5
    for client in (*deaf, half_open):
        client.socket.close()
    watcher.close()


def test_frames_under_way_do_not_hold_up_the_end(start_service: StartService) -> None:
    service = start_service()
    with connected(service) as client:
        for sequence in range(3):
            ask(client, make_message(sequence))
        service.process.send_signal(signal.SIGTERM)
        start_s = time.monotonic()
        try:
            for sequence in range(3, 10_000):
                ask(client, make_message(sequence))
        except Exception as error:  # noqa: BLE001 - Closing in place of a reply, or the close itself
            assert type(error).__name__ in ("AssertionError", "ConnectionClosedOK", "ConnectionClosedError")
        assert service.process.wait(5) == 0
        assert time.monotonic() - start_s < 3


def test_the_log_says_what_is_served_and_nothing_of_each_frame(start_service: StartService) -> None:
    service = start_service()
    with connected(service) as client:
        for sequence in range(50):
            ask(client, make_message(sequence))
        client.send(b"junk")
        client.recv()
    text = "".join(service.log)
    assert "bundle=test-0" in text
    assert f"url={service.http_url}" in text
    assert len(service.log) <= 4, text


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_torch_never_enters_the_serving_process(service: RunningService) -> None:
    with connected(service) as client:
        ask(client, make_message(0, jpeg=True))
    maps = Path(f"/proc/{service.process.pid}/maps").read_text(encoding="utf-8")
    assert "onnxruntime" in maps  # the right process, and the look-up works
    for library in ("torch", "numba", "scipy", "matplotlib"):
        assert f"/{library}" not in maps


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_below_the_budget(start_service: StartService) -> None:
    service = start_service()
    with connected(service) as client:
        for sequence in range(200):
            ask(client, make_message(sequence, jpeg=sequence % 2 == 0))
    assert service.rss_bytes() < 150 << 20
