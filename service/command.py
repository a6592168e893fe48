"""The one command, `mien`: each subcommand is imported only when it is asked for.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 quality gate failed, 130 interrupted.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Final

import click

_SUBCOMMANDS: Final = {
    "serve": ("service.serve_command:serve", "Answer the frames of headsets with expression units."),
    "demo": ("service.demo_command:demo", "Start the service and a sample headset, and show the live page."),
    "stream": ("service.stream_command:stream", "Send a take, images, a video or a camera to a service."),
    "render": ("model_export.faces.command:render", "Render labelled frames of synthetic wearers from a face rig."),
    "render-takes": (
        "model_export.faces.takes_command:render_takes_command",
        "Render calibrations of simulated wearers.",
    ),
    "train": ("model_export.commands:train", "Train the backbones and the universal head."),
    "evaluate": ("model_export.commands:evaluate", "Judge a bundle on wearers and clips it never saw."),
    "calibrate": ("calibration.commands:calibrate", "Make a wearer's own head from recorded takes."),
    "evaluate-calibration": (
        "calibration.commands:evaluate_calibration",
        "Compare calibration with what peers do, on simulated wearers.",
    ),
    "profiles": (
        "calibration.profile_commands:profiles",
        "What is kept of wearers: a head as a stand-alone ONNX file.",
    ),
    "export": ("model_export.commands:export", "Turn a training run into a checked bundle."),
    "resting": ("model_export.commands:resting", "Put into a bundle what a face at rest tells."),
    "eye-pair": ("model_export.commands:eye_pair", "Put into a bundle what the eyes' answers say of each other."),
    "quantise": ("model_export.commands:quantise", "Turn a bundle into one of 8-bit integers: half the time."),
}
"""Where each subcommand stands, as text: importing torch for `mien serve` would cost seconds and 400 MB."""


class _LazyGroup(click.Group):
    """A group that imports a subcommand when it is called, and lists them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _SUBCOMMANDS:
            return None
        module, _, attribute = _SUBCOMMANDS[cmd_name][0].partition(":")
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.partition(".")[0] in ("service", "model_export", "calibration"):
                raise
            raise click.ClickException(
                f"`mien {cmd_name}` needs the package {missing.name!r}, which is not installed. "
                "Install the training extra: pip install -c constraints.txt -e '.[train]'"
            ) from None
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _SUBCOMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("mien-expression-units"), prog_name="mien")
def main() -> None:
    """Expression units and gaze from the eye and mouth cameras of a headset, within the frame."""
