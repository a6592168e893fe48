"""The live page in a real browser, against a real service with a real headset client."""

import re
import threading
import time

import pytest

pytest.importorskip("playwright", reason="playwright is absent")

from playwright.sync_api import Browser, Page, expect

from model_export.contract import EU_NAMES, Camera
from model_export.contract.take import Encoding
from service.client import Client
from service.wire import EncodedFrame, FrameMessage
from tests.service.conftest import RunningService, StartService, stop
from tests.service.wire_material import smooth_image

NUMBER = re.compile(r"^\d+(\.\d+)?$")


class StreamingHeadset:
    """A headset that streams changing frames at about 60 Hz from a thread of its own until the block is left."""

    def __init__(self, url: str, cameras: tuple[Camera, ...] = tuple(Camera), *, alike: bool = False) -> None:
        self._url = url
        self._cameras = cameras
        self._apart = 0 if alike else 1
        """How far one camera's pictures are ahead of another's; 0 where all see the same."""
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join(10)

    def _run(self) -> None:
        images = [smooth_image(128, 128, seed) for seed in range(32)]
        start_ns = time.monotonic_ns()
        with Client(self._url) as client:
            sequence = 0
            while not self._leave.wait(1 / 60):
                t_ns = time.monotonic_ns() - start_ns
                frames = tuple(
                    EncodedFrame(
                        camera, Encoding.GRAY8, 128, 128, t_ns, images[(sequence + self._apart * camera) % 32].tobytes()
                    )
                    for camera in self._cameras
                )
                client.ask(FrameMessage(sequence, frames))
                sequence += 1


def _bars(page: Page) -> dict[str, str]:
    """How each bar stands now, by the name of its expression unit."""
    bars: dict[str, str] = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.track')]"
        ".map((track) => [track.dataset.unit, track.firstChild.style.transform]))"
    )
    return bars


def _look(page: Page, selector: str) -> tuple[int, int]:
    """A checksum of what a canvas shows, and how many grey levels; of a copy, so that the page's own canvas stays as it is."""
    checksum, levels = page.evaluate(
        """(selector) => {
            const shown = document.querySelector(selector);
            const copy = new OffscreenCanvas(shown.width, shown.height).getContext("2d", {willReadFrequently: true});
            copy.drawImage(shown, 0, 0);
            const data = copy.getImageData(0, 0, shown.width, shown.height).data;
            let checksum = 0;
            const levels = new Set();
            data.forEach((value, place) => {
                checksum = (checksum * 31 + value) % 2147483647;
                if (place % 4 === 0) levels.add(value);
            });
            return [checksum, levels.size];
        }""",
        selector,
    )
    return checksum, levels


def test_bars_pictures_and_gaze_move_while_frames_stream(page: Page, service: RunningService) -> None:
    page.goto(service.http_url)
    expect(page.locator("body")).to_have_attribute("data-state", "empty")
    expect(page.get_by_text("No headset is connected yet")).to_be_visible()
    expect(page.locator("#stream-address")).to_have_text(service.stream_url)
    with StreamingHeadset(service.stream_url):
        expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=10_000)
        expect(page.locator(".track")).to_have_count(len(EU_NAMES))
        bars, pictures, gazes = [], set(), set()
        for _ in range(8):  # the headset's pictures repeat every half second: two looks may meet the same one
            bars.append(_bars(page))
            pictures.add(_look(page, "#camera-mouth canvas"))
            gazes.add(_look(page, "#gaze-left canvas"))
            page.wait_for_timeout(130)
        assert all(set(seen) == set(EU_NAMES) for seen in bars)
        moved = [name for name in EU_NAMES if len({seen[name] for seen in bars}) > 1]
        assert len(moved) > len(EU_NAMES) // 2
        assert len(pictures) > 1
        assert len(gazes) > 1
        for camera in Camera:
            assert _look(page, f"#camera-{camera.label} canvas")[1] > 10
            expect(page.locator(f'.badge[data-region="{camera.label}"]')).to_contain_text("live")
        expect(page.locator("#bundle")).to_contain_text("test-0")
        expect(page.locator("#head")).to_have_text("universal")
        expect(page.locator("#p50")).to_have_text(NUMBER, timeout=5_000)
        expect(page.locator("#rate")).to_have_text(NUMBER)
        shown = page.locator('.track[data-unit="jawOpen"]')
        expect(shown).to_have_attribute("role", "meter")
        assert 0 <= float(shown.get_attribute("aria-valuenow") or "-1") <= 1


