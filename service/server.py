"""uvicorn as this service needs it: no request stays half-open, a refused client learns why, stopping tells the clients.

Three gaps of uvicorn, each measured, are closed by overriding one protocol method or two; tests/service/test_server.py holds
them against the installed version.

1. It waits for a request's header and body for ever: 1,000 half-open connections were still open after 20 s. Here a request
   has to arrive in full within a deadline.
2. After a WebSocket message that is too long it closes the socket with bytes unread; the kernel then sends a reset, which can
   overtake the close code: of 30 clients sending 10 MB, 17 never saw the 1009. Here the rest is read and thrown away for a
   moment, and none misses it.
3. On SIGTERM it closes WebSockets with 1012 before the application can speak. Here the application goes first.
"""

# ruff: noqa: D102 - an overridden method means what uvicorn and asyncio say it means

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.settings import Settings

LINGER_S: Final = 1.0
"""How long the rest of a refused WebSocket message is read and thrown away, so that the close code arrives."""
PING_S: Final = 20.0
"""A WebSocket client that answers no ping for this long is gone."""
_LOG: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
    "loggers": {
        "mien": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        # uvicorn writes two lines for each WebSocket at INFO, and one for each client that sends nonsense.
        "uvicorn": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}


class PunctualHttpProtocol(HttpToolsProtocol):
    """HTTP whose requests have to arrive in full, header and body, within `receipt_deadline_s`."""

    receipt_deadline_s = 3.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the parent
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Blank lines before a request begin none for the parser, but stop uvicorn's keep-alive timer.
        if self.cycle is None or self.cycle.response_complete:
            self._expect_request()
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._expect_request()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._request_arrived()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._request_arrived()
        super().handle_websocket_upgrade()

    def _expect_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receipt_deadline_s, self.transport.abort)

    def _request_arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class LingeringWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket whose refused client can read the close code, and whose silent client is let go."""

    _refused = False

    def send_receive_event_to_app(self) -> None:
        # uvicorn refuses such a text too, but logs a traceback for it: a client could fill the disk.
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(1007)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        closing = self.conn.close_sent
        assert closing is not None
        self._refused = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.close_sent = True
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # close() waits until the client has read everything; this one reads nothing.
        self.loop.call_later(LINGER_S, self.transport.abort)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Server(uvicorn.Server):
    """A server that lets the application say goodbye before the sockets go, and tells its port."""

    def __init__(self, config: uvicorn.Config, say_goodbye: Callable[[], Awaitable[None]], goodbye_s: float) -> None:
        super().__init__(config)
        self._goodbye_s = goodbye_s
        self._say_goodbye = say_goodbye

    def _log_started_message(self, listeners: Any) -> None:
        host, port = listeners[0].getsockname()[:2]
        # a service that listens everywhere is reached by this machine's own name; the wildcard is refused as a Host
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
        shown = f"[{own}]" if ":" in own else own
        logging.getLogger("mien.serve").info(
            "listening url=http://%s:%d stream=ws://%s:%d/v1/stream", shown, port, shown, port
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening, lets the application tell its clients, then closes what is left."""
        for server in self.servers:
            server.close()
        await self._say_goodbye()
        # A socket that is closed before the client has answered the close code may reset, and the code is lost.
        last_s = time.monotonic() + self._goodbye_s
        while any(getattr(each, "close_sent", False) for each in self.server_state.connections):
            if time.monotonic() >= last_s:
                break
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def make_server(app: Callable[..., Any], settings: Settings, say_goodbye: Callable[[], Awaitable[None]]) -> Server:
    """A server for `app`, ready to run; `say_goodbye` is awaited once when it stops."""
    http = type("HttpProtocol", (PunctualHttpProtocol,), {"receipt_deadline_s": settings.receipt_deadline_s})
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=http,
        ws=LingeringWebSocketProtocol,
        ws_max_size=settings.max_message_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=_LOG,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    return Server(config, say_goodbye, settings.shutdown_deadline_s)
