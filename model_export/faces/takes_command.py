"""`mien render-takes`: calibrations of simulated wearers as take files, with the truth in them."""

import json
import os
import sys
import time
from pathlib import Path

import click

from model_export.faces.errors import FacesError
from model_export.faces.render import LOOKS
from model_export.faces.takes import TakesConfig, render_takes


@click.command()
@click.option(
    "--rig",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Packed rig (.npz) or the FaceXModel folder of an ICT-FaceKit clone.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the wearers.")
@click.option("--wearers", default=8, show_default=True, help="Wearers, one folder each.")
@click.option("--seed", default=7000, show_default=True, help="Seed of the first wearer.")
@click.option("--look", default="near", show_default=True, type=click.Choice(LOOKS), help="Kind of wearer and picture.")
@click.option("--rate", "rate_hz", default=30.0, show_default=True, help="Frame sets a second, Hz.")
@click.option("--sloppy", default=0.0, show_default=True, help="How badly cues are performed, 0 (as people do) to 1.")
@click.option("--free", "free_s", default=24.0, show_default=True, help="Length of the free test sequence, s.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes.")
def render_takes_command(  # noqa: PLR0917 - click passes options by name
    rig: Path,
    out: Path,
    wearers: int,
    seed: int,
    look: str,
    rate_hz: float,
    sloppy: float,
    free_s: float,
    workers: int,
) -> None:
    """Render calibrations of simulated wearers as takes with their truth; a second call resumes."""
    start = time.monotonic()
    try:
        rendered = render_takes(rig, TakesConfig(wearers, seed, look, rate_hz, sloppy, free_s), out, workers)
    except FacesError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    result = {
        "takes": str(out),
        "wearers": wearers,
        "rendered_takes": rendered,
        "seconds": round(time.monotonic() - start, 1),
    }
    click.echo(json.dumps(result))
