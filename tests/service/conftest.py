"""A real service in a process of its own, on a free port, with a small real bundle."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundles import make_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

START_S = 20


@dataclass
class RunningService:
    """A service process that listens."""

    process: subprocess.Popen[str]
    host: str
    port: int
    log: list[str] = field(default_factory=list)
    """Lines of its stderr so far."""

    @property
    def http_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"ws://{self.host}:{self.port}/v1/stream"

    def rss_bytes(self) -> int:
        """Resident memory; Linux only."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


StartService = Callable[..., RunningService]


def start(bundle: Path, *options: str) -> RunningService:
    """Starts `mien serve` and waits until it listens."""
    command = [sys.executable, "-c", "from service.command import main; main()", "serve", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    process = subprocess.Popen(
        [*command, "--bundle", str(bundle), *options],
        stderr=subprocess.PIPE,
        text=True,
        env={"MIEN_PROFILES": ""} | environment | {"OMP_NUM_THREADS": "1"},
    )
    service = RunningService(process, "", 0)
    listening = threading.Event()

    def read_log() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            service.log.append(line)
            found = re.search(r"listening url=http://(\S+):(\d+)", line)
            if found is not None:
                service.host, service.port = found[1], int(found[2])
                listening.set()
        process.stderr.close()
        listening.set()

    threading.Thread(target=read_log, daemon=True).start()
    if not listening.wait(START_S) or not service.port:
        process.kill()
        process.wait()
        raise AssertionError(f"the service does not listen:\n{''.join(service.log)}")
    return service


def stop(service: RunningService) -> None:
    if service.process.poll() is None:
        service.process.send_signal(signal.SIGTERM)
        try:
            service.process.wait(10)
        except subprocess.TimeoutExpired:
            service.process.kill()
            service.process.wait()
    for _ in range(100):  # until the thread has read the last line
        if service.process.stderr is None or service.process.stderr.closed:
            break
        time.sleep(0.01)


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small bundle with random weights."""
    folder = tmp_path_factory.mktemp("bundles") / "small"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def service(bundle_dir: Path) -> Iterator[RunningService]:
    """One service for all tests that leave it as they found it."""
    running = start(bundle_dir)
    yield running
    stop(running)


@pytest.fixture
def start_service(bundle_dir: Path) -> Iterator[StartService]:
    """Starts services with options of their own; they end with the test."""
    started: list[RunningService] = []

    def start_one(*options: str, bundle: Path = bundle_dir) -> RunningService:
        started.append(start(bundle, *options))
        return started[-1]

    yield start_one
    for one in started:
        stop(one)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """An installed Chromium; playwright comes with the test extra, and tests that ask for this skip without it."""
    from tests.service.browser import find_chromium, open_browser

    chromium = find_chromium()
    if chromium is None:
        pytest.skip("Chromium is absent (set MIEN_CHROMIUM)")
    with open_browser(chromium) as opened:
        yield opened


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """A page that must not write errors, break the content policy or ask for anything elsewhere."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    troubles: list[str] = []
    hosts: set[str] = set()
    opened.on(
        "console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None
    )
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    yield opened
    context.close()
    # A browser writes each failed connection into the console itself; reconnecting is what is tested then.
    assert [text for text in troubles if "WebSocket connection to" not in text] == []
    assert all(host.startswith("127.0.0.1:") for host in hosts)
