"""The commands of the training room: train, evaluate, export. Thin: options in, one function, one JSON line out."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from model_export.balancing import BALANCER_NAMES
from model_export.contract import Bundle, ContractError, read_bundle
from model_export.errors import TrainingError

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_NEW = click.Path(path_type=Path)


def _say(result: dict[str, Any]) -> None:
    click.echo(json.dumps(result))


@click.command()
@click.option(
    "--data", type=_FOLDER, required=True, multiple=True, help="Folder of rendered wearers; several times: of all."
)
@click.option("--out", type=_NEW, required=True, help="Run folder: checkpoint, log, weights, record.")
@click.option("--epochs", type=float, help="Passes over the data.  [default: 20]")
@click.option("--minutes", type=float, help="Instead: minutes of wall clock; the schedule is fitted to them.")
@click.option("--batch", type=int, default=64, show_default=True, help="Frame sets a step and process.")
@click.option("--balancer", type=click.Choice(BALANCER_NAMES), default="equal", show_default=True, help="Of losses.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option(
    "--held-out", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="Share of wearers to judge on."
)
@click.option("--start-from", type=_FOLDER, help="Finished run, or bundle, whose weights this one begins with.")
@click.option("--placed-by", type=_FOLDER, help="Bundle that says where each face is; crops are then cut there.")
@click.option(
    "--optimiser", type=click.Choice(("adamw", "muon")), default="muon", show_default=True, help="Of kernels."
)
@click.option("--learning-rate", type=float, default=3e-3, show_default=True, help="At its peak.")
@click.option(
    "--points", type=click.FloatRange(0), default=0.25, show_default=True, help="Weight of locating points of the face."
)
@click.option(
    "--augment", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Share of the full shifts and turns."
)
@click.option("--workers", type=int, default=0, show_default=True, help="Processes that make batches; 0: none.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of each process on the CPU.")
@click.option(
    "--precision",
    type=click.Choice(("float32", "bfloat16")),
    default="float32",
    show_default=True,
    help="Of the layers in training; bfloat16 where the CPU has it in hardware.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out, if there is one.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
def train(*, epochs: float | None, minutes: float | None, augment: float, **options: Any) -> None:
    """Train the backbones and the universal head; several processes under torchrun."""
    from model_export.augment import AugmentConfig
    from model_export.train import train as run
    from model_export.train_config import TrainConfig

    if epochs is None and minutes is None:
        epochs = 20.0
    try:
        result = run(
            TrainConfig(epochs=epochs, minutes=minutes, augmentation=AugmentConfig().scaled(augment), **options)
        )
    except TrainingError as error:
        raise click.ClickException(str(error)) from None
    if result is not None:
        _say(asdict(result))


def _report(bundles: list[Bundle], parts: dict[str, Any], out: Path | None) -> None:
    from model_export.evaluate import CAVEAT
    from model_export.report import markdown, plot

    evaluation = {
        "format": "mien-evaluation",
        "version": 5,
        "caveat": CAVEAT,
        "bundles": [{"name": bundle.name, "digest": bundle.digest} for bundle in bundles],
        **parts,
    }
    if out is None:
        click.echo(markdown(evaluation))
    else:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n")
        (out / "evaluation.md").write_text(markdown(evaluation))
        plot(evaluation, out)
    clips = parts.get("clips", {}).get("channels", {})
    _say(
        {
            **({"wearers": parts["wearers"]["summary"]} if "wearers" in parts else {}),
            **({"clips": {name: figures["median_r"] for name, figures in clips.items()}} if clips else {}),
        }
    )


_BUNDLES = click.option(
    "--bundle",
    "bundles",
    type=_FOLDER,
    multiple=True,
    required=True,
    help="Bundle folder; several (say, of three seeds) give means and deviations.",
)
_OUT = click.option("--out", type=_NEW, help="Folder for evaluation.json, evaluation.md and plots; default: print.")
_DATA = click.option("--data", type=_FOLDER, required=True, help="Folder of rendered wearers.")
_FRAMES = click.option("--frames", type=int, default=200, show_default=True, help="Frame sets of each wearer.")
_CLIPS = click.option(
    "--clips", type=_FOLDER, required=True, help="Folder of clips (npz) with reference curves; for checking only."
)


def _judge(bundles: tuple[Path, ...], data: Path | None, frames: int, clips: Path | None, out: Path | None) -> None:
    from model_export.clips import evaluate_clips
    from model_export.evaluate import evaluate_wearers

    try:
        opened, parts = [read_bundle(bundle) for bundle in bundles], dict[str, Any]()
        if data is not None:
            parts["wearers"] = evaluate_wearers(opened, data, frames)
        if clips is not None:
            parts["clips"] = evaluate_clips(opened, sorted(clips.glob("*.npz")))
    except (TrainingError, ContractError) as error:
        raise click.ClickException(str(error)) from None
    _report(opened, parts, out)


@click.group(invoke_without_command=True)
@click.option(
    "--bundle", "bundles", type=_FOLDER, multiple=True, help="Bundle folder; several give means and deviations."
)
@click.option("--data", type=_FOLDER, help="Folder of rendered wearers.")
@_FRAMES
@click.option("--clips", type=_FOLDER, help="Folder of clips (npz) with reference curves; for checking only.")
@_OUT
@click.pass_context
def evaluate(
    context: click.Context,
    *,
    bundles: tuple[Path, ...],
    data: Path | None,
    frames: int,
    clips: Path | None,
    out: Path | None,
) -> None:
    """Judge bundles on wearers and clips they never saw; with options of its own, both in one report."""
    if context.invoked_subcommand is not None:
        return
    if not bundles or (data is None and clips is None):
        raise click.UsageError("Give --bundle, and --data or --clips or both.")
    _judge(bundles, data, frames, clips, out)


@evaluate.command()
@_BUNDLES
@_DATA
@_FRAMES
@_OUT
def wearers(bundles: tuple[Path, ...], data: Path, frames: int, out: Path | None) -> None:
    """RMSE, r and ICC of each EU, gaze, rest and confidence on rendered wearers that were not trained on."""
    _judge(bundles, data, frames, None, out)


@evaluate.command()
@_BUNDLES
@_CLIPS
@_OUT
def clips(bundles: tuple[Path, ...], clips: Path, out: Path | None) -> None:
    """Pearson's r against the reference curves of real clips, median over clips."""
    _judge(bundles, None, 0, clips, out)


