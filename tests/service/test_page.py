"""The live page in a real browser, against a real service with a real headset client."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright is absent")

from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from benchmarks.simulated_wearer import SimulatedWearer
from calibration.profiles import Profiles
from model_export.contract import EU_NAMES, Camera, Take, read_bundle
from model_export.contract.take import Encoding
from service.client import Client
from service.wire import EncodedFrame, FrameMessage
from tests.bundles import make_head
from tests.calibration.moving_pictures import Person
from tests.service.browser import find_chromium, open_browser
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("Chromium is absent (set MIEN_CHROMIUM)")
    with open_browser(chromium) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not write errors, break the content policy or ask for anything elsewhere."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    troubles: list[str] = []
    hosts: set[str] = set()
    opened.on(
        "console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None
    )
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    yield opened
    context.close()
    # A browser writes each failed connection into the console itself; reconnecting is what is tested then.
    assert [text for text in troubles if "WebSocket connection to" not in text] == []
    assert all(host.startswith("127.0.0.1:") for host in hosts)


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


class FollowingWearer:
    """A wearer who streams, and performs the cues of some takes when they are asked for, until the block is left."""

    def __init__(self, url: str, takes: Mapping[str, Take], rate_hz: float) -> None:
        self._wearer = SimulatedWearer(url, takes, wearer="ada", rate_hz=rate_hz)
        self._thread = threading.Thread(target=asyncio.run, args=(self._follow(),))
        self._leave = threading.Event()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join(10)

    async def _follow(self) -> None:
        following = asyncio.create_task(self._wearer.follow())
        while not self._leave.is_set() and not following.done():
            await asyncio.sleep(0.05)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


@pytest.mark.slow
def test_a_wearer_is_calibrated_from_the_page(page: Page, start_service: StartService, tmp_path: Path) -> None:
    service = start_service("--profiles", str(tmp_path / "profiles"))
    person = Person()
    takes = {name: person.take(name) for name in ("rest", "jaw_open")}  # what has no take is skipped
    page.goto(service.http_url)
    expect(page.locator("#calibrate-open")).to_be_disabled()
    with FollowingWearer(service.stream_url, takes, person.rate_hz):
        expect(page.locator("#wearer")).to_have_text("ada", timeout=20_000)
        page.locator("#calibrate-open").click()
        expect(page.locator("#new-name")).to_have_value("")
        page.get_by_label("I agree").check()
        expect(page.locator("#start")).to_be_disabled()
        page.locator("#new-name").fill("ada")
        page.locator("#start").click()
        expect(page.locator("#prompt")).to_have_text("Relax your face and look ahead.", timeout=90_000)
        expect(page.locator('#cues [data-cue="rest"]')).to_have_attribute("data-state", "accepted", timeout=60_000)
        expect(page.locator("#prompt")).to_have_text("Open your mouth wide, then close it.", timeout=60_000)
        expect(page.locator("#gauge")).to_have_attribute("data-known", "true", timeout=20_000)
        expect(page.locator("#report-title")).to_have_text(
            re.compile("Head 1 answers now|Nothing became better"), timeout=120_000
        )
        expect(page.locator('#heads [data-version="0"]')).to_be_visible()
        page.locator("#done").click()
        expect(page.locator("#calibrate-open")).to_have_text("Calibrate")
    (consent,) = Profiles(tmp_path / "profiles").profile("ada").consents
    assert (consent.version, consent.keep_takes) == ("1", False), "what the page showed is what is on record"


class ToldPage:
    """The page on a watch socket that says what the test says, and a real service behind its requests."""

    def __init__(self, page: Page, url: str, wearer: str = "ada") -> None:
        self._socket: WebSocketRoute | None = None
        self._page = page
        self._wearer = wearer
        page.route_web_socket(re.compile("/v1/watch"), self._open)
        page.goto(url)
        expect(page.locator("#calibrate-open")).to_be_enabled()
        page.locator("#calibrate-open").click()

    def _open(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        bundle = {"name": "test", "digest": "ab" * 32}
        self._send({"type": "hello", "protocol": 1, "eu_set": 1, "eu_names": EU_NAMES, "bundle": bundle, "rate_hz": 30})
        headset = {"id": 1, "wearer": self._wearer, "active": True, "rate_hz": 30.0, "drops": 0, "head_version": 2}
        latency = {"p50": 1.0, "p99": 2.0}
        self._send({"type": "status", "watching": 1, "connections": [{**headset, "latency_ms": latency}]})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        self._socket.send(json.dumps(message))

    def tell(self, event: str, **fields: Any) -> None:
        self._send({"type": "calibration", "connection": 1, "ago_ms": 0, "event": event, **fields})

    def cue(self, name: str, prompt: str, left: int, attempt: int = 1) -> None:
        times = {"begins_in_ms": 2000, "length_ms": 3000}
        self.tell("cue", cue=name, prompt=prompt, dots_deg=[], repetitions=2, attempt=attempt, left=left, **times)


@pytest.fixture
def kept(start_service: StartService, bundle_dir: Path, tmp_path: Path) -> tuple[RunningService, Profiles]:
    """A service with a wearer `ada` who has two heads, the second of them live."""
    store = Profiles(tmp_path / "profiles")
    store.create("ada")
    store.give_consent("ada", "1", keep_takes=False)
    digest = read_bundle(bundle_dir).backbone_digest
    for seed in (1, 2):
        store.add_head("ada", make_head(seed, backbone_digest=digest), live=True)
    return start_service("--profiles", str(tmp_path / "profiles")), store


def test_cues_refusals_and_the_gauge_are_shown_as_they_are_told(
    page: Page, kept: tuple[RunningService, Profiles]
) -> None:
    told = ToldPage(page, kept[0].http_url)
    told.tell("starting", wearer="ada")
    told.cue("rest", "Relax.", 2)
    expect(page.locator("#prompt")).to_have_text("Relax.")
    expect(page.locator("#count")).to_have_text("1 of 3")
    expect(page.locator("#seconds")).to_have_text(re.compile("[12]"))
    told.tell("accepted", cue="rest")
    told.cue("smile", "Smile.", 1)
    rest = page.locator("#cue-picture .face-lips").get_attribute("d")
    told.tell("recording", cue="smile")
    expect(page.locator("#calibrate")).to_have_attribute("data-phase", "recording")
    expect(page.locator("#cue-picture .face-lips")).not_to_have_attribute("d", rest or "")
    told.tell("gauge", cue="smile", value=0.7)
    expect(page.locator("#gauge")).to_have_attribute("aria-valuenow", "0.70")
    told.tell("judging")
    told.tell("refused", cue="smile", reason="Too weak.", again=True)
    told.cue("smile", "Smile.", 1, attempt=2)
    expect(page.locator("#verdict")).to_have_text("Once more. Too weak.")
    expect(page.locator("#count")).to_have_text("2 of 3 · attempt 2 of 3")
    expect(page.locator("#gauge")).to_have_attribute("data-known", "false")
    told.cue("frown", "Frown.", 0)
    told.tell("declined", wish="redo", reason="not now")
    expect(page.locator("#verdict")).to_have_text("No redo now: not now.")
    told.tell("paused")
    expect(page.locator("#moment")).to_contain_text("No frames come")
    told.tell("ended", outcome="lost")
    expect(page.locator("#setup-note")).to_contain_text("The headset stayed away")


def test_the_report_says_what_changed_and_one_click_goes_back(
    page: Page, kept: tuple[RunningService, Profiles]
) -> None:
    service, store = kept
    told = ToldPage(page, service.http_url)
    told.tell("starting", wearer="ada")
    units = {
        "jawOpen": {"before": 0.2, "after": 0.1, "source": "fitted"},
        "mouthPucker": {"before": 0.3, "after": 0.3, "source": "old"},
        "gazeYawLeft": {"before": 6.0, "after": 2.0, "source": "fitted"},
        "pupilDilateLeft": {"before": None, "after": None, "source": "old"},
    }
    told.tell("report", head_version=2, failure=None, report={"eus": units})
    expect(page.locator("#report-title")).to_have_text("Head 2 answers now")
    expect(page.locator("#report-text")).to_contain_text("2 of 3 outputs became better")
    expect(page.locator(".report-row")).to_have_count(3)
    expect(page.locator('.report-row[data-unit="jawOpen"]')).to_contain_text("0.200 → 0.100")
    expect(page.locator('.report-row[data-unit="gazeYawLeft"]')).to_contain_text("6.0° → 2.0°")
    expect(page.locator('#heads [data-version="2"]')).to_have_attribute("data-live", "true")
    page.locator("#go-back").click()
    expect(page.locator('#heads [data-version="1"]')).to_have_attribute("data-live", "true")
    assert store.profile("ada").live_version == 1
    page.locator('#heads [data-version="2"] button').click()
    expect(page.locator('#heads [data-version="2"]')).to_have_attribute("data-live", "true")
    told.tell("report", head_version=None, failure="The fit took too long.", report={})
    expect(page.locator("#report-title")).to_have_text("Nothing became better")
    expect(page.locator("#report-text")).to_have_text("The fit took too long. The head in use stays.")


def test_the_name_is_the_one_last_used_here_while_its_profile_exists(
    page: Page, kept: tuple[RunningService, Profiles]
) -> None:
    service, store = kept
    store.create("bo")
    page.route("**/v1/calibration/1/start*", lambda route: route.fulfill(json={"connection": 1, "wearer": "bo"}))
    ToldPage(page, service.http_url, "default")
    expect(page.locator("#profile option")).to_have_count(3)
    expect(page.locator("#profile")).to_have_value("")
    expect(page.locator("#new-name")).to_have_value("")  # nobody called default ever had a profile
    page.locator("#profile").select_option("bo")
    page.get_by_label("I agree").check()
    with page.expect_request("**/v1/calibration/1/start*"):
        page.locator("#start").click()
    page.reload()
    page.locator("#calibrate-open").click()
    expect(page.locator("#profile")).to_have_value("bo")
    store.delete_wearer("bo")
    page.locator("#calibrate-close").click()
    page.locator("#calibrate-open").click()
    expect(page.locator("#profile option")).to_have_count(2)
    expect(page.locator("#profile")).to_have_value("")
    expect(page.locator("#new-name")).to_have_value("")


def test_one_button_re_centres_a_headset_that_was_put_on_again(
    page: Page, kept: tuple[RunningService, Profiles]
) -> None:
    service, store = kept
    granted = {"connection": 1, "wearer": "ada"}
    page.route("**/v1/calibration/1/recentre*", lambda route: route.fulfill(json=granted))
    told = ToldPage(page, service.http_url)
    expect(page.locator("#profile")).to_have_value("ada")
    expect(page.locator("#start")).to_be_disabled()
    with page.expect_request("**/v1/calibration/1/recentre*") as asked:
        page.get_by_role("button", name="Headset put on again").click()
    assert asked.value.url.partition("?")[2] == "wearer=ada", "the consent on record is enough"
    told.tell("starting", wearer="ada")
    told.cue("rest", "Relax.", 0)
    expect(page.locator("#count")).to_have_text("1 of 1")
    told.tell("fitting", cues=["rest"])
    expect(page.locator("#moment")).to_have_text("Looking how the headset sits")
    units = {
        "jawOpen": {"before": 0.2, "after": 0.01, "source": "recentred"},
        "mouthPucker": {"before": 0.01, "after": 0.01, "source": "old"},
    }
    told.tell("report", head_version=2, failure=None, report={"origin": "recentred", "eus": units})
    told.tell("ended", outcome="closed")
    expect(page.locator("#report-text")).to_contain_text("1 of 2 outputs came nearer to rest")
    expect(page.locator('.report-row[data-unit="jawOpen"]')).to_have_attribute("data-better", "true")
    expect(page.locator("#cues button")).to_have_count(0)
    page.locator("#go-back").click()
    expect(page.locator('#heads [data-version="1"]')).to_have_attribute("data-live", "true")
    assert store.profile("ada").live_version == 1
    page.locator("#again").click()
    page.locator("#profile").select_option("")
    expect(page.locator("#recentre")).to_be_disabled()  # a new profile has agreed to nothing


def test_what_calibration_is_worth_today_is_said_once(page: Page, kept: tuple[RunningService, Profiles]) -> None:
    ToldPage(page, kept[0].http_url)
    expect(page.locator("#worth")).to_be_visible()
    expect(page.locator("#worth")).to_contain_text("free movement by 2 to 3 %")
    assert page.locator("body").inner_html().count("free movement") == 1


def test_a_profile_is_deleted_after_asking_twice(page: Page, kept: tuple[RunningService, Profiles]) -> None:
    service, store = kept
    ToldPage(page, service.http_url)
    expect(page.locator("#profile")).to_have_value("ada")
    page.locator("#delete").click()
    assert store.wearers() == ("ada",)
    page.get_by_role("button", name="Really delete all of ada?").click()
    expect(page.locator("#setup-note")).to_contain_text("ada is deleted")
    assert store.wearers() == ()
    page.locator("#new-name").fill("../no name")
    page.get_by_label("I agree").check()
    expect(page.locator("#start")).to_be_disabled()
    page.locator("#new-name").fill("bo")
    expect(page.locator("#start")).to_be_enabled()
