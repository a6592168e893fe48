"""The README's picture of the live page, taken in a real browser while a take streams, at a moment with an open mouth.

    python tests/screenshot.py                                                    the shipped bundle and sample take
    python tests/screenshot.py --out page.png --url http://127.0.0.1:8000         a service that has its headset already
    python tests/screenshot.py --take smile.take --unit mouthSmileLeft            another moment of another take

It needs a Chromium that is installed, and a machine that is not busy: the latency is in the picture. Never with a real person's
face: the sample take is rendered.
"""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

if __name__ == "__main__":
    # A script finds its own folder, not the repository's.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from benchmarks.service_process import ServiceProcess
from model_export.contract import EU_NAMES
from service.demo_command import shipped_take
from tests.conftest import REPOSITORY
from tests.service.browser import find_chromium, open_browser

PICTURE: Final = REPOSITORY / "docs" / "images" / "live-page.png"
MOMENT_MS: Final = 60_000
"""How long the moment is waited for: a take is shown many times over by then."""


@click.command()
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="PNG to write.  [default: docs/images/live-page.png]"
)
@click.option("--url", help="A running service with a headset; by default both are started.")
@click.option(
    "--take", type=click.Path(exists=True, dir_okay=False), help="What to stream.  [default: the take shipped]"
)
@click.option(
    "--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), help="[default: the one shipped]"
)
@click.option(
    "--unit", type=click.Choice(EU_NAMES), default="jawOpen", show_default=True, help="Which EU is waited for."
)
@click.option("--least", default=0.4, show_default=True, help="Its least value in the picture.")
@click.option("--seconds", default=12.0, show_default=True, help="How long it streams before that.")
@click.option("--width", default=1440, show_default=True, help="Of the window, px.")
@click.option("--height", default=860, show_default=True, help="Of the window, px.")
def main(
    *,
    out: Path | None,
    url: str | None,
    take: str | None,
    bundle: Path | None,
    unit: str,
    least: float,
    seconds: float,
    width: int,
    height: int,
) -> None:
    """Writes a picture of the live page."""
    out = out or PICTURE
    chromium = find_chromium()
    if chromium is None:
        raise click.ClickException("Chromium is absent. Install it, or name it in MIEN_CHROMIUM.")
    with ExitStack() as stack:
        if url is None:
            nobody = stack.enter_context(TemporaryDirectory())  # the shipped head, not one of whoever takes the picture
            url = stack.enter_context(ServiceProcess(bundle, options=("--profiles", nobody))).url
            command = [sys.executable, "-c", "from service.command import main; main()", "stream"]
            options = ["--url", f"ws{url.removeprefix('http')}/v1/stream", "--rate", "90", "--loop", "--json"]
            headset = subprocess.Popen(
                [*command, take or shipped_take(), *options], stdout=subprocess.DEVNULL, cwd=REPOSITORY
            )
            stack.callback(headset.wait)
            stack.callback(headset.terminate)
        browser = stack.enter_context(open_browser(chromium))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        page.wait_for_selector('body[data-state="live"]', timeout=20_000)
        page.wait_for_timeout(1000 * seconds)
        page.wait_for_function(
            "([unit, least]) => +document.querySelector(`.track[data-unit=${unit}]`).getAttribute('aria-valuenow') >= least",
            arg=[unit, least],
            timeout=MOMENT_MS,
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=out)
    click.echo(f"{out}: {out.stat().st_size} bytes", err=True)


if __name__ == "__main__":
    main()
