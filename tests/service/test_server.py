"""The three gaps of uvicorn that service.server closes, against a plain ASGI application without an engine."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import websockets
from starlette.types import Receive, Scope, Send
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from service.server import Server, make_server
from service.settings import Settings

Address = tuple[str, int]


async def echo_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers HTTP with the length of the body, WebSockets with what they say."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message.get("bytes") or message["text"].encode()})


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[tuple[Server, Address]]:
    async def nothing() -> None:
        pass

    server = make_server(echo_app, settings, nothing)
    task = asyncio.create_task(server._serve())  # without signal handlers, which belong to the test runner
    while not server.started:
        assert not task.done(), task
        await asyncio.sleep(0.01)
    try:
        yield server, server.servers[0].sockets[0].getsockname()[:2]
    finally:
        server.should_exit = True
        await task


def settings_with(deadline_s: float = 0.3) -> Settings:
    return Settings(port=0, receipt_deadline_s=deadline_s, max_message_bytes=4096)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GE",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf",
        b"\r\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    ],
)
async def test_half_open_connections_are_closed(sent: bytes) -> None:
    async with served(settings_with()) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        start = time.monotonic()
        await until_closed(reader)
        assert 0.2 < time.monotonic() - start < 2
        writer.close()


async def test_a_request_that_trickles_in_is_closed() -> None:
    async with served(settings_with()) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        closing = asyncio.create_task(until_closed(reader))
        start = time.monotonic()
        while not closing.done() and time.monotonic() - start < 3:
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert 0.2 < time.monotonic() - start < 2
        writer.close()


async def test_blank_lines_do_not_keep_an_answered_connection_alive() -> None:
    async with served(settings_with()) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
        writer.write(b"\r\n")
        start = time.monotonic()
        await until_closed(reader)
        assert 0.2 < time.monotonic() - start < 2
        writer.close()


async def test_a_second_request_begun_behind_a_first_has_a_deadline_too() -> None:
    async with served(settings_with()) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nPOST / HTTP/1.1\r\nContent-Le")
        start = time.monotonic()
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 200")
        assert 0.2 < time.monotonic() - start < 2
        writer.close()


async def test_two_hundred_half_open_connections_are_closed_while_others_are_served() -> None:
    async with served(settings_with(1.0)) as (server, address):
        half_open = []
        for _ in range(200):
            one = socket.create_connection(address)
            one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            half_open.append(one)
            await asyncio.sleep(0)
        start = time.monotonic()
        for _ in range(5):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
        async with websockets.connect(f"ws://{address[0]}:{address[1]}/") as client:
            while server.server_state.connections and time.monotonic() - start < 4.5:
                await client.send(b"hello")
                assert await client.recv() == b"hello"
                await asyncio.sleep(0.01)
                if len(server.server_state.connections) == 1:
                    break
        assert len(server.server_state.connections) <= 1
        for one in half_open:
            one.close()


async def test_a_whole_request_has_no_deadline_left_to_run() -> None:
    async with served(settings_with()) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody")
            assert (await reader.readuntil(b"\r\n\r\n4")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.25)
        writer.close()


async def test_an_open_websocket_outlives_the_deadline() -> None:
    async with (
        served(settings_with(0.2)) as (_, address),
        websockets.connect(f"ws://{address[0]}:{address[1]}/") as client,
    ):
        await asyncio.sleep(0.5)
        await client.send(b"still here")
        assert await client.recv() == b"still here"


def close_code_after(url: str, data: bytes, *, text: bool = False) -> int | None:
    """What a client in a thread of its own learns, as it writes while the service closes; None when it learns nothing."""
    with connect(url, max_size=None) as client:
        try:
            client.send(data, text=text)
            client.recv()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code
    return None


@pytest.mark.parametrize("size", [4097, 300_000, 10_000_000])
async def test_a_client_whose_message_is_too_long_always_reads_1009(size: int) -> None:
    async with served(settings_with()) as (_, address):
        url = "ws://{}:{}/".format(*address)
        codes = [await asyncio.to_thread(close_code_after, url, bytes(size)) for _ in range(8)]
    assert codes == [1009] * 8


async def test_a_message_of_the_longest_length_is_taken() -> None:
    url = "ws://{}:{}/"
    async with served(settings_with()) as (_, address), websockets.connect(url.format(*address)) as client:
        await client.send(bytes(4096))
        assert await client.recv() == bytes(4096)


async def test_text_that_is_not_utf8_is_closed_with_1007_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(settings_with()) as (_, address):
        code = await asyncio.to_thread(close_code_after, "ws://{}:{}/".format(*address), b"\xff\xfe", text=True)
    assert code == 1007
    assert "Traceback" not in capsys.readouterr().err
