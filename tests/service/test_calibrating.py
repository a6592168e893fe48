"""A calibration beside a stream: the driver with a learner that records, and a real service with the real one."""

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.sync.client import ClientConnection

from calibration.profiles import Profiles
from calibration.session import SessionConfig
from calibration.worker import WorkerConfig
from model_export.contract import CUES, Camera, Take, read_bundle
from model_export.contract.cues import cue_by_name
from model_export.contract.take import Encoding
from service.calibrating import Calibration, Calibrations, crops_of
from service.client import Client as HeadsetClient
from service.errors import WireError
from service.heads import Heads
from service.wearers import Wearers
from service.wire import (
    CalibrationTold,
    CameraPlacement,
    EncodedFrame,
    FrameMessage,
    encode_calibrate,
    encode_calibration,
    encode_frames,
    parse_control,
    parse_text,
)
from service.wire_messages import Calibrate, GivenConsent
from tests.bundles import make_crops, make_head
from tests.calibration.moving_pictures import Person
from tests.service.asyncapi_document import check
from tests.service.conftest import RunningService, StartService
from tests.service.stream_client import connected, make_message

DIGEST = "ab" * 32
FAST = SessionConfig(
    cues=tuple(replace(cue_by_name(name), seconds=0.4) for name in ("rest", "smile", "frown")),
    countdown_ns=50_000_000,
    attempts=2,
    new_fitting_ns=30_000_000_000,
)
AGREED = Calibrate("start", consent=GivenConsent("1"))


