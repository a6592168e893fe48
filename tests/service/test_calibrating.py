"""A calibration beside a stream: the driver, with a learner that records."""

import asyncio
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.profiles import Profiles
from calibration.session import SessionConfig
from calibration.worker import WorkerConfig
from model_export.contract import Camera
from model_export.contract.cues import cue_by_name
from model_export.contract.take import Encoding
from service.calibrating import Calibration, Calibrations, crops_of
from service.errors import WireError
from service.heads import Heads
from service.wearers import Wearers
from service.wire import (
    CalibrationTold,
    CameraPlacement,
    EncodedFrame,
    FrameMessage,
    encode_calibration,
)
from service.wire_messages import Calibrate, GivenConsent
from tests.bundles import make_crops, make_head
from tests.service.asyncapi_document import check
from tests.service.stream_client import make_message

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
