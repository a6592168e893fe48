"""Calibrating through the Python clients: wishes out, events in, beside the frame sets and their answers."""

import asyncio

import pytest

from service.client import AsyncClient, Client, GivenConsent
from service.errors import UnansweredError, WireError
from service.wire import Calibrate, Reply
from tests.service.recording_service import RecordingService, recording
from tests.service.test_client import _frame_set

AGREED = GivenConsent("1")


async def test_the_async_client_starts_wishes_and_is_told() -> None:
    with recording(RecordingService()) as service:
        async with AsyncClient(service.url) as client:
            await client.calibrate(consent=AGREED)
            assert (await client.next_event(5)).event == "starting"
            reply = await client.receive(5)
            assert isinstance(reply, Reply), "an answer in between is kept"
            waiting = asyncio.create_task(client.next_event(5))
            await client.calibrate("redo", cue="smile")
            await client.calibrate("cancel")
            told = await waiting
            assert (told.event, told.fields["outcome"]) == ("ended", "cancelled")
            with pytest.raises(UnansweredError, match="no calibration that runs"):
                await client.next_event()
    assert service.wishes == [Calibrate("start", consent=AGREED), Calibrate("redo", "smile"), Calibrate("cancel")]


async def test_a_refused_start_is_an_error_and_frame_sets_go_on() -> None:
    with recording(RecordingService()) as service:
        async with AsyncClient(service.url) as client:
            with pytest.raises(WireError) as refused:
                await client.calibrate()
            assert refused.value.code == "consent"
            assert (await client.ask(_frame_set(2))).values.sequence == 2
            with pytest.raises(UnansweredError):
                await client.next_event()


async def test_the_async_client_re_centres() -> None:
    with recording(RecordingService()) as service:
        async with AsyncClient(service.url) as client:
            with pytest.raises(WireError):
                await client.recentre()
            await client.recentre(consent=AGREED)
            assert (await client.next_event(5)).event == "starting"
    assert service.wishes == [Calibrate("recentre"), Calibrate("recentre", consent=AGREED)]


def test_the_sync_client_re_centres() -> None:
    with recording(RecordingService()) as service, Client(service.url) as client:
        with pytest.raises(WireError):
            client.recentre()
        client.recentre(consent=AGREED)
        assert client.calibrating
    assert service.wishes == [Calibrate("recentre"), Calibrate("recentre", consent=AGREED)]


async def test_of_a_gauge_the_newest_value_is_kept() -> None:
    with recording(RecordingService()) as service:
        async with AsyncClient(service.url) as client:
            await client.calibrate(consent=AGREED)
            await client.calibrate("skip")
            await client.ask(_frame_set(3))  # its answer comes after them
            assert [(await client.next_event()).event for _ in range(2)] == ["starting", "gauge"]
            with pytest.raises(UnansweredError, match="after 0.05 s"):
                await client.next_event(0.05)
            await client.calibrate("skip")
            assert (await client.next_event(5)).event == "gauge"


async def test_a_lost_connection_ends_the_wait_for_events() -> None:
    with recording(RecordingService()) as service:
        async with AsyncClient(service.url, reconnect=False) as client:
            await client.calibrate(consent=AGREED)
            await client.next_event()
            waiting = asyncio.create_task(client.next_event())
            await asyncio.sleep(0)
            await client._socket.close()  # type: ignore[union-attr]
            with pytest.raises(UnansweredError):
                await waiting


def test_the_sync_client_reads_events_along_with_answers() -> None:
    with recording(RecordingService()) as service, Client(service.url) as client:
        with pytest.raises(WireError):
            client.calibrate()
        states = [client.calibrating]
        client.calibrate(consent=AGREED)
        states.append(client.calibrating)
        assert [told.event for told in client.events()] == ["starting"]
        assert isinstance(client.receive(5), Reply), "an answer in between is kept"
        client.calibrate("skip")
        assert client.ask(_frame_set(4)).values.sequence == 4
        (gauge,) = client.events()
        assert (gauge.event, gauge.fields["value"]) == ("gauge", 0.7)
        client.calibrate("cancel")
        client.ask(_frame_set(5))
        assert [told.event for told in client.events()] == ["ended"]
        assert [*states, client.calibrating] == [False, True, False]
