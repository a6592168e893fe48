"""`mien serve`: settings from options and environment, then the service until SIGTERM or Ctrl-C."""

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from service.errors import ServiceError, SettingsError
from service.settings import PROVIDERS, Settings, from_environment


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1, this machine only]")
@click.option("--port", type=click.IntRange(0, 65535), help="TCP port; 0 takes a free one.  [default: 8000]")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the bundle.  [default: the one shipped]",
)
@click.option(
    "--profiles",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the wearers' heads.  [default: in the user's data folder]",
)
@click.option("--provider", type=click.Choice(PROVIDERS), help="What runs the backbones.  [default: auto]")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads of the runtime.  [default: 1]")
@click.option("--allow-host", "allowed_hosts", multiple=True, help="Answer to this name, too; repeatable.")
@click.option("--allow-origin", "allowed_origins", multiple=True, help="Let pages of this origin connect; repeatable.")
@click.option(
    "--max-message-bytes", type=click.IntRange(1024, 64 << 20), help="Longest message, bytes.  [default: 262144]"
)
@click.option("--max-connections", type=click.IntRange(1, 10_000), help="Headsets at once.  [default: 64]")
@click.option(
    "--watch/--no-watch", default=None, help="Offer the live page with its camera pictures.  [default: watch]"
)
def serve(**options: object) -> None:
    """Answer the frames of headsets with expression units.

    Each option can be set in the environment, too: MIEN_PORT, MIEN_BUNDLE, MIEN_ALLOWED_HOSTS (separated by commas) and so on.
    """
    try:
        settings = from_environment().but(**{name: value for name, value in options.items() if value != ()})
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    run(settings)


def run(settings: Settings) -> None:
    """Serves until a signal ends it; raises ClickException, exit code 1, when the service cannot start."""
    # As process 1 of a container SIGTERM does nothing without a handler, and until uvicorn sets its own there is none.
    # uvicorn raises the signal once more after its orderly end, so this is also what ends the process, with code 0.
    signal.signal(signal.SIGTERM, _leave)
    _raise_file_limit()
    from model_export.contract import ContractError
    from service.app import create_app
    from service.server import make_server

    try:
        app = create_app(settings)
    except (ContractError, ServiceError) as error:
        raise click.ClickException(f"The service does not start. {error}") from None
    server = make_server(app, settings, app.state.parts.streams.say_goodbye)
    try:
        server.run()
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:
        if server.started:
            raise
    if not server.started:  # uvicorn has logged why, and would leave with a code of its own
        sys.exit(1)


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _raise_file_limit() -> None:
    """Lets the process have as many sockets as it may: 1,024, a common soft limit, is 1,000 half-open connections."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
