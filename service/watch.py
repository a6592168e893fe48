"""The live page and its WebSocket, /v1/watch: camera pictures and values of one headset, read-only, at most 30 times a second.

A watcher takes what the engine has answered last (one reference) and never asks it for anything. It is sent one message at a
time: while one has not been taken, the answers in between are skipped, so a watcher that does not read costs one message, and
after SEND_DEADLINE_S its connection. Raw frames become JPEG in a thread of their own; a client's JPEG is passed on as it came.

Subprotocol mien.watch.v1; docs/watch.md has the byte table. Texts: "hello" once, "status" once a second, "calibration" for
each event of the calibration of the headset that is shown. Binary, little-endian:
    header 16     magic b"MIEN", u8 version = 1, u8 kind = 3, u8 picture count 0 to 3, u8 reserved, u32 connection, u32 reserved
    reply 336     as in wire.py
    pictures      16 each: u8 camera, u8 encoding = 1 (jpeg), u16 width, u16 height, u16 reserved, u32 bytes, u32 reserved;
                  then the JPEGs, in order
Versions (the subprotocol's name and the byte after MIEN)
    1   as above

Axes: H height, W width.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from struct import Struct
from typing import Any, Final, Protocol

import cv2
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from model_export.contract.expression_units import EU_NAMES, EU_SET_VERSION
from model_export.contract.frames import Camera
from model_export.contract.slip import Slip
from model_export.contract.take import Encoding
from service.access import refuse
from service.calibration_log import CalibrationLog, Told
from service.errors import ErrorCode, RequestError
from service.wire import MAGIC, EncodedFrame, FrameMessage, Reply, encode_reply

SUBPROTOCOL: Final = "mien.watch.v1"
WATCH_VERSION: Final = 1
KIND_WATCH: Final = 3
WATCH_HEADER: Final = Struct("<4sBBBBII")
PICTURE: Final = Struct("<BBHHHII")

RATE_HZ: Final = 30
STATUS_S: Final = 1.0
ACTIVE_S: Final = 2.0
"""A headset without an answer for this long is shown as silent."""
HISTORY_S: Final = 10.0
"""Latency percentiles and rates are over this time."""
SEND_DEADLINE_S: Final = 5.0
"""A watcher that has not taken a message for this long is let go."""
MAX_WATCHERS: Final = 8
"""Each costs 1 to 2 % of a core with raw frames."""
MAX_PICTURE_PX: Final = 320
"""Larger raw frames are scaled down: a picture on the page is about this wide."""
JPEG_QUALITY: Final = 80

_MEDIA_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class WatchedConnection(Protocol):
    """What a watcher reads of a connection of service.engine, each with one look-up."""

    @property
    def number(self) -> int:
        """Counts the connections of this service from 1."""

    @property
    def wearer(self) -> str:
        """Whose head answers."""

    @property
    def drops(self) -> int:
        """Frame sets that a newer one replaced."""

    @property
    def slips(self) -> Mapping[Camera, Slip]:
        """How far it seems to have slipped."""

    @property
    def places(self) -> Mapping[Camera, Slip]:
        """How far its crops follow a face that nobody calibrated."""

    @property
    def answered(self) -> tuple[FrameMessage, Reply] | None:
        """The newest answered frame set."""


class WatchedEngine(Protocol):
    """What a watcher reads of the engine."""

    @property
    def connections(self) -> Sequence[WatchedConnection]:
        """The connections open now."""


LogOf = Callable[[int], CalibrationLog | None]
"""Number of a connection -> what its calibration has told."""


def encode_watch(number: int, frames: FrameMessage, reply: Reply) -> bytes:
    """One binary message of /v1/watch. Raw frames of 128x128 cost 0.1 ms each to encode, a client's JPEG nothing."""
    pictures = [(frame.camera, *_as_jpeg(frame)) for frame in frames.frames]
    return b"".join(
        (
            WATCH_HEADER.pack(MAGIC, WATCH_VERSION, KIND_WATCH, len(pictures), 0, number, 0),
            encode_reply(reply),
            *(PICTURE.pack(camera, 1, width, height, 0, len(jpeg), 0) for camera, width, height, jpeg in pictures),
            *(jpeg for _, _, _, jpeg in pictures),
        )
    )


def _rounded(slip: Slip) -> dict[str, float]:
    return {name: round(getattr(slip, name), 1) for name in ("right_px", "down_px", "turn_deg")}


