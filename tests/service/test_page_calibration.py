"""Calibrating from the live page in a real browser: cues, refusals, report, profiles, a headset put on again."""

import asyncio
import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright is absent")

from playwright.sync_api import Page, Route, WebSocketRoute, expect

from benchmarks.simulated_wearer import SimulatedWearer
from calibration.profiles import Profiles
from model_export.contract import EU_NAMES, Take, read_bundle
from tests.bundles import make_head
from tests.calibration.moving_pictures import Person
from tests.service.conftest import RunningService, StartService


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
        self.status(head_version=2, slip={"mouth": {"right_px": -3.0, "down_px": 4.0, "turn_deg": 0.0}}, placed={})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        self._socket.send(json.dumps(message))

    def status(self, **of_headset: Any) -> None:
        headset = {"id": 1, "wearer": self._wearer, "active": True, "rate_hz": 30.0, "drops": 0, **of_headset}
        headset["latency_ms"] = {"p50": 1.0, "p99": 2.0}
        self._send({"type": "status", "watching": 1, "connections": [headset]})

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
        "mouthPucker": {"before": 0.3, "after": 0.31, "source": "rested"},
        "gazeYawLeft": {"before": 6.0, "after": 2.0, "source": "fitted"},
        "pupilDilateLeft": {"before": None, "after": None, "source": "old"},
    }
    told.tell("report", head_version=2, failure=None, report={"eus": units})
    expect(page.locator("#report-title")).to_have_text("Head 2 answers now")
    expect(page.locator("#report-text")).to_contain_text("2 of 3 outputs became better")
    expect(page.locator("#report-text")).to_contain_text("the others are moved by what your face at rest tells")
    expect(page.locator('.report-row[data-unit="mouthPucker"]')).to_have_attribute("data-better", "false")
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
    page.locator("#start").click()
    page.wait_for_function("localStorage.getItem('mien.wearer') === 'bo'")  # kept once the service has answered
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
    expect(page.locator("#slip")).to_have_text("5 px")
    expect(page.locator("#slip")).to_have_attribute("data-level", "warn")
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
    slip = {"mouth": {"right_px": -3.0, "down_px": 4.0, "turn_deg": 0.5, "followed": True}}
    told.tell("report", head_version=2, failure=None, report={"origin": "recentred", "eus": units, "slip": slip})
    told.tell("ended", outcome="closed")
    expect(page.locator("#report-text")).to_contain_text("slipped by 5.0 px at the most, the crops follow it")
    expect(page.locator("#report-text")).to_contain_text("1 of 2 outputs came nearer to rest")
    expect(page.locator('.report-row[data-unit="jawOpen"]')).to_have_attribute("data-better", "true")
    expect(page.locator("#cues button")).to_have_count(0)
    page.locator("#go-back").click()
    expect(page.locator('#heads [data-version="1"]')).to_have_attribute("data-live", "true")
    assert store.profile("ada").live_version == 1
    page.locator("#again").click()
    page.locator("#profile").select_option("")
    expect(page.locator("#recentre")).to_be_disabled()  # a new profile has agreed to nothing


def test_a_profile_chosen_while_the_service_is_asked_stays_chosen(
    page: Page, kept: tuple[RunningService, Profiles]
) -> None:
    told = ToldPage(page, kept[0].http_url)
    expect(page.locator("#profile")).to_have_value("ada")
    waiting: list[Route] = []
    page.route("**/v1/profiles", lambda route: waiting.append(route))  # noqa: PLW0108 - playwright marks its handlers
    told.tell("starting", wearer="ada")
    told.tell("report", head_version=2, failure=None, report={"origin": "recentred", "eus": {}})
    told.tell("ended", outcome="closed")
    page.locator("#again").click()
    expect(page.locator("#profile")).to_be_visible()
    page.locator("#profile").select_option("")
    page.locator("#new-name").fill("grace")
    with page.expect_response("**/v1/profiles"):
        waiting[0].continue_()
    page.wait_for_timeout(200)
    expect(page.locator("#profile")).to_have_value("")
    expect(page.locator("#new-name")).to_have_value("grace")


def test_a_face_that_was_placed_unasked_is_said_to_be(page: Page, kept: tuple[RunningService, Profiles]) -> None:
    told = ToldPage(page, kept[0].http_url)
    expect(page.locator("#head")).to_have_text("version 2")
    told.status(head_version=0, slip={}, placed={})
    expect(page.locator("#head")).to_have_text("universal")
    told.status(head_version=0, slip={}, placed={"left_eye": {"right_px": 3.0, "down_px": -4.0, "turn_deg": 1.0}})
    expect(page.locator("#head")).to_have_text("universal, placed")
    expect(page.locator("#head")).to_have_attribute("title", "left_eye: crop moved by 5.0 px")


def test_what_calibration_is_worth_today_is_said_once(page: Page, kept: tuple[RunningService, Profiles]) -> None:
    ToldPage(page, kept[0].http_url)
    expect(page.locator("#worth")).to_be_visible()
    expect(page.locator("#worth")).to_contain_text("free movement by 11 to 13 %")
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
