"""What the schemas of docs/asyncapi.yaml accept and refuse is what the service accepts and refuses."""

import json
from typing import Any

import pytest

from model_export.contract.take import Encoding
from service.errors import WireError
from service.wire import encode_frames_json, parse_text
from tests.service.asyncapi_document import (
    is_valid,
)
from tests.service.wire_material import frame_message


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