def _as_jpeg(frame: EncodedFrame) -> tuple[int, int, bytes | memoryview]:
    width, height = frame.width, frame.height
    if frame.encoding is Encoding.JPEG:
        return width, height, frame.payload
    pixels_HW = np.frombuffer(frame.payload, np.uint8).reshape(height, width)
    if max(width, height) > MAX_PICTURE_PX:
        scale = MAX_PICTURE_PX / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        pixels_HW = np.asarray(cv2.resize(pixels_HW, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    encoded, jpeg = cv2.imencode(".jpg", pixels_HW, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    assert encoded, "grey images of 1 to 4096 px a side always encode"
    return width, height, jpeg.tobytes()


@dataclass(slots=True)
class _Samples:
    """What was seen of one connection in the last HISTORY_S, one sample a look at most."""

    newest: Reply | None = None
    seen_s: float = -ACTIVE_S
    """When the newest answer was first seen."""
    looks: deque[tuple[float, int, int, int]] = field(default_factory=deque)
    """Time in seconds, sequence, drops, microseconds in the service."""


class Observations:
    """Rate and latency of each connection, from looking at its newest answer now and then; pure but for what it remembers."""

    def __init__(self) -> None:
        self._samples: dict[int, _Samples] = {}

    def look(self, connections: Iterable[WatchedConnection], now_s: float) -> None:
        """Remembers answers that are new since the last look, and forgets connections that are gone."""
        open_now = {connection.number: connection for connection in connections}
        for number in self._samples.keys() - open_now.keys():
            del self._samples[number]
        for number, connection in open_now.items():
            samples = self._samples.setdefault(number, _Samples())
            answered = connection.answered
            if answered is not None and answered[1] is not samples.newest:
                reply = answered[1]
                samples.newest, samples.seen_s = reply, now_s
                samples.looks.append((now_s, reply.values.sequence, reply.drops, reply.stages.service_us))
            while samples.looks and now_s - samples.looks[0][0] > HISTORY_S:
                samples.looks.popleft()

    def newest_active(self, now_s: float) -> int | None:
        """The connection opened last among those that were answered lately."""
        active = [number for number, samples in self._samples.items() if now_s - samples.seen_s < ACTIVE_S]
        return max(active, default=max(self._samples, default=None))

    def status(self, connections: Iterable[WatchedConnection], now_s: float) -> list[dict[str, Any]]:
        """What the status message says of each connection."""
        return [
            self._status_of(connection, samples, now_s)
            for connection in connections
            if (samples := self._samples.get(connection.number)) is not None
        ]

    @staticmethod
    def _status_of(connection: WatchedConnection, samples: _Samples, now_s: float) -> dict[str, Any]:
        active = now_s - samples.seen_s < ACTIVE_S
        rate_hz, p50_ms, p99_ms = 0.0, None, None
        recent = [look for look in samples.looks if now_s - look[0] <= ACTIVE_S]
        if active and len(recent) > 1 and recent[-1][0] > recent[0][0]:
            # A client counts its frame sets one by one, so what was answered is what was counted less what was dropped.
            answered = (recent[-1][1] - recent[0][1]) % 2**32 - (recent[-1][2] - recent[0][2])
            rate_hz = max(0, answered) / (recent[-1][0] - recent[0][0])
        if samples.looks:
            times_ms = np.array([look[3] for look in samples.looks]) / 1000
            p50_ms, p99_ms = (round(float(np.percentile(times_ms, share)), 3) for share in (50, 99))
        newest = samples.newest
        return {
            "id": connection.number,
            "wearer": connection.wearer,
            "active": active,
            "rate_hz": round(rate_hz, 1),
            "drops": connection.drops,
            "latency_ms": {"p50": p50_ms, "p99": p99_ms},
            "head_version": None if newest is None else newest.values.head_version,
            "slip": {camera.label: _rounded(slip) for camera, slip in connection.slips.items()},
            "placed": {camera.label: _rounded(slip) for camera, slip in connection.places.items()},
        }


class Watchers:
    """The watchers of one service; an ASGI application, called once for each WebSocket on its event loop."""

    def __init__(
        self, engine: WatchedEngine, bundle_name: str, bundle_digest: str, log_of: LogOf = lambda _number: None
    ) -> None:
        self._engine = engine
        self._log_of = log_of
        self._hello = json.dumps(
            {
                "type": "hello",
                "protocol": WATCH_VERSION,
                "eu_set": EU_SET_VERSION,
                "eu_names": EU_NAMES,
                "bundle": {"name": bundle_name, "digest": bundle_digest},
                "rate_hz": RATE_HZ,
            }
        )
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One watcher, from handshake to close."""
        websocket = WebSocket(scope, receive, send)
        chosen = websocket.query_params.get("connection")
        error: RequestError | None = None
        if SUBPROTOCOL not in websocket.scope["subprotocols"]:
            offered = ", ".join(websocket.scope["subprotocols"])[:100] or "none"
            remedy = "Name it in the handshake (Sec-WebSocket-Protocol)."
            error = RequestError(400, ErrorCode.SUBPROTOCOL, f"the subprotocol {SUBPROTOCOL}", offered, remedy)
        elif chosen is not None and not (chosen.isascii() and chosen.isdecimal() and len(chosen) < 12):
            remedy = "Take a number from the status message, or leave it out."
            error = RequestError(400, ErrorCode.FIELD, "`connection` to be a number", repr(chosen[:40]), remedy)
        if error is not None:
            await refuse(scope, receive, send, error)
            return
        await websocket.accept(SUBPROTOCOL)
        # A browser cannot read the body of a refused handshake, but it sees a close code: full is told after accepting.
        if self._count >= MAX_WATCHERS:
            await websocket.close(1013, f"{MAX_WATCHERS} pages are open already.")
            return
        self._count += 1
        leaving = asyncio.create_task(_until_left(websocket))
        try:
            await self._show(websocket, None if chosen is None else int(chosen), leaving)
        except (WebSocketDisconnect, OSError):
            pass  # it left while something was being sent to it
        except TimeoutError:
            await _let_go(websocket)
        finally:
            self._count -= 1
            leaving.cancel()

    async def _show(self, websocket: WebSocket, chosen: int | None, leaving: asyncio.Task[None]) -> None:
        deadline = partial(asyncio.timeout, SEND_DEADLINE_S)
        observations = Observations()
        shown: Reply | None = None
        shown_number: int | None = None
        next_status_s = 0.0
        told_number = 0
        async with deadline():
            await websocket.send_text(self._hello)
        while not leaving.done():
            now_s = time.monotonic()
            connections = {connection.number: connection for connection in self._engine.connections}
            observations.look(connections.values(), now_s)
            number = chosen if chosen in connections else observations.newest_active(now_s) if chosen is None else None
            if now_s >= next_status_s or number != shown_number:
                told_number = told_number if number == shown_number else 0
                next_status_s, shown_number = now_s + STATUS_S, number
                states = observations.status(connections.values(), now_s)
                async with deadline():
                    await websocket.send_text(json.dumps({"type": "status", "watching": number, "connections": states}))
            log = None if number is None else self._log_of(number)
            for told in () if log is None else log.since(told_number):
                told_number = told.number
                async with deadline():
                    await websocket.send_text(_told_text(number, told))
            answered = connections[number].answered if number is not None else None
            if number is not None and answered is not None and answered[1] is not shown:
                frames, shown = answered
                message = await asyncio.to_thread(encode_watch, number, frames, shown)
                async with deadline():
                    await websocket.send_bytes(message)
            await asyncio.sleep(max(0.0, now_s + 1 / RATE_HZ - time.monotonic()))


def _told_text(number: int | None, told: Told) -> str:
    ago_ms = (time.monotonic_ns() - told.t_ns) // 1_000_000
    return json.dumps({"type": "calibration", "connection": number, "ago_ms": ago_ms, **told.fields})


async def _until_left(websocket: WebSocket) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        # A watcher has nothing to say; what it says is thrown away, and bounded by the server's message limit.


async def _let_go(websocket: WebSocket) -> None:
    try:
        async with asyncio.timeout(0.1):
            await websocket.close(1008, "Messages were not read.")
    except (TimeoutError, WebSocketDisconnect, OSError):
        pass  # it still does not read; the server's ping finds it gone and drops the socket


def watch_routes(
    engine: WatchedEngine, bundle_name: str, bundle_digest: str, log_of: LogOf = lambda _number: None
) -> list[BaseRoute]:
    """The page at /, its files under /page/, and /v1/watch. The files are read once, here."""
    folder = files("service").joinpath("page")
    contents = {item.name: item.read_bytes() for item in folder.iterdir() if item.is_file()}

    async def page_file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        media_type = _MEDIA_TYPES.get(name[name.rfind(".") :])
        if name not in contents or media_type is None:
            found = ascii(name)[:100]
            raise RequestError(404, ErrorCode.NOT_FOUND, "a file of the live page", found, "Open / instead.")
        return Response(contents[name], media_type=media_type, headers={"cache-control": "no-cache"})

    watchers = Watchers(engine, bundle_name, bundle_digest, log_of)
    return [
        Route("/", page_file, methods=["GET"], name="page", include_in_schema=False),
        Route("/page/{name}", page_file, methods=["GET"], name="page_file", include_in_schema=False),
        WebSocketRoute("/v1/watch", watchers, name="watch"),
    ]
