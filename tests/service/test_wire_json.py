import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.contract import Camera
from model_export.contract.take import Encoding
from service.errors import WireError
from service.wire import (
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    Hello,
    Limits,
    Reply,
    decode_frames_json,
    decode_reply_json,
    encode_closing,
    encode_configure,
    encode_configured,
    encode_error,
    encode_frames_json,
    encode_hello,
    encode_reply_json,
    parse_control,
    parse_server_text,
    parse_text,
)
from tests.service.wire_material import a_reply, frame_message

_FRAMES: dict[str, Any] = json.loads(encode_frames_json(frame_message(Encoding.GRAY8)))
_REPLY: dict[str, Any] = json.loads(encode_reply_json(a_reply()))

_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_frame_set_comes_back_as_it_was_sent(encoding: Encoding) -> None:
    message = frame_message(encoding)
    assert decode_frames_json(encode_frames_json(message)) == message
    assert parse_text(encode_frames_json(message)) == message


def test_a_reply_comes_back_to_six_decimal_places() -> None:
    reply = a_reply()
    found = decode_reply_json(encode_reply_json(reply))
    np.testing.assert_allclose(found.values.values_E, reply.values.values_E, atol=1e-6)
    np.testing.assert_allclose(found.values.gaze_deg, reply.values.gaze_deg, atol=2e-6)
    assert found.values.regions == reply.values.regions
    assert (found.drops, found.lag_ms, found.stages) == (reply.drops, reply.lag_ms, reply.stages)
    assert isinstance(parse_server_text(encode_reply_json(reply)), Reply)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("sequence",), -1, "field"),
        (("sequence",), 2**32, "field"),
        (("sequence",), True, "field"),
        (("sequence",), 1.0, "field"),
        (("frames",), {}, "field"),
        (("frames",), [], "frame_count"),
        (("frames",), [_FRAMES["frames"][0]] * 2, "camera"),
        (("frames",), [_FRAMES["frames"][0]] * 4, "frame_count"),
        (("frames", 0), 3, "field"),
        (("frames", 0, "camera"), "nose", "camera"),
        (("frames", 0, "camera"), None, "field"),
        (("frames", 0, "encoding"), "png", "encoding"),
        (("frames", 0, "width"), 15, "size"),
        (("frames", 0, "height"), 0, "field"),
        (("frames", 0, "t_ns"), -1, "field"),
        (("frames", 0, "t_ns"), 1e9, "field"),
        (("frames", 0, "image"), "€€€€", "field"),
        (("frames", 0, "image"), "AAAA", "size"),
        (("frames", 0, "colour"), True, "field"),
        (("colour",), True, "field"),
        (("type",), "frame", "json"),
        (("type",), ["frames"], "json"),
    ],
)
def test_a_malformed_frame_set_is_refused_by_name(path: tuple[str | int, ...], value: object, code: str) -> None:
    message = json.loads(json.dumps(_FRAMES))
    inner = message
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(WireError) as refused:
        parse_text(json.dumps(message))
    assert refused.value.code == code
    assert refused.value.sequence == (7 if path[0] == "frames" else None)
    encode_error(refused.value).encode()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "NaN", '{"type":NaN}', '{"a":1e}', "[" * 100_000, "9" * 5000, '{"type":"frames"', "\ud800"],
    ids=ascii,
)
def test_text_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(WireError) as refused:
        parse_text(text)
    assert refused.value.code == "json"
    encode_error(refused.value).encode()


def test_a_text_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match="at most 100 bytes") as refused:
        parse_text(json.dumps(_FRAMES), Limits(max_message_bytes=100))
    assert refused.value.code == "too_large"


def test_frame_sets_as_text_are_refused_where_they_should_be_binary() -> None:
    with pytest.raises(WireError, match="should be binary") as refused:
        parse_control(json.dumps(_FRAMES))
    assert refused.value.code == "kind"


@given(_ANY_JSON, st.text(max_size=40))
def test_arbitrary_json_and_text_raise_nothing_but_wire_errors(value: Any, text: str) -> None:
    _only_wire_errors(text)
    _only_wire_errors(json.dumps(value))
    for name in ("frames", "configure", "values", "hello", "error", "configured", "closing"):
        _only_wire_errors(json.dumps({"type": name, "sequence": value, "rig": value, "wearer": value}))


@given(st.sampled_from([_FRAMES, _REPLY, json.loads(encode_hello(Hello("base", "ab")))]), st.data(), _ANY_JSON)
def test_one_changed_field_raises_nothing_but_wire_errors(
    whole: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    message = json.loads(json.dumps(whole))
    inner: Any = message
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inner[key], dict | list) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = value
    _only_wire_errors(json.dumps(message))


def _only_wire_errors(text: str) -> None:
    for parse in (parse_text, parse_control, parse_server_text):
        try:
            parse(text)
        except WireError as error:
            encode_error(error).encode()


def test_control_messages_come_back_as_they_were_sent() -> None:
    placement = CameraPlacement((60.0, 70.5), 100.0, -12.5, mirrored=True, rate_hz=90.0)
    for configure in (
        Configure(),
        Configure("anna.2"),
        Configure("anna", {Camera.LEFT_EYE: placement, Camera.MOUTH: CameraPlacement()}),
    ):
        assert parse_control(encode_configure(configure)) == configure
        assert parse_text(encode_configure(configure)) == configure
    hello = Hello("base", "ab" * 32, "anna", 4, Limits(max_message_bytes=1000))
    assert parse_server_text(encode_hello(hello)) == hello
    assert parse_server_text(encode_configured(Configured("anna", 2))) == Configured("anna", 2)
    assert parse_server_text(encode_closing(Closing("the service stops"))) == Closing("the service stops")


def test_an_error_comes_back_as_the_error_it_tells_of() -> None:
    error = WireError("size", "128 bytes.", "3", "Send 128.", 9)
    found = parse_server_text(encode_error(error))
    assert isinstance(found, WireError)
    assert found.as_dict() == error.as_dict()


@pytest.mark.parametrize("wearer", ["", "../x", ".hidden", "a" * 65, "a b", "ä", "a\n"])
def test_a_wearer_whose_name_could_be_a_path_is_refused(wearer: str) -> None:
    with pytest.raises(WireError, match="`wearer` should be 1 to 64 letters"):
        parse_control(json.dumps({"type": "configure", "wearer": wearer}))


@pytest.mark.parametrize(
    "placement",
    [
        {"center_px": [1]},
        {"center_px": [1, "2"]},
        {"center_px": {"x": 1, "y": 2}},
        {"side_px": 0},
        {"rotation_deg": 1000},
        {"mirrored": 1},
        {"rate_hz": 0},
        {"zoom": 2},
        7,
    ],
)
def test_a_wrong_placement_is_refused(placement: object) -> None:
    with pytest.raises(WireError) as refused:
        parse_control(json.dumps({"type": "configure", "rig": {"cameras": {"mouth": placement}}}))
    assert refused.value.code == "field"


def test_a_reply_that_is_not_finite_is_not_sent_as_json() -> None:
    reply = a_reply()
    with pytest.raises(WireError, match="should be finite"):
        encode_reply_json(Reply(reply.values, 0, (float("nan"), 0, 0, 0), reply.stages))


def test_a_service_of_another_version_is_named() -> None:
    hello = json.loads(encode_hello(Hello("base", "ab")))
    with pytest.raises(WireError, match="protocol 2, EU set 1"):
        parse_server_text(json.dumps({**hello, "protocol": 2}))
