"""The watch WebSocket on a real server: what is sent, who is refused, and what a watcher that does not read costs."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

import service.watch as watch_module
from model_export.contract import EU_NAMES
from service.access import AccessMiddleware
from service.watch import MAX_WATCHERS, SUBPROTOCOL, watch_routes
from tests.service.test_watch import RecordedConnection


@dataclass
class RecordedEngine:
    connections: list[RecordedConnection] = field(default_factory=list)


@dataclass
class Served:
    engine: RecordedEngine
    port: int

    async def watch(self, query: str = "", subprotocol: str = SUBPROTOCOL) -> ClientConnection:
        return await connect(
            f"ws://127.0.0.1:{self.port}/v1/watch{query}",
            subprotocols=[Subprotocol(subprotocol)],
            compression=None,
            ping_interval=None,
        )


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    engine = RecordedEngine()
    app = AccessMiddleware(
        Starlette(routes=watch_routes(engine, "test", "ab" * 32)),
        answered_hosts=frozenset(["127.0.0.1"]),
        allowed_origins=(),
    )
    config = uvicorn.Config(app, port=0, ws="websockets-sansio", ws_per_message_deflate=False, log_config=None)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield Served(engine, listener.getsockname()[1])
    server.should_exit = True
    await task
    listener.close()


async def _next_status(websocket: ClientConnection) -> dict[str, object]:
    async for message in websocket:
        if isinstance(message, str) and json.loads(message)["type"] == "status":
            status: dict[str, object] = json.loads(message)
            return status
    raise AssertionError("the watch socket closed without a status")


async def _gets_bytes_within(websocket: ClientConnection, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while isinstance(await websocket.recv(), str):
                pass
    except TimeoutError:
        return False
    return True


async def test_hello_comes_first_and_an_empty_service_watches_nothing(served: Served) -> None:
    async with await served.watch() as websocket:
        hello = json.loads(await websocket.recv())
        assert (hello["type"], hello["protocol"], hello["eu_names"]) == ("hello", 1, list(EU_NAMES))
        assert hello["bundle"] == {"name": "test", "digest": "ab" * 32}
        assert json.loads(await websocket.recv()) == {"type": "status", "watching": None, "connections": []}


async def test_each_new_answer_is_sent_once(served: Served) -> None:
    connection = RecordedConnection(7)
    served.engine.connections.append(connection)
    async with await served.watch() as websocket:
        sequences = []
        for sequence in (5, 6, 9):
            connection.answer(sequence)
            message: str | bytes = ""
            while isinstance(message, str):
                message = await websocket.recv()
            sequences.append(int.from_bytes(message[24:28], "little"))
            assert int.from_bytes(message[8:12], "little") == 7
        assert sequences == [5, 6, 9]
        assert not await _gets_bytes_within(websocket, 0.2)


async def test_a_chosen_headset_is_shown_and_its_leaving_is_told(served: Served) -> None:
    served.engine.connections += [RecordedConnection(1), RecordedConnection(2)]
    for connection in served.engine.connections:
        connection.answer(1)
    async with await served.watch("?connection=1") as websocket:
        assert (await _next_status(websocket))["watching"] == 1
        del served.engine.connections[0]
        assert (await _next_status(websocket))["watching"] is None


@pytest.mark.parametrize(
    ("query", "subprotocol", "code"),
    [
        ("", "mien.v1.bin", "subprotocol"),
        ("?connection=first", SUBPROTOCOL, "field"),
        ("?connection=-1", SUBPROTOCOL, "field"),
    ],
)
async def test_a_wrong_handshake_is_refused_by_name(served: Served, query: str, subprotocol: str, code: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await served.watch(query, subprotocol)
    assert refused.value.response.status_code == 400
    assert json.loads(refused.value.response.body)["error"]["code"] == code


async def test_one_page_too_many_is_told_so(served: Served) -> None:
    pages = [await served.watch() for _ in range(MAX_WATCHERS)]
    for page in pages:
        await page.recv()
    async with await served.watch() as refused:
        with pytest.raises(ConnectionClosed):
            await refused.recv()
        assert refused.close_code == 1013
    await pages.pop().close()
    async with asyncio.timeout(2):
        while True:
            async with await served.watch() as websocket:
                try:
                    assert json.loads(await websocket.recv())["type"] == "hello"
                    break
                except ConnectionClosed:
                    await asyncio.sleep(0.02)
    for page in pages:
        await page.close()


async def test_what_a_watcher_says_is_thrown_away(served: Served) -> None:
    async with await served.watch() as websocket:
        await websocket.send(b"MIEN")
        await websocket.send('{"type": "configure", "wearer": "other"}')
        assert json.loads(await websocket.recv())["type"] == "hello"
        assert (await _next_status(websocket))["watching"] is None


async def test_a_watcher_that_does_not_read_is_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "SEND_DEADLINE_S", 0.2)
    monkeypatch.setattr(watch_module, "RATE_HZ", 1000)
    encoded = 0

    def encode_large(number: int, frames: object, reply: object) -> bytes:
        nonlocal encoded
        del number, frames, reply
        encoded += 1
        return bytes(1 << 20)

    monkeypatch.setattr(watch_module, "encode_watch", encode_large)
    connection = RecordedConnection(1)
    served.engine.connections.append(connection)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(
        b"GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: mien.watch.v1\r\n\r\n"
    )
    assert b"101" in await reader.readline()
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
    for sequence in range(400):
        connection.answer(sequence)
        await asyncio.sleep(0.005)
    stopped_at = encoded
    assert stopped_at < 20, "messages piled up for a watcher that does not read"
    connection.answer(1000)
    await asyncio.sleep(0.1)
    assert encoded == stopped_at
    writer.close()
