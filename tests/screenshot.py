"""The README's picture of the live page, taken in a real browser while a take streams.

    python -m tests.screenshot --out docs/images/live-page.png                      the shipped bundle and sample take
    python -m tests.screenshot --out page.png --url http://127.0.0.1:8000           a service that has its headset already

Never with a real person's face: the sample take is rendered.
"""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.service_process import ServiceProcess
from service.demo_command import shipped_take
from tests.service.browser import find_chromium, open_browser


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="PNG to write.")
@click.option("--url", help="A running service with a headset; by default both are started.")
@click.option(
    "--take", type=click.Path(exists=True, dir_okay=False), help="What to stream.  [default: the take shipped]"
)
@click.option(
    "--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), help="[default: the one shipped]"
)
@click.option("--seconds", default=12.0, show_default=True, help="How long it streams before the picture is taken.")
@click.option("--width", default=1440, show_default=True, help="Of the window, px.")
@click.option("--height", default=860, show_default=True, help="Of the window, px.")
def main(
    *, out: Path, url: str | None, take: str | None, bundle: Path | None, seconds: float, width: int, height: int
) -> None:
    """Writes a picture of the live page."""
    chromium = find_chromium()
    if chromium is None:
        raise click.ClickException("Chromium is absent. Install it, or name it in MIEN_CHROMIUM.")
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(ServiceProcess(bundle)).url
            command = [
                sys.executable,
                "-c",
                "from service.command import main; main()",
                "stream",
                take or shipped_take(),
            ]
            headset = subprocess.Popen(
                [*command, "--url", f"ws{url.removeprefix('http')}/v1/stream", "--rate", "90", "--loop", "--json"],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(headset.wait)
            stack.callback(headset.terminate)
        browser = stack.enter_context(open_browser(chromium))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        page.wait_for_selector('body[data-state="live"]', timeout=20_000)
        page.wait_for_timeout(1000 * seconds)
        page.screenshot(path=out)
    click.echo(f"{out}: {out.stat().st_size} bytes", err=True)


if __name__ == "__main__":
    main()
