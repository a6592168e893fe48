"""`mien stream`: a recording, video or camera to a service, at its pace; what came back in the terminal and as JSON."""

import json
import sys

import click

PROTOCOLS = ("bin", "json")
CAMERAS = ("left_eye", "right_eye", "mouth")


@click.command()
@click.argument("source")
@click.option("--url", default="ws://127.0.0.1:8000/v1/stream", show_default=True, help="WebSocket of the service.")
@click.option("--rate", type=click.FloatRange(0.1, 1000), help="Frame sets a second, Hz.  [default: the source's own]")
@click.option("--loop", is_flag=True, help="Begin again at the end; capture times go on rising.")
@click.option(
    "--jpeg", type=click.IntRange(1, 100), help="Send JPEG of this quality.  [default: raw; a JPEG take as it is]"
)
@click.option("--wearer", help="Whose head answers.  [default: default]")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after this time, s.")
@click.option(
    "--protocol", type=click.Choice(PROTOCOLS), default="bin", show_default=True, help="Subprotocol mien.v1.*"
)
@click.option("--camera", type=click.Choice(CAMERAS), help="Whom a video shows.  [default: three cameras side by side]")
@click.option("--json", "as_json", is_flag=True, help="Each reply as a JSON line on stdout, and no display.")
def stream(
    *,
    source: str,
    url: str,
    rate: float | None,
    loop: bool,
    jpeg: int | None,
    wearer: str | None,
    seconds: float | None,
    protocol: str,
    camera: str | None,
    as_json: bool,
) -> None:
    """Send SOURCE to a service and show what it answers.

    SOURCE is a .take, an .npz clip, a folder of images, a video file, or the number of a camera. The last line of stdout is one
    JSON object: counts, latency from the planned send times, and the agreement (Pearson r) where SOURCE has a reference.
    """
    from model_export.contract.frames import Camera
    from service.display import Display
    from service.errors import ServiceError
    from service.sources import SourceError, open_source
    from service.streaming import Pace, StreamRun, run_precisely, stream_through

    try:
        opened = open_source(source, jpeg, None if camera is None else Camera[camera.upper()])
        run = StreamRun(opened, Pace(rate, loop, seconds), f"{opened.name} -> {url}", Display(quiet=as_json))
        report = run_precisely(
            lambda: stream_through(run, url, wearer=wearer, protocol=protocol, print_replies=as_json)
        )
    except SourceError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(3 if error.missing else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except ServiceError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(report))
    if run.interrupted:
        sys.exit(130)
    if not report["answered"]:
        reason = run.first_refusal or "no frame set was answered"
        raise click.ClickException(f"The service answered nothing: {reason}")