@click.command()
@click.option("--run", "run_folder", type=_FOLDER, required=True, help="Run folder of a finished training.")
@click.option("--out", type=_NEW, required=True, help="Bundle folder; an existing one is replaced.")
@click.option("--name", default="base", show_default=True, help="Name of the bundle.")
@click.option("--evaluation", type=click.Path(exists=True, path_type=Path), help="evaluation.json to keep in it.")
def export(run_folder: Path, out: Path, name: str, evaluation: Path | None) -> None:
    """Turn a training run into a checked bundle; writes nothing when onnxruntime and torch disagree."""
    from model_export.export import export as write

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        bundle = write(run_folder, out, name, json.loads(evaluation.read_bytes()) if evaluation else None)
    except (TrainingError, ContractError) as error:
        raise click.ClickException(str(error)) from None
    size = sum(file.stat().st_size for file in out.iterdir())
    _say({"bundle": name, "digest": bundle.digest, "bytes": size, "difference": bundle.training["largest_difference"]})


@click.command()
@click.option("--bundle", type=_FOLDER, required=True, help="Bundle folder, in floating point.")
@click.option("--data", type=_FOLDER, required=True, help="Folder of rendered wearers, whose crops give the ranges.")
@click.option("--out", type=_NEW, required=True, help="Bundle folder; an existing one is replaced.")
@click.option("--name", help="Name of the new bundle.  [default: the old one with -int8]")
def quantise(bundle: Path, data: Path, out: Path, name: str | None) -> None:
    """Turn a bundle into one of 8-bit integers: half the time, a little accuracy; for the machine it is made on."""
    from model_export.quantise import quantise as write

    try:
        whole = read_bundle(bundle)
        written = write(whole, data, out, name or f"{whole.name}-int8")
    except (TrainingError, ContractError) as error:
        raise click.ClickException(str(error)) from None
    _say({"bundle": str(out), "name": written.name, "digest": written.digest, "from": whole.digest})


@click.command()
@click.option("--bundle", type=_FOLDER, required=True, help="Bundle folder, written anew.")
@_DATA
def resting(bundle: Path, data: Path) -> None:
    """Put into a bundle what a face at rest tells of the answers to it, learnt from wearers it was not trained on."""
    from model_export.resting import add_resting

    try:
        found = add_resting(bundle, data)
    except (TrainingError, ContractError) as error:
        raise click.ClickException(str(error)) from None
    _say({"bundle": str(bundle), "digest": found.digest, "fittings": found.resting and found.resting.fittings})


@click.command(name="eye-pair")
@click.option("--bundle", type=_FOLDER, required=True, help="Bundle folder, written anew; after `mien resting`.")
@_DATA
@click.option("--seed", type=int, default=0, show_default=True, help="Of changes to crops, weights and order.")
def eye_pair(bundle: Path, data: Path, seed: int) -> None:
    """Put into a bundle what the eyes' answers say of each other, learnt from wearers it was not trained on."""
    from model_export.eye_pairs import add_eye_pair

    try:
        found = add_eye_pair(bundle, data, seed)
    except (TrainingError, ContractError) as error:
        raise click.ClickException(str(error)) from None
    _say({"bundle": str(bundle), "digest": found.digest, "frame_sets": found.eye_pair and found.eye_pair.frame_sets})
