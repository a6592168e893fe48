"""`mien render`: labelled frames of synthetic wearers from a face rig."""

import json
import os
import sys
import time
from pathlib import Path

import click

from model_export.faces.errors import FacesError
from model_export.faces.render import LOOKS, RenderConfig, render_dataset


@click.command()
@click.option(
    "--rig",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Packed rig (.npz) or the FaceXModel folder of an ICT-FaceKit clone.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the dataset.")
@click.option("--wearers", default=520, show_default=True, help="Wearers, one shard each.")
@click.option("--frames", default=96, show_default=True, help="Frame sets of each wearer.")
@click.option("--fittings", default=8, show_default=True, help="Fittings (cameras, light, sensor) of each wearer.")
@click.option("--stride", "stride_s", default=0.35, show_default=True, help="Time between frame sets, s.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first wearer.")
@click.option(
    "--look",
    default="train",
    show_default=True,
    type=click.Choice(LOOKS),
    help="train: training wearers; the others draw wearers never trained on.",
)
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes.")
def render(  # noqa: PLR0917 - click passes options by name
    rig: Path, out: Path, wearers: int, frames: int, fittings: int, stride_s: float, seed: int, look: str, workers: int
) -> None:
    """Render labelled frames of synthetic wearers from a face rig; a second call resumes."""
    start = time.monotonic()
    try:
        config = RenderConfig(wearers, frames, seed, look, fittings, stride_s)
        dataset = render_dataset(rig, config, out, workers)
    except FacesError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    seconds = time.monotonic() - start
    made = dataset.rendered * frames
    click.echo(
        json.dumps(
            {
                "dataset": str(out),
                "frame_sets": dataset.frames,
                "rendered_wearers": dataset.rendered,
                "kept_wearers": dataset.kept,
                "seconds": round(seconds, 1),
                "ms_per_frame_set": round(1e3 * seconds / made, 2) if made else None,
            }
        )
    )
