"""docs/asyncapi.yaml: its own structure, and that it says what the code and the other documents say."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from jsonschema import Draft7Validator, ValidationError

from model_export.contract import EU_NAMES
from service.errors import ErrorCode, WireError
from service.stream import SUBPROTOCOLS
from service.watch import SUBPROTOCOL as WATCH
from tests.service.asyncapi_document import (
    CHANNEL_OF,
    DOCUMENT,
    MESSAGES,
    check,
)
from tests.service.documents import blocks, document

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


@pytest.mark.parametrize("name", ["hello", "values", "error", "configured", "closing"])
def test_a_field_that_the_document_does_not_name_would_be_noticed(name: str) -> None:
    messages = {one["type"]: one for one in map(json.loads, blocks(document("protocol.md"), "json")) if "type" in one}
    with pytest.raises(ValidationError):
        check(name, {**messages[name], "mood": "happy"})
    for field_name in messages[name]:
        with pytest.raises(ValidationError):
            check(name, {key: value for key, value in messages[name].items() if key != field_name})


def test_patterns_have_no_python_only_meaning() -> None:
    for pattern in re.findall(r"pattern: '([^']+)'", document("asyncapi.yaml")):
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        assert "\\" not in pattern
