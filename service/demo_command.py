"""`mien demo`: a service and a sample headset on this machine, one command, one Ctrl-C."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from importlib.resources import files
from pathlib import Path
from typing import IO, Final

import click

HOST: Final = "127.0.0.1"
READY_S: Final = 60.0
"""How long the service may take to be ready; a GPU's engine is built within it."""
STOP_S: Final = 5.0


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="TCP port of the service.")
@click.option(
    "--rate", type=click.FloatRange(1, 1000), default=90.0, show_default=True, help="Frame sets a second, Hz."
)
@click.option("--jpeg", type=click.IntRange(1, 100), help="Send JPEG of this quality where the source is raw.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after this time, s.  [default: Ctrl-C]"
)
@click.option("--source", help="What the sample headset sends, as in `mien stream`.  [default: the take shipped]")
def demo(*, port: int, rate: float, jpeg: int | None, seconds: float | None, source: str | None) -> None:
    """Start the service and a sample headset, and show the values here and on the live page.

    Ctrl-C stops both; that is the way to end it, so the exit code is 0. The last line of stdout is one JSON object.
    """
    from service.display import Display
    from service.errors import ServiceError
    from service.sources import SourceError, open_source
    from service.streaming import Pace, StreamRun, run_precisely, stream_through

    try:
        opened = open_source(source or shipped_take(), jpeg)
        free_port = port if _is_free(port) else _any_free_port()
        if free_port != port:
            click.echo(f"Port {port} is taken; using {free_port}.", err=True)
        with _service(free_port):
            page = f"http://{HOST}:{free_port}/"
            click.echo(f"Live page: {page}  (Ctrl-C stops)", err=True)
            run = StreamRun(opened, Pace(rate, loop=True, seconds=seconds), f"mien demo  {page}", Display())
            report = run_precisely(lambda: stream_through(run, f"ws://{HOST}:{free_port}/v1/stream"))
    except KeyboardInterrupt:
        return
    except SourceError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(3 if error.missing else 1)
    except ServiceError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(report))
    if not report["answered"] and not run.interrupted:
        raise click.ClickException(f"The service answered nothing: {run.first_refusal or 'no answer came'}")


def shipped_take() -> str:
    """Path of the take that is part of the package."""
    from service.sources import SourceError

    folder = Path(str(files("service"))) / "samples"
    takes = sorted(folder.glob("*.take"))
    if not takes:
        raise SourceError(
            "The package should hold a sample take.", "none", "Name a recording with --source.", missing=True
        )
    return str(takes[0])


@contextmanager
def _service(port: int) -> Iterator[None]:
    """`mien serve` in a process of its own, ready; stopped at the end, whatever happens."""
    from service.errors import UnreachableError

    command = [sys.executable, "-c", "from service.command import main; main()", "serve"]
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C reaches this process only, which then stops the service in order.
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--host", HOST, "--port", str(port)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            give_up_s = time.monotonic() + READY_S
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() > give_up_s:
                    found = "nothing" if process.poll() is None else f"exit code {process.returncode}"
                    raise UnreachableError(
                        f"The service should be ready within {READY_S:g} s.", f"{found}. It said:\n{_tail(log)}", ""
                    )
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_ready(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-2000:].decode("utf-8", "replace")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform != "win32":  # there it would let two servers share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
