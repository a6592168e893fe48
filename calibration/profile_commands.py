"""`mien profiles`: what can be done with profiles beside the service. Thin: options in, one function, one JSON line out."""

import json
import sys
from importlib.resources import files
from pathlib import Path

import click


@click.group()
def profiles() -> None:
    """What is kept of wearers, without the service; over HTTP there is more (docs/profiles.md)."""


@profiles.command("export-onnx")
@click.argument("wearer", required=False)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="ONNX file to write.")
@click.option("--version", type=click.IntRange(min=0), help="Of the wearer's head; 0 is the bundle's.  [default: live]")
@click.option(
    "--bundle",
    "bundle_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="MIEN_BUNDLE",
    help="Bundle folder.  [default: the one shipped]",
)
@click.option(
    "--profiles",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="MIEN_PROFILES",
    help="Folder of the profiles.  [default: in the user's data folder]",
)
def export_onnx(
    *, wearer: str | None, out: Path, version: int | None, bundle_folder: Path | None, folder: Path | None
) -> None:
    """Write backbones and one head as one ONNX file that runs without mien; WEARER's head, or the bundle's.

    The file is checked before it is written: onnxruntime gives what the service serves, unfiltered. Exit code 3: no such wearer
    or head. The last line of stdout is one JSON object.
    """
    from calibration.errors import ProfileError, UnknownHeadError, UnknownWearerError
    from calibration.profiles import UNIVERSAL, Profiles, default_folder
    from model_export.contract import ContractError, read_bundle
    from model_export.errors import ExportError
    from model_export.standalone import standalone_onnx

    if wearer is None and version:
        raise click.UsageError("A version should be of a wearer. Found no WEARER.")
    try:
        bundle = read_bundle(bundle_folder or Path(str(files("model_export"))) / "bundles" / "base")
        head = bundle.head
        if wearer is not None:
            store = Profiles(folder or default_folder())
            chosen = store.profile(wearer).live_version if version is None else version
            if chosen != UNIVERSAL:
                head = store.head(wearer, chosen)
        data = standalone_onnx(bundle, head)
    except (UnknownWearerError, UnknownHeadError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(3)
    except (ContractError, ProfileError, ExportError) as error:
        raise click.ClickException(str(error)) from None
    half = out.with_name(out.name + ".tmp")  # a kill leaves the old file or the new one
    half.write_bytes(data)
    half.replace(out)
    summary = {
        "out": str(out),
        "bytes": len(data),
        "bundle": bundle.name,
        "bundle_digest": bundle.digest,
        "head_version": head.head_version,
    }
    click.echo(json.dumps(summary))
