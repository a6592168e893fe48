"""One frame set over HTTP: POST /v1/expressions, for clients that need values now and then.

A stream of frames belongs on the WebSocket: it is twice as fast, filters over time and tells of drops.
"""

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from model_export.contract.frames import FrameSet
from service.client.images import encode_frame_set
from service.errors import UnreachableError, WireError
from service.wire import FrameMessage, Reply, decode_reply_json, encode_frames_json


def post_expressions(
    url: str,
    frame_set: FrameSet | FrameMessage,
    wearer: str | None = None,
    *,
    jpeg_quality: int | None = None,
    timeout_s: float = 5.0,
) -> Reply:
    """The reply to one frame set of a service at `url`, such as http://127.0.0.1:8000.

    Raises WireError when the frame set is refused, UnreachableError when nobody answers.
    """
    message = encode_frame_set(frame_set, jpeg_quality) if isinstance(frame_set, FrameSet) else frame_set
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnreachableError("The URL should look like http://127.0.0.1:8000.", ascii(url), "Give another URL.")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    query = "" if wearer is None else f"?wearer={quote(wearer, safe='')}"
    try:
        connection.request(
            "POST",
            f"{parts.path.rstrip('/')}/v1/expressions{query}",
            encode_frames_json(message),
            {"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except (OSError, HTTPException) as error:
        raise UnreachableError(
            f"A mien service should answer at {url}.", f"{type(error).__name__}: {error}", "Start it with `mien serve`."
        ) from None
    finally:
        connection.close()
    if status == 200:
        return decode_reply_json(body.decode("utf-8", "replace"))
    raise _refusal(status, body)


def _refusal(status: int, body: bytes) -> WireError:
    told: Any
    try:
        told = json.loads(body)["error"]
        code, expected, found, remedy = (str(told[name]) for name in ("code", "expected", "found", "remedy"))
    except (ValueError, KeyError, TypeError):
        shown = ascii(body[:200].decode("utf-8", "replace"))
        return WireError("http", "The service should answer with status 200.", f"{status} {shown}", "See GET /readyz.")
    return WireError(code, expected, found, remedy)
