"""docs/asyncapi.yaml: its own structure, and every message of real sessions against its schemas."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from model_export.contract import EU_NAMES
from model_export.contract.take import Encoding
from service.errors import ErrorCode, WireError
from service.stream import SUBPROTOCOLS
from service.watch import SUBPROTOCOL as WATCH
from service.wire import REPLY_BYTES, decode_frames, encode_frames, encode_frames_json, parse_text
from tests.service.conftest import RunningService
from tests.service.documents import blocks, document
from tests.service.test_stream import BINARY, JSON, make_message
from tests.service.wire_material import frame_message

DOCUMENT: dict[str, Any] = yaml.safe_load(document("asyncapi.yaml"))
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
CALIBRATION = {"calibrate", "calibration"}
"""Held against their schemas in tests/service/test_calibrating.py."""
WATCH_CALIBRATION = {"watchCalibration"}
"""In tests/service/test_calibration_routes.py."""
CHANNEL_OF = {BINARY: "streamBinary", JSON: "streamJson", WATCH: "watch"}

_REFERENCE = {
    "type": "object",
    "required": ["$ref"],
    "additionalProperties": False,
    "properties": {"$ref": {"type": "string", "pattern": "^#/"}},
}
_REFERENCES = {"type": "array", "items": _REFERENCE, "minItems": 1, "uniqueItems": True}
_NAMED = "^[A-Za-z0-9_-]+$"


def _map_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "patternProperties": {_NAMED: schema}, "additionalProperties": False}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object of AsyncAPI: no other fields than these, and extensions."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_WEBSOCKET = _object(
    {"bindingVersion": {"const": "0.1.0"}},
    {"method": {"enum": ["GET", "POST"]}, "query": {"type": "object"}, "headers": {"type": "object"}},
)
STRUCTURE = _object(
    {
        "asyncapi": {"const": "3.0.0"},
        "info": _object(
            {"title": _TEXT, "version": _TEXT},
            {"description": _TEXT, "license": _object({"name": _TEXT}, {"url": _TEXT})},
        ),
    },
    {
        "defaultContentType": _TEXT,
        "servers": _map_of(_object({"host": _TEXT, "protocol": _TEXT}, {"description": _TEXT})),
        "channels": _map_of(
            _object(
                {"address": _TEXT, "messages": _map_of(_REFERENCE)},
                {
                    "title": _TEXT,
                    "description": _TEXT,
                    "servers": _REFERENCES,
                    "bindings": _REFERENCE,
                },
            )
        ),
        "operations": _map_of(
            _object(
                {"action": {"enum": ["send", "receive"]}, "channel": _REFERENCE},
                {
                    "summary": _TEXT,
                    "messages": _REFERENCES,
                    "reply": _object({"channel": _REFERENCE, "messages": _REFERENCES}),
                },
            )
        ),
        "components": _object(
            {},
            {
                "channelBindings": _map_of(_object({"ws": _WEBSOCKET})),
                "messages": _map_of(
                    _object(
                        {"name": _TEXT, "payload": {"type": "object"}},
                        {"summary": _TEXT, "contentType": _TEXT},
                    )
                ),
                "schemas": _map_of({"type": "object"}),
            },
        ),
    },
)
"""What AsyncAPI 3.0 asks of the objects that this document uses."""


def resolved(reference: str) -> Any:
    """What a reference of the document points to."""
    inner: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        inner = inner[step]
    return inner


def references(inner: object) -> Iterator[str]:
    """Every reference in a part of the document."""
    if isinstance(inner, dict):
        if isinstance(inner.get("$ref"), str):
            yield inner["$ref"]
        for value in inner.values():
            yield from references(value)
    elif isinstance(inner, list):
        for value in inner:
            yield from references(value)


def strict(schema: Any) -> Any:
    """The schema, refusing properties that it does not name: the document leaves room for later ones, this version has none."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


SCHEMAS = strict(DOCUMENT["components"]["schemas"])


def check(message: str, value: object) -> None:
    """Raises ValidationError unless `value` is what the message's schema says, and nothing more."""
    Draft7Validator({**strict(MESSAGES[message]["payload"]), "components": {"schemas": SCHEMAS}}).validate(value)


def is_valid(message: str, value: object) -> bool:
    """Whether `value` is what the message's schema says."""
    validator = Draft7Validator({**MESSAGES[message]["payload"], "components": DOCUMENT["components"]})
    return bool(validator.is_valid(value))


def test_the_document_has_the_structure_of_asyncapi_3() -> None:
    Draft7Validator.check_schema(STRUCTURE)
    Draft7Validator(STRUCTURE).validate(DOCUMENT)


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    found = set(references(DOCUMENT))
    for reference in found:
        assert isinstance(resolved(reference), dict), reference
    for kind, members in DOCUMENT["components"].items():
        for name in members:
            assert f"#/components/{kind}/{name}" in found, f"{kind} {name} is not used"


def test_operations_name_messages_of_their_own_channel_and_all_of_them() -> None:
    told = set()
    for operation in DOCUMENT["operations"].values():
        for part in (operation, *filter(None, [operation.get("reply")])):
            channel = part["channel"]["$ref"]
            for message in part["messages"]:
                assert message["$ref"].startswith(f"{channel}/messages/")
                told.add(message["$ref"])
    assert told == {
        f"#/channels/{channel}/messages/{message}"
        for channel, parts in DOCUMENT["channels"].items()
        for message in parts["messages"]
    }


def test_every_payload_is_a_json_schema() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
    for name, message in MESSAGES.items():
        assert message["name"] == name
        Draft7Validator.check_schema(message["payload"])


