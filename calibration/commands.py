"""The commands of the calibration room: calibrate, evaluate-calibration. Thin: options in, one function, one JSON line out.

`mien evaluate` is model_export's, which may not import calibration; hence a command of its own beside it.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from model_export.contract import Bundle

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)
_Judged = TypeVar("_Judged")


@click.command()
@click.option("--takes", type=_FOLDER, required=True, help="Folder of one wearer's takes; *_after.take are left out.")
@click.option("--bundle", "bundle_folder", type=_FOLDER, required=True, help="Bundle folder.")
@click.option("--out", type=_NEW, required=True, help="Head file to write; written only where the head is a new one.")
@click.option("--current", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The wearer's head now.")
@click.option("--json", "as_json", is_flag=True, help="Nothing but the JSON line on stdout.")
def calibrate(*, takes: Path, bundle_folder: Path, out: Path, current: Path | None, as_json: bool) -> None:
    """Make a wearer's own head from recorded takes.

    Exit code 0: a new head was written; 3: no take in the folder; 4: nothing moved the head, by rest or on held-out takes,
    nothing was written. The last line of stdout is one JSON object.
    """
    from calibration.calibrate import calibrate_takes
    from calibration.errors import CalibrationError
    from model_export.contract import ContractError, read_bundle, read_head, read_take, write_head

    paths = [path for path in sorted(takes.glob("*.take")) if not path.stem.endswith("_after")]
    if not paths:
        click.echo(f"Error: {takes} should hold takes (*.take). Found none.", err=True)
        sys.exit(3)
    try:
        found = calibrate_takes(
            [read_take(path.read_bytes()) for path in paths],
            read_bundle(bundle_folder),
            None if current is None else read_head(current.read_bytes()),
        )
    except (ContractError, CalibrationError) as error:
        raise click.ClickException(str(error)) from None
    if not as_json:
        for name, eu in found.report["eus"].items():
            if eu["before"] is not None:
                click.echo(f"{name:18} {eu['before']:.3f} -> {eu['after']:.3f}  {eu['source']}")
        for refusal in found.refused:
            click.echo(f"refused: {refusal}")
    if found.better:
        _write(out, write_head(found.head))
    summary: dict[str, Any] = {
        "better": found.better,
        "head_version": found.head.head_version,
        **found.report["summary"],
        "refused": len(found.refused),
        "out": str(out) if found.better else None,
    }
    click.echo(json.dumps(summary))
    if not found.better:
        sys.exit(4)


def _write(path: Path, data: bytes) -> None:
    """Written aside and renamed: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(data)
    aside.replace(path)


@click.command()
@click.option("--bundle", "bundle_folder", type=_FOLDER, required=True, help="Bundle folder.")
@click.option(
    "--takes", "sets", type=_FOLDER, multiple=True, required=True, help="Folder of wearers; several: near, far."
)
@click.option("--wearers", type=click.IntRange(min=1), help="At most so many of each folder.  [default: all]")
@click.option("--ablations", is_flag=True, help="Take parts of our own calibration away instead, one at a time.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for calibration.json and .md, or ablations.json and .md.",
)
def evaluate_calibration(
    *, bundle_folder: Path, sets: tuple[Path, ...], wearers: int | None, ablations: bool, out: Path | None
) -> None:
    """Compare what a calibration gives with what peers do, on simulated wearers rendered by `mien render-takes`."""
    from calibration.errors import CalibrationError
    from model_export.contract import ContractError, read_bundle

    try:
        bundle = read_bundle(bundle_folder)
        report = (_ablated if ablations else _compared)(bundle, sets, wearers)
    except (ContractError, CalibrationError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(report.text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{report.name}.json").write_text(json.dumps(report.evaluation, indent=1) + "\n")
        (out / f"{report.name}.md").write_text(report.text)
    click.echo(json.dumps(report.last))


@dataclass(frozen=True, slots=True)
class _Report:
    """What an evaluation of calibrations prints and writes; JSON values."""

    name: str
    """Of its two files."""
    evaluation: Mapping[str, Any]
    text: str
    last: Mapping[str, Any]
    """The last line."""


def _compared(bundle: "Bundle", sets: Sequence[Path], wearers: int | None) -> _Report:
    """All methods; each wearer is told on stderr."""
    from calibration.evaluate import CAVEAT, EVALUATION_FORMAT, EVALUATION_VERSION, METHODS, evaluate_wearer
    from calibration.evaluation_report import summary, table

    found = _over_wearers(
        sets,
        wearers,
        lambda place: evaluate_wearer(bundle, place),
        lambda one: zip(METHODS, one.rmse_ME.mean(axis=1), strict=True),
        summary,
    )
    evaluation = {
        "format": EVALUATION_FORMAT,
        "version": EVALUATION_VERSION,
        "caveat": CAVEAT,
        "bundle": {"name": bundle.name, "digest": bundle.digest},
        "sets": found,
    }
    methods = {name: {method: one["rmse"] for method, one in each["methods"].items()} for name, each in found.items()}
    last = {"rmse": methods, "way_closed": {name: each["way_closed"] for name, each in found.items()}}
    return _Report("calibration", evaluation, table(found), last)


def _ablated(bundle: "Bundle", sets: Sequence[Path], wearers: int | None) -> _Report:
    """All variants of our own calibration; each wearer is told on stderr."""
    from calibration.ablations import ABLATIONS_FORMAT, ABLATIONS_VERSION, ROWS, ablate_wearer, summary, table
    from calibration.evaluate import CAVEAT
    from calibration.variants import VARIANTS

    found = _over_wearers(
        sets,
        wearers,
        lambda place: ablate_wearer(bundle, place),
        lambda one: zip(ROWS, one.rmse_VE.mean(axis=1), strict=True),
        summary,
    )
    evaluation = {
        "format": ABLATIONS_FORMAT,
        "version": ABLATIONS_VERSION,
        "caveat": CAVEAT,
        "bundle": {"name": bundle.name, "digest": bundle.digest},
        "what": VARIANTS,
        "sets": found,
    }
    variants = {name: {row: one["rmse"] for row, one in each["variants"].items()} for name, each in found.items()}
    return _Report("ablations", evaluation, table(found), {"rmse": variants})


def _over_wearers(
    sets: Sequence[Path],
    wearers: int | None,
    judge: Callable[[Path], _Judged],
    errors_of: Callable[[_Judged], Iterable[tuple[str, float]]],
    summary: Callable[[Sequence[_Judged]], Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    """A summary for each set, by its folder's name."""
    from calibration.evaluate import wearer_folders

    found = {}
    for folder in sets:
        judged = []
        for place in wearer_folders(folder)[:wearers]:
            judged.append(judge(place))
            said = ", ".join(f"{name} {error:.4f}" for name, error in errors_of(judged[-1]))
            click.echo(f"{folder.name}/{place.name}: {said}", err=True)
        found[folder.name] = summary(judged)
    return found
