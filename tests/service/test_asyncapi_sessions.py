"""Every message of real sessions, in both directions, against docs/asyncapi.yaml."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from service.watch import SUBPROTOCOL as WATCH
from service.wire import REPLY_BYTES, decode_frames, encode_frames, encode_frames_json
from tests.service.asyncapi_document import (
    CALIBRATION,
    CHANNEL_OF,
    DOCUMENT,
    MESSAGES,
    WATCH_CALIBRATION,
    check,
)
from tests.service.conftest import RunningService
from tests.service.stream_client import BINARY, JSON, make_message


@dataclass
class Session:
    """A connection whose every message is held against the document, in both directions."""

    client: ClientConnection
    channel: str
    seen: set[str] = field(default_factory=set)
    """Names of the messages that came or went."""
    text: Any = None
    """The newest text message."""

    def send(self, message: str | bytes) -> None:
        """Sends a message that the document knows."""
        self._check(message, {"frames": "frames", "configure": "configure"}, "framesBinary")
        self.client.send(message)

    def receive(self) -> str:
        """The name of the next message of the service."""
        names = {
            "hello": "hello",
            "configured": "configured",
            "error": "error",
            "closing": "closing",
            "values": "values",
        }
        if self.channel == "watch":
            names = {"hello": "watchHello", "status": "watchStatus"}
        binary = "watchPictures" if self.channel == "watch" else "valuesBinary"
        return self._check(self.client.recv(10), names, binary)

    def _check(self, message: str | bytes, names: dict[str, str], binary: str) -> str:
        if isinstance(message, str):
            self.text = json.loads(message)
            name = names[self.text["type"]]
            check(name, self.text)
        else:
            name = binary
            limits = MESSAGES[name]["payload"]
            assert limits["minLength"] <= len(message) <= limits.get("maxLength", len(message))
        assert name in DOCUMENT["channels"][self.channel]["messages"], f"{name} is no message of {self.channel}"
        self.seen.add(name)
        return name


@contextmanager
def session(service: RunningService, subprotocol: str, path: str = "/v1/stream") -> Iterator[Session]:
    url = service.stream_url.replace("/v1/stream", path)
    with connect(url, subprotocols=[subprotocol], compression=None) as client:  # type: ignore[list-item]
        yield Session(client, CHANNEL_OF[subprotocol])


CONFIGURE = json.dumps(
    {
        "type": "configure",
        "wearer": "ada",
        "rig": {
            "cameras": {
                "left_eye": {"center_px": [60.0, 70], "side_px": 100, "rotation_deg": -12.5, "rate_hz": 90},
                "mouth": {"mirrored": True},
            }
        },
    }
)


def test_every_message_of_a_binary_session_is_as_documented(service: RunningService) -> None:
    with session(service, BINARY) as headset:
        assert headset.receive() == "hello"
        headset.send(CONFIGURE)
        assert headset.receive() == "configured"
        for sequence, jpeg in ((0, False), (1, True)):
            headset.send(encode_frames(make_message(sequence, jpeg=jpeg)))
            assert headset.receive() == "valuesBinary"
        headset.client.send(encode_frames(make_message(2))[:-1])
        assert headset.receive() == "error"
        headset.client.send(b"junk")  # no sequence can be told
        assert headset.receive() == "error"
        headset.client.send("not JSON")
        assert [headset.receive(), headset.receive()] == ["error", "closing"]
        with pytest.raises(ConnectionClosed):
            headset.client.recv(10)
    assert headset.seen | CALIBRATION == set(DOCUMENT["channels"]["streamBinary"]["messages"])


def test_every_message_of_a_json_session_is_as_documented(service: RunningService) -> None:
    with session(service, JSON) as headset:
        assert headset.receive() == "hello"
        headset.send(CONFIGURE)
        assert headset.receive() == "configured"
        for sequence, jpeg in ((0, False), (1, True)):
            headset.send(encode_frames_json(make_message(sequence, jpeg=jpeg)))
            assert headset.receive() == "values"
        headset.client.send('{"type": "sing"}')
        assert headset.receive() == "error"
        headset.client.send(b"MIEN")
        assert [headset.receive(), headset.receive()] == ["error", "closing"]
    assert headset.seen | CALIBRATION == set(DOCUMENT["channels"]["streamJson"]["messages"])


def test_every_message_to_a_watcher_is_as_documented(service: RunningService) -> None:
    with session(service, WATCH, "/v1/watch") as watcher, session(service, BINARY) as headset:
        assert watcher.receive() == "watchHello"
        assert watcher.receive() == "watchStatus"
        assert headset.receive() == "hello"
        for sequence in range(1000):  # until a status tells of what was answered: within a second or two
            headset.send(encode_frames(make_message(sequence)))
            headset.receive()
            name, told = watcher.receive(), watcher.text["connections"]
            if name == "watchStatus" and "watchPictures" in watcher.seen and told[-1]["latency_ms"]["p50"] is not None:
                break
    assert watcher.seen | WATCH_CALIBRATION == set(DOCUMENT["channels"]["watch"]["messages"])


def test_every_documented_message_is_exercised_by_one_of_these_sessions() -> None:
    used = set().union(*(parts["messages"] for parts in DOCUMENT["channels"].values()))
    assert used == set(MESSAGES)


def test_binary_messages_have_the_documented_sizes() -> None:
    limits = MESSAGES["valuesBinary"]["payload"]
    assert (limits["minLength"], limits["maxLength"]) == (REPLY_BYTES, REPLY_BYTES)
    smallest = bytearray(encode_frames(make_message(0)))[:40]
    smallest[6] = 1
    smallest[18:22] = bytes([1, 0, 1, 0])
    smallest[32:36] = (1).to_bytes(4, "little")
    assert len(decode_frames(bytes(smallest) + b"\x80").frames) == 1
    assert MESSAGES["framesBinary"]["payload"]["minLength"] == len(smallest) + 1