class Client:
    """What a client of the driver is told, and a headset that sends."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        self.read = 0

    async def tell(self, told: dict[str, Any]) -> None:
        check("calibration", json.loads(encode_calibration(CalibrationTold(told["event"], told))))
        self.told.append(told)
        self.news.set()

    def events(self) -> list[str]:
        return [told["event"] for told in self.told]

    async def until(self, event: str) -> dict[str, Any]:
        """The next such event after the one that was waited for last."""
        async with asyncio.timeout(60):
            while True:
                while self.read < len(self.told):
                    self.read += 1
                    if self.told[self.read - 1]["event"] == event:
                        return self.told[self.read - 1]
                self.news.clear()
                await self.news.wait()


async def send_frames(calibration: Calibration) -> None:
    for sequence in range(100_000):
        calibration.offer(make_message(sequence, t_ns=sequence * 20_000_000), {})
        await asyncio.sleep(0.02)


@pytest.fixture
def store(tmp_path: Path) -> Profiles:
    return Profiles(tmp_path / "profiles")


@pytest.fixture
def heads() -> Heads:
    return Heads(make_head(0, backbone_digest=DIGEST))


@pytest.fixture
def calibrations(store: Profiles, heads: Heads, tmp_path: Path) -> Calibrations:
    def command(_wearer: str, *, keeps: bool, recentres: bool) -> WorkerConfig:
        folder = str(tmp_path)
        options = ("--profiles", f"{folder}/profiles") if keeps else ()
        if recentres:
            options = (*options, "--recentre")
        return WorkerConfig((sys.executable, "-m", "tests.calibration.recording_learner", "--folder", folder, *options))

    return Calibrations(Wearers(store, heads), DIGEST, command, FAST)


@contextlib.asynccontextmanager
async def running(calibrations: Calibrations, client: Client, wish: Calibrate = AGREED) -> Any:
    calibration = await calibrations.start("ada", wish, client.tell)
    tasks = [asyncio.create_task(calibration.run()), asyncio.create_task(send_frames(calibration))]
    try:
        yield calibration
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_from_consent_to_a_live_head(calibrations: Calibrations, store: Profiles, heads: Heads) -> None:
    client = Client()
    async with running(calibrations, client) as calibration:
        report = await client.until("report")
        assert (report["head_version"], report["failure"]) == (1, None)
        assert heads.current("ada").head_version == 1, "the next frame is answered by it"
        assert list(report["report"]) == ["rest", "smile"]
        calibration.wish(Calibrate("redo", "smile"))
        assert (await client.until("report"))["head_version"] == 2
        calibration.wish(Calibrate("cancel"))
        await client.until("ended")
    refused = [told for told in client.told if told["event"] == "refused"]
    assert [told["again"] for told in refused] == [True, False]
    assert "rest here" in refused[0]["reason"]
    assert client.events()[:5] == ["starting", "cue", "recording", "judging", "accepted"]
    gauges = [told["value"] for told in client.told if told["event"] == "gauge" and told["cue"] == "smile"]
    assert gauges, "the movement rises on a gauge"
    assert all(0 < value <= 1 for value in gauges)
    profile = store.profile("ada")
    assert profile.live_version == 2
    assert profile.takes == (), "nothing is kept that was not agreed to"


async def test_re_centring_takes_a_rest_and_moves_the_head_in_use(
    calibrations: Calibrations, store: Profiles, heads: Heads
) -> None:
    store.create("ada")
    store.give_consent("ada", "1", keep_takes=False)
    store.add_head("ada", make_head(5, backbone_digest=DIGEST), live=True)
    client = Client()
    async with running(calibrations, client, Calibrate("recentre")) as calibration:
        report = await client.until("report")
        assert (report["head_version"], report["failure"]) == (2, None)
        assert heads.current("ada").head_version == 2, "the next frame is answered by it"
        assert (await client.until("ended"))["outcome"] == "closed"
        assert calibration.over
    told = [event for event in client.events() if event not in ("gauge", "paused")]
    assert told == ["starting", "cue", "recording", "judging", "accepted", "fitting", "report", "ended"]
    profile = store.profile("ada")
    assert profile.takes == ()
    assert profile.heads[1].report == {"from": 1, "origin": "recentred"}
    assert store.roll_back("ada") == 1
    await calibrations.wearers.bring("ada")
    assert heads.current("ada").head_version == 1, "and it can be undone"


async def test_re_centring_needs_consent_too(calibrations: Calibrations, store: Profiles) -> None:
    with pytest.raises(WireError) as refused:
        await calibrations.start("ada", Calibrate("recentre"), Client().tell)
    assert refused.value.code == "consent"
    assert store.wearers() == ()


async def test_takes_are_kept_where_the_wearer_chose_so(calibrations: Calibrations, store: Profiles) -> None:
    client = Client()
    wish = Calibrate("start", consent=GivenConsent("1", keep_takes=True))
    async with running(calibrations, client, wish):
        await client.until("report")
    assert [take.cue for take in store.profile("ada").takes] == ["rest", "smile"]


async def test_one_calibration_a_wearer_and_several_wearers_side_by_side(calibrations: Calibrations) -> None:
    client = Client()
    async with running(calibrations, client):
        with pytest.raises(WireError, match="once at a time") as refused:
            await calibrations.start("ada", AGREED, client.tell)
        assert refused.value.code == "conflict"
        other = await calibrations.start("bo", AGREED, client.tell)
        task = asyncio.create_task(other.run())
        task.cancel()
        await asyncio.wait([task])
    await calibrations.start("ada", AGREED, client.tell)


async def test_without_consent_nothing_begins(calibrations: Calibrations, store: Profiles) -> None:
    for _ in range(2):
        with pytest.raises(WireError) as refused:
            await calibrations.start("ada", Calibrate("start"), Client().tell)
        assert refused.value.code == "consent"
    assert store.wearers() == ()


async def test_a_head_that_cannot_be_stored_changes_nothing(
    calibrations: Calibrations, store: Profiles, heads: Heads
) -> None:
    client = Client()
    async with running(calibrations, client):
        await client.until("cue")
        store.withdraw_consent("ada")
        report = await client.until("report")
    assert report["head_version"] is None
    assert "agreed" in report["failure"]
    assert heads.current("ada").head_version == 0


async def test_a_headset_that_stops_sending_pauses_the_calibration(calibrations: Calibrations) -> None:
    client = Client()
    calibration = await calibrations.start("ada", AGREED, client.tell)
    task = asyncio.create_task(calibration.run())
    await client.until("paused")
    sending = asyncio.create_task(send_frames(calibration))
    await client.until("accepted")
    for one in (task, sending):
        one.cancel()
    await asyncio.wait([task, sending])


async def test_cancelling_the_task_leaves_no_process(calibrations: Calibrations) -> None:
    client = Client()
    async with running(calibrations, client) as calibration:
        await client.until("recording")
        pid = calibration._worker.pid
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()


def test_crops_are_upright_and_not_mirrored_whatever_the_rig_says() -> None:
    pixels_BHW = make_crops(3, 4)
    frames = tuple(
        EncodedFrame(camera, Encoding.GRAY8, 128, 128, 5, pixels_HW.tobytes())
        for camera, pixels_HW in zip(Camera, pixels_BHW, strict=True)
    )
    crops = crops_of((FrameMessage(0, frames), {}))
    assert crops is not None
    for camera in Camera:
        np.testing.assert_array_equal(crops.crops[camera], pixels_BHW[camera])
    mirrored = crops_of((FrameMessage(0, frames), {Camera.MOUTH: CameraPlacement(mirrored=True)}))
    assert mirrored is not None
    np.testing.assert_array_equal(mirrored.crops[Camera.MOUTH], pixels_BHW[Camera.MOUTH][:, ::-1])
    broken = EncodedFrame(Camera.MOUTH, Encoding.GRAY8, 128, 128, 5, pixels_BHW[0].tobytes())
    assert crops_of((FrameMessage(0, (broken,)), {Camera.MOUTH: CameraPlacement(center_px=(500, 5))})) is None


@contextmanager
def headset(client: ClientConnection) -> Iterator[list[dict[str, Any]]]:
    """Sends frame sets at 30 Hz and collects the texts of the service, each checked to be JSON."""
    over = threading.Event()
    texts: list[dict[str, Any]] = []

    def send() -> None:
        sequence = 0
        while not over.wait(1 / 30):
            client.send(encode_frames(make_message(sequence, t_ns=sequence * 33_000_000)))
            sequence += 1

    def receive() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                message = client.recv(0.1)
                if isinstance(message, str):
                    texts.append(json.loads(message))
                    check(texts[-1]["type"], texts[-1])

    threads = [threading.Thread(target=send), threading.Thread(target=receive)]
    for thread in threads:
        thread.start()
    try:
        yield texts
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait_for(texts: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    deadline_s = time.monotonic() + 90
    while time.monotonic() < deadline_s:
        for text in texts:
            if wanted.items() <= text.items():
                return text
        time.sleep(0.05)
    raise AssertionError(f"no {wanted} in {texts}")


def test_every_wish_goes_over_the_wire_as_documented() -> None:
    again = (Calibrate("recentre"), Calibrate("recentre", consent=GivenConsent("1", keep_takes=True)))
    for wish in (
        AGREED,
        Calibrate("start"),
        Calibrate("skip"),
        Calibrate("redo", "smile"),
        Calibrate("cancel"),
        *again,
    ):
        text = encode_calibrate(wish)
        check("calibrate", json.loads(text))
        assert parse_control(text) == parse_text(text) == wish


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"do": "begin"},
        {"do": "skip", "cue": "smile"},
        {"do": "redo"},
        {"do": "redo", "cue": 3},
        {"do": "start", "cue": "smile"},
        {"do": "recentre", "cue": "rest"},
        {"do": "skip", "consent": {"version": "1"}},
        {"do": "start", "consent": {}},
        {"do": "start", "consent": {"version": ""}},
        {"do": "start", "consent": {"version": "1", "keep_takes": 1}},
        {"do": "start", "consent": {"version": "1", "retention_days": 0}},
    ],
)
def test_a_wish_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError) as refused:
        parse_control(json.dumps({"type": "calibrate", **wrong}))
    assert refused.value.code == "field"


@pytest.mark.slow
def test_a_real_service_calibrates_beside_its_stream(start_service: StartService, tmp_path: Path) -> None:
    service: RunningService = start_service("--profiles", str(tmp_path / "profiles"))
    with connected(service) as client, headset(client) as texts:
        client.send('{"type": "calibrate", "do": "start"}')
        assert wait_for(texts, type="error")["code"] == "consent"
        client.send('{"type": "calibrate", "do": "skip"}')
        assert wait_for(texts, type="error", code="conflict")
        client.send('{"type": "calibrate", "do": "start", "consent": {"version": "1"}}')
        cue = wait_for(texts, event="cue", cue="rest")
        assert (cue["prompt"], cue["left"]) == (CUES[0].prompt, len(CUES) - 1)
        texts.clear()
        client.send('{"type": "configure", "wearer": "bo"}')
        assert wait_for(texts, type="error")["code"] == "conflict"
        assert wait_for(texts, event="accepted", cue="rest")
        client.send('{"type": "calibrate", "do": "redo", "cue": "grin"}')
        assert "no cue" in wait_for(texts, event="declined")["reason"]
        wait_for(texts, event="cue", cue="eyes_closed")
        refused = wait_for(texts, event="refused", cue="eyes_closed")
        assert refused["again"], "a face that does not move is asked again"
        client.send('{"type": "calibrate", "do": "cancel"}')
        assert wait_for(texts, event="ended")["outcome"] == "cancelled"
        texts.clear()
        client.send('{"type": "configure", "wearer": "bo"}')
        assert wait_for(texts, type="configured")["wearer"] == "bo"
    assert Profiles(tmp_path / "profiles").profile("default").heads == ()


@pytest.mark.slow
def test_a_headset_put_on_again_is_re_centred_while_it_streams(
    start_service: StartService, bundle_dir: Path, tmp_path: Path
) -> None:
    store = Profiles(tmp_path / "profiles")
    store.create("default")
    store.give_consent("default", "1")
    store.add_head("default", make_head(3, backbone_digest=read_bundle(bundle_dir).backbone_digest), live=True)
    service: RunningService = start_service("--profiles", str(tmp_path / "profiles"))
    take = Person().take("rest")
    with AnsweredHeadset(service.stream_url, take) as wearer:
        wearer.client.recentre()
        told = wearer.until("ended")
    reports = [one.fields for one in told if one.event == "report"]
    assert [(one["head_version"], one["failure"], one["report"]["origin"]) for one in reports] == [
        (2, None, "recentred")
    ]
    assert wearer.versions == [1, 2], "from one frame set to the next"
    counts = wearer.client.counts
    assert (counts.dropped, counts.sent) == (0, counts.answered), "without a dropped frame"
    before, after = wearer.rest_of(1), wearer.rest_of(2)
    assert after < before / 4, "the resting face reads as rest"
    record = Profiles(tmp_path / "profiles").profile("default").heads[1]
    assert (record.parent, record.report["origin"]) == (1, "recentred")
    with httpx.Client(base_url=service.http_url, trust_env=False) as http:
        assert http.post("/v1/profiles/default/roll-back").json()["serving_version"] == 1


class AnsweredHeadset:
    """A headset whose wearer rests: asks one frame set after another, and keeps which head answered what."""

    def __init__(self, url: str, take: Take) -> None:
        self.client = HeadsetClient(url)
        self.versions: list[int] = []
        self._take = take
        self._read: dict[int, list[float]] = {}
        self._sequence = 0

    def __enter__(self) -> "AnsweredHeadset":
        self.client.connect()
        self._ask()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def until(self, event: str) -> list[CalibrationTold]:
        """Streams until then, and half a second longer."""
        told: list[CalibrationTold] = []
        give_up_s = time.monotonic() + 90
        while not any(one.event == event for one in told):
            assert time.monotonic() < give_up_s, told
            self._ask()
            told += self.client.events()
        for _ in range(15):
            self._ask()
        return told

    def rest_of(self, version: int) -> float:
        """Mean of the EUs of the mouth that this head gave, of its last second: the filter has come to rest."""
        return float(np.mean(self._read[version][-15:]))

    def _ask(self) -> None:
        row = self._sequence % len(self._take)
        frames = tuple(
            EncodedFrame(camera, Encoding.GRAY8, 128, 128, time.monotonic_ns(), images[row])
            for camera, images in self._take.images.items()
        )
        reply = self.client.ask(FrameMessage(self._sequence, frames), timeout_s=20)
        self._sequence += 1
        version = reply.values.head_version
        if not self.versions or self.versions[-1] != version:
            self.versions.append(version)
        self._read.setdefault(version, []).append(float(reply.values.values_E[24:].mean()))
        time.sleep(1 / 30)
