"""`mien serve` whose calibrations take seconds, for benchmarks that need hundreds: the same application, another SessionConfig.

    python -m benchmarks.short_calibrations --profiles FOLDER --port 0 --pace 2

Three cues in place of twenty, at `pace` times their speed, after a short countdown; `hurried` gives takes performed that fast.
Worker, learner, gate, store and stream are those of the product.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from calibration.session import SessionConfig
from model_export.contract import Take, cue_by_name

CUES: Final = ("rest", "jaw_open", "smile")
"""Rest, and the fewest cues that teach both halves of a gate something."""


def short_session(pace: int = 1) -> SessionConfig:
    """The configuration of a session of seconds."""
    cues = tuple(replace(cue, seconds=cue.seconds / pace) for cue in map(cue_by_name, CUES))
    return SessionConfig(cues=cues, countdown_ns=300_000_000)


def hurried(take: Take, pace: int) -> Take:
    """The take at `pace` times its speed and the same frame rate: every so many frames one is left."""
    return Take(
        take.cue,
        take.encoding,
        take.t_ns[::pace] // pace,
        {camera: images[::pace] for camera, images in take.images.items()},
        take.size_px,
    )


@click.command()
@click.option("--profiles", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8000)
@click.option("--pace", type=click.IntRange(1, 4), default=1)
def main(profiles: Path, bundle: Path | None, port: int, pace: int) -> None:
    """Serves until a signal ends it."""
    from service.app import create_app
    from service.server import make_server
    from service.settings import Settings

    settings = Settings(profiles=profiles, port=port).but(bundle=bundle)
    app = create_app(settings)
    streams = app.state.parts.streams
    streams.calibrations.session = short_session(pace)
    make_server(app, settings, streams.say_goodbye).run()


if __name__ == "__main__":
    main()