def test_it_names_this_version_its_addresses_and_subprotocols() -> None:
    assert DOCUMENT["info"]["version"] == version("mien-expression-units")
    spoken = {}
    for channel, parts in DOCUMENT["channels"].items():
        headers = resolved(parts["bindings"]["$ref"])["ws"]["headers"]
        spoken[headers["properties"]["Sec-WebSocket-Protocol"]["const"]] = (channel, parts["address"])
    assert {name: channel for name, (channel, _) in spoken.items()} == CHANNEL_OF
    assert {spoken[name][1] for name in SUBPROTOCOLS} == {"/v1/stream"}
    assert spoken[WATCH][1] == "/v1/watch"


def test_names_of_the_expression_units_stand_in_their_order() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["euNames"]["const"] == list(EU_NAMES)
    assert schemas["values"]["properties"]["values"]["required"] == list(EU_NAMES)


def test_every_error_code_fits_its_schema() -> None:
    for code in ErrorCode:
        check("error", WireError(code, "one.", "two", "Three.", 4).as_dict())


def test_json_examples_of_the_protocol_fit_their_schemas() -> None:
    checked = set()
    for block in blocks(document("protocol.md"), "json"):
        message = json.loads(block)
        if "type" in message:
            check(message["type"], message)
            checked.add(message["type"])
    control = {"hello", "configure", "configured", "calibrate", "calibration", "error", "closing"}
    assert checked == control | {"frames", "values"}
    shown = [json.loads(block) for block in blocks(document("watch.md"), "json")]
    assert [message["type"] for message in shown] == ["status", "calibration"]
    check("watchStatus", shown[0])
    check("watchCalibration", shown[1])
    check("calibration", {name: value for name, value in shown[1].items() if name not in {"connection", "ago_ms"}})


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


@pytest.mark.parametrize("name", ["hello", "values", "error", "configured", "closing"])
def test_a_field_that_the_document_does_not_name_would_be_noticed(name: str) -> None:
    messages = {one["type"]: one for one in map(json.loads, blocks(document("protocol.md"), "json")) if "type" in one}
    with pytest.raises(ValidationError):
        check(name, {**messages[name], "mood": "happy"})
    for field_name in messages[name]:
        with pytest.raises(ValidationError):
            check(name, {key: value for key, value in messages[name].items() if key != field_name})


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


@pytest.mark.parametrize(
    "placement",
    [
        {},
        {"center_px": [0, 4096.5]},
        {"center_px": [-1, 0]},
        {"center_px": [1]},
        {"center_px": [1, 2, 3]},
        {"center_px": [1, 9000]},
        {"center_px": {"x": 1, "y": 2}},
        {"side_px": 8},
        {"side_px": 8193},
        {"side_px": "8"},
        {"rotation_deg": 360},
        {"rotation_deg": -361},
        {"mirrored": False},
        {"mirrored": 0},
        {"rate_hz": 0.1},
        {"rate_hz": 0.05},
        {"zoom": 1},
        7,
        None,
    ],
)
def test_schema_and_service_accept_and_refuse_the_same_placements(placement: object) -> None:
    _assert_same_verdict({"type": "configure", "rig": {"cameras": {"mouth": placement}}})


@pytest.mark.parametrize(
    "message",
    [
        {"type": "configure"},
        {"type": "configure", "wearer": "ada.2"},
        {"type": "configure", "wearer": ""},
        {"type": "configure", "wearer": ".ada"},
        {"type": "configure", "wearer": "a" * 65},
        {"type": "configure", "wearer": None},
        {"type": "configure", "rig": {}},
        {"type": "configure", "rig": {"cameras": {}}},
        {"type": "configure", "rig": {"cameras": {"nose": {}}}},
        {"type": "configure", "mood": "happy"},
        {"type": "configured"},
        {},
    ],
)
def test_schema_and_service_accept_and_refuse_the_same_wishes(message: dict[str, Any]) -> None:
    _assert_same_verdict(message)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sequence",), 0),
        (("sequence",), 2**32 - 1),
        (("sequence",), 2**32),
        (("sequence",), -1),
        (("sequence",), True),
        (("sequence",), "7"),
        (("frames",), []),
        (("frames",), {}),
        (("frames", 0, "camera"), "nose"),
        (("frames", 0, "encoding"), "png"),
        (("frames", 0, "width"), 0),
        (("frames", 0, "height"), 4097),
        (("frames", 0, "t_ns"), 2**63 - 1),
        (("frames", 0, "t_ns"), 2**63),
        (("frames", 0, "t_ns"), -1),
        (("frames", 0, "image"), ""),
        (("frames", 0, "image"), None),
        (("frames", 0, "colour"), True),
        (("colour",), True),
    ],
)
def test_schema_and_service_accept_and_refuse_the_same_frame_sets(path: tuple[str | int, ...], value: object) -> None:
    message = json.loads(encode_frames_json(frame_message(Encoding.GRAY8)))
    inner = message
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    _assert_same_verdict(message)


def _assert_same_verdict(message: dict[str, Any]) -> None:
    try:
        parse_text(json.dumps(message))
    except WireError:
        accepted = False
    else:
        accepted = True
    valid = is_valid("frames" if message.get("type") == "frames" else "configure", message)
    assert valid == accepted


def test_patterns_have_no_python_only_meaning() -> None:
    for pattern in re.findall(r"pattern: '([^']+)'", document("asyncapi.yaml")):
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        assert "\\" not in pattern