def test_pictures_of_one_frame_set_are_shown_together(page: Page, service: RunningService) -> None:
    page.goto(service.http_url)
    with StreamingHeadset(service.stream_url, alike=True):
        expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=10_000)
        expect(page.locator('.badge[data-region="mouth"]')).to_contain_text("live", timeout=10_000)
        shown = page.evaluate(
            """async () => {
                const canvases = Array.from(document.querySelectorAll(".camera canvas"));
                const copy = new OffscreenCanvas(128, 128).getContext("2d", {willReadFrequently: true});
                const seen = [];
                for (let look = 0; look < 30; look += 1) {
                    await new Promise((resolve) => setTimeout(resolve, 25));
                    seen.push(canvases.map((canvas) => {
                        copy.drawImage(canvas, 0, 0);
                        return copy.getImageData(0, 64, 128, 1).data.join();
                    }));
                }
                return seen;
            }"""
        )
    assert all(len(set(pictures)) == 1 for pictures in shown)
    assert len({pictures[0] for pictures in shown}) > 3


def test_a_region_without_a_camera_is_said_to_be_unseen(page: Page, service: RunningService) -> None:
    page.goto(service.http_url)
    with StreamingHeadset(service.stream_url, (Camera.LEFT_EYE,)):
        expect(page.locator('.badge[data-region="left_eye"]')).to_contain_text("live", timeout=10_000)
        expect(page.locator('.badge[data-region="mouth"]')).to_have_text("not seen")
        expect(page.locator('.track[data-unit="jawOpen"]')).to_have_attribute("aria-valuetext", "not seen")


def test_a_headset_is_chosen_and_its_leaving_is_told(page: Page, service: RunningService) -> None:
    page.goto(service.http_url)
    with StreamingHeadset(service.stream_url):
        expect(page.locator("#chooser option")).to_have_count(2, timeout=10_000)
        with StreamingHeadset(service.stream_url, (Camera.MOUTH,)):
            expect(page.locator("#chooser option")).to_have_count(3)
            expect(page.locator('.badge[data-region="left_eye"]')).to_have_text("not seen")  # the newest is followed
            page.locator("#chooser").select_option(index=1)
            expect(page.locator('.badge[data-region="left_eye"]')).to_contain_text("live")
            page.locator("#chooser").select_option(index=2)
            expect(page.locator('.badge[data-region="left_eye"]')).to_have_text("not seen")
        expect(page.locator("#state-text")).to_contain_text("has left", timeout=5_000)


def test_the_page_comes_back_after_the_service_did(page: Page, start_service: StartService) -> None:
    first = start_service()
    page.goto(first.http_url)
    expect(page.locator("body")).to_have_attribute("data-state", "empty")
    stop(first)
    expect(page.locator("body")).to_have_attribute("data-state", "lost")
    expect(page.locator("#state-text")).to_contain_text("Trying again")
    again = start_service("--port", str(first.port))
    assert again.port == first.port
    expect(page.locator("body")).to_have_attribute("data-state", "empty", timeout=10_000)


def test_every_width_fits_without_scrolling_sideways(browser: Browser, service: RunningService) -> None:
    with StreamingHeadset(service.stream_url):
        for width in (360, 768, 1024, 1440):
            context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce")
            page = context.new_page()
            page.goto(service.http_url)
            expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=10_000)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            context.close()
