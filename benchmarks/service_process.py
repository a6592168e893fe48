"""A service of the benchmark's own: `mien serve` in another process, on a free port."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final, Self

_READY: Final = re.compile(r"url=(http://\S+)")
_SERVE: Final = ("-c", "from service.command import main; main()", "serve")


class StartError(RuntimeError):
    """The service did not start; says what it wrote."""


class ServiceProcess:
    """`mien serve` until the block is left; its log is kept in `lines`. `program`: what Python runs in its place."""

    def __init__(
        self,
        bundle: Path | None = None,
        *,
        timeout_s: float = 30.0,
        options: tuple[str, ...] = (),
        program: tuple[str, ...] = _SERVE,
    ) -> None:
        command = [sys.executable, *program, "--port", "0", *options]
        if bundle is not None:
            command += ["--bundle", str(bundle)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
        environment["MIEN_PROFILES"] = ""  # a wearer of this machine must not change what is measured
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1], env=environment
        )
        self._timeout_s = timeout_s
        self.lines: list[str] = []
        self.url = ""
        """http://host:port once it is ready."""

    @property
    def pid(self) -> int:
        """Of the service."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        ready = threading.Event()
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        deadline_s = time.monotonic() + self._timeout_s
        while not ready.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.__exit__()
                raise StartError("`mien serve` should be ready. It wrote:\n" + "\n".join(self.lines[-20:]))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self, ready: threading.Event) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.lines.append(line.rstrip())
                if (found := _READY.search(line)) and not self.url:
                    self.url = found.group(1)
                    ready.set()
