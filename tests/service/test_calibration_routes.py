"""A page calibrates the wearer of a connected headset: routes, what the headset and the watchers are told, what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from service.calibration_log import MOST_TOLD, CalibrationLog
from service.watch import SUBPROTOCOL
from tests.service.asyncapi_document import check
from tests.service.conftest import RunningService, StartService
from tests.service.stream_client import connected
from tests.service.test_calibrating_service import headset, wait_for


@pytest.fixture
def served(start_service: StartService, tmp_path: Path) -> RunningService:
    return start_service("--profiles", str(tmp_path / "profiles"))


@pytest.fixture
def http(served: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{served.http_url}/v1/calibration/1", timeout=30, trust_env=False) as client:
        yield client


def watch(service: RunningService) -> ClientConnection:
    url = f"ws://{service.host}:{service.port}/v1/watch"
    return connect(url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None)


def told_until(watcher: ClientConnection, event: str) -> list[dict[str, Any]]:
    """The calibration messages up to this event, each checked against both schemas."""
    told: list[dict[str, Any]] = []
    while not told or told[-1]["event"] != event:
        message = watcher.recv(90)
        if isinstance(message, str) and (fields := json.loads(message))["type"] == "calibration":
            check("watchCalibration", fields)
            check(
                "calibration", {name: value for name, value in fields.items() if name not in {"connection", "ago_ms"}}
            )
            told.append(fields)
    return told


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_page_starts_and_ends_what_the_headset_and_every_watcher_are_told(
    served: RunningService, http: httpx.Client
) -> None:
    with connected(served) as client, headset(client) as texts, watch(served) as watcher:
        assert refused(http.post("/skip")) == (409, "conflict")
        assert refused(http.post("/start")) == (409, "consent")
        started = http.post("/start", params={"wearer": "ada", "version": "1"})
        assert (started.status_code, started.json()) == (200, {"connection": 1, "wearer": "ada"})
        assert wait_for(texts, type="configured")["wearer"] == "ada", "the headset knows who wears it"
        assert refused(http.post("/start", params={"wearer": "ada"})) == (409, "conflict")
        assert refused(http.post("/start", params={"wearer": "bo"})) == (409, "conflict")
        assert [told["event"] for told in told_until(watcher, "recording")] == ["starting", "cue", "recording"]
        wait_for(texts, event="cue", cue="rest")
        with watch(served) as late:
            told = told_until(late, "recording")
        assert [fields["event"] for fields in told] == ["starting", "cue", "recording"], (
            "who comes late is told from the start"
        )
        assert told[0]["ago_ms"] >= told[-1]["ago_ms"]
        assert http.post("/skip").status_code == 200
        assert http.post("/redo", params={"cue": "rest"}).status_code == 200
        assert told_until(watcher, "declined")[-1]["wish"] == "skip"
        assert http.post("/cancel").status_code == 200
        assert told_until(watcher, "ended")[-1]["outcome"] == "cancelled"
        assert wait_for(texts, event="ended")


def test_a_page_re_centres_a_headset_that_was_put_on_again(served: RunningService, http: httpx.Client) -> None:
    with connected(served) as client, headset(client) as texts, watch(served) as watcher:
        assert refused(http.post("/recentre")) == (409, "consent")
        started = http.post("/recentre", params={"wearer": "ada", "version": "1"})
        assert (started.status_code, started.json()) == (200, {"connection": 1, "wearer": "ada"})
        assert wait_for(texts, type="configured")["wearer"] == "ada"
        for what in ("/recentre", "/start"):
            assert refused(http.post(what)) == (409, "conflict")
        (cue,) = (told for told in told_until(watcher, "recording") if told["event"] == "cue")
        assert (cue["cue"], cue["left"]) == ("rest", 0)
        assert http.post("/redo", params={"cue": "smile"}).status_code == 200
        assert told_until(watcher, "declined")[-1]["wish"] == "redo"
        assert http.post("/cancel").status_code == 200
        assert told_until(watcher, "ended")[-1]["outcome"] == "cancelled"
        assert http.post("/recentre").status_code == 200, "the consent is on record"


def test_what_cannot_be_is_refused(served: RunningService, http: httpx.Client) -> None:
    assert refused(http.post("/start", params={"version": "1"})) == (404, "not_found")
    with connected(served):
        for path, parameters in (
            ("/start", {"wearer": "../ada", "version": "1"}),
            ("/start", {"version": ""}),
            ("/start", {"version": "1", "keep_takes": "perhaps"}),
            ("/start", {"version": "1", "retention_days": "0"}),
            ("/recentre", {"wearer": "../ada", "version": "1"}),
            ("/recentre", {"retention_days": "0"}),
            ("/redo", {}),
        ):
            assert refused(http.post(path, params=parameters)) == (422, "field")
        assert refused(http.get("/start")) == (405, "method")
        elsewhere = http.post("/start", params={"version": "1"}, headers={"origin": "http://elsewhere.example"})
        assert refused(elsewhere) == (403, "origin")


def test_without_profiles_nobody_is_calibrated(service: RunningService) -> None:
    with connected(service), httpx.Client(base_url=service.http_url, trust_env=False) as client:
        with watch(service) as watcher:
            status: dict[str, Any] = {"connections": []}
            while not status["connections"]:
                message = watcher.recv(10)
                status = json.loads(message) if isinstance(message, str) and '"status"' in message else status
        number = status["connections"][-1]["id"]
        answer = client.post(f"/v1/calibration/{number}/start", params={"version": "1"})
        assert refused(answer) == (409, "conflict")


def test_the_log_keeps_the_newest_calibration_and_one_gauge() -> None:
    log = CalibrationLog()
    assert log.since(0) == []
    for event in ("starting", "cue", "gauge", "gauge", "judging"):
        log.add({"event": event})
    told = log.since(0)
    assert [one.fields["event"] for one in told] == ["starting", "cue", "gauge", "judging"]
    assert [one.fields["event"] for one in log.since(told[1].number)] == ["gauge", "judging"]
    assert log.since(told[-1].number) == []
    log.add({"event": "starting"})
    assert [one.number for one in log.since(0)] == [told[-1].number + 1]
    for _ in range(2 * MOST_TOLD):
        log.add({"event": "cue"})
    assert len(log.since(0)) == MOST_TOLD
