"""Who may talk to the service: decides by the Host and Origin headers, before a route or a WebSocket sees the request.

A web page of any origin can open a WebSocket to localhost, and a page whose name is rebound to 127.0.0.1 can send any request
there; what tells them from a headset is what a browser writes into these two headers. Programs other than browsers send no
Origin and are let in.

Three paths are asked by an orchestrator, which knows no name of the service: Kubernetes probes and Prometheus, where it finds
pods by itself, send the pod's IP as Host. The probes /livez and /readyz say one word and are answered whatever the headers say.
/metrics counts, so there a Host that is an address is answered, too, but no further name: a page of elsewhere comes here under
a name that was rebound; one that was opened under an address talks to that address.
"""

import ipaddress
import json
from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ErrorCode, RequestError

PROBES: Final = frozenset({"/livez", "/readyz"})
"""Answered whatever Host and Origin are."""
COUNTS: Final = "/metrics"
"""Answered where Host is an address, too."""
_CONTENT_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS: Final = (
    (b"content-security-policy", _CONTENT_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
"""What a browser is told with every answer: nothing from elsewhere, nothing guessed, nothing embedded."""


def check_access(
    hosts: Iterable[str],
    origins: Iterable[str],
    *,
    answered_hosts: frozenset[str],
    allowed_origins: frozenset[str],
    any_address: bool = False,
) -> None:
    """Raises RequestError unless the one Host is answered and each Origin is the service's own or an allowed one.

    `hosts` and `origins`: the values of all such headers. `answered_hosts`: lower case, without port; "*" stands for all.
    `any_address`: a Host that is an IP address is answered whichever it is.
    """
    names = list(hosts)
    if len(names) != 1:
        raise RequestError(
            403, ErrorCode.HOST, "one Host header", f"{len(names)} of them", "Send the name of this service."
        )
    host = names[0].strip().lower()
    name = _without_port(host)
    if "*" not in answered_hosts and name not in answered_hosts and not (any_address and _is_address(name)):
        raise RequestError(
            403,
            ErrorCode.HOST,
            f"a Host header with one of {', '.join(sorted(answered_hosts))}",
            repr(host[:100]),
            "Add the name to MIEN_ALLOWED_HOSTS if this service is meant to be reached by it.",
        )
    for origin in (text.strip().lower() for text in origins):
        if origin not in (f"http://{host}", f"https://{host}") and origin not in allowed_origins:
            raise RequestError(
                403,
                ErrorCode.ORIGIN,
                f"no Origin header, or http://{host}",
                repr(origin[:100]),
                "Add the page's origin to MIEN_ALLOWED_ORIGINS if it is meant to connect.",
            )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        if name.startswith("["):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


class AccessMiddleware:
    """Lets in probes and what `check_access` does; answers the rest with 403 and says why. Adds the security headers to HTTP."""

    def __init__(self, app: ASGIApp, *, answered_hosts: frozenset[str], allowed_origins: Iterable[str]) -> None:
        self._app = app
        self._answered_hosts = answered_hosts
        self._allowed_origins = frozenset(origin.lower() for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or one WebSocket connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http":
            send = _with_security_headers(send)
            if scope["path"] in PROBES:
                await self._app(scope, receive, send)
                return
        try:
            check_access(
                _values(scope, b"host"),
                _values(scope, b"origin"),
                answered_hosts=self._answered_hosts,
                allowed_origins=self._allowed_origins,
                any_address=scope["type"] == "http" and scope["path"] == COUNTS,
            )
        except RequestError as error:
            await refuse(scope, receive, send, error)
            return
        await self._app(scope, receive, send)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _with_security_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_SECURITY_HEADERS]
        await send(message)

    return send_with_headers


async def refuse(scope: Scope, receive: Receive, send: Send, error: RequestError) -> None:
    """Answers a request, or a WebSocket before it is accepted, with `{"error": ...}` and nothing else."""
    body = json.dumps({"error": error.as_dict()}).encode()
    kind = "http"
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.response.start", "status": error.status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body})
