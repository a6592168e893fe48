"""Calibrations over the wire: every wish as documented, and a real service beside its stream with the real learner."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.sync.client import ClientConnection

from calibration.profiles import Profiles
from model_export.contract import SCRIPT, Take, read_bundle
from model_export.contract.take import Encoding
from service.client import Client as HeadsetClient
from service.errors import WireError
from service.wire import (
    CalibrationTold,
    EncodedFrame,
    FrameMessage,
    encode_calibrate,
    encode_frames,
    parse_control,
    parse_text,
)
from service.wire_messages import Calibrate, GivenConsent
from tests.bundles import make_head
from tests.calibration.moving_pictures import Person
from tests.service.asyncapi_document import check
from tests.service.conftest import RunningService, StartService
from tests.service.stream_client import connected, make_message

AGREED = Calibrate("start", consent=GivenConsent("1"))


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
        assert (cue["prompt"], cue["left"]) == (SCRIPT[0].prompt, len(SCRIPT) - 1)
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
