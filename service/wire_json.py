"""Wire v1 as JSON text: frame sets and replies of mien.v1.json, and the control messages of both subprotocols.

The fields are in docs/protocol.md and, as schemas, in docs/asyncapi.yaml.
"""

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from model_export.contract.expression_units import EU_NAMES, EU_SET_VERSION
from model_export.contract.frames import MAX_SIDE_PX, Camera
from model_export.contract.take import Encoding
from model_export.contract.values import ExpressionValues, RegionState, Validity
from service.errors import ErrorCode, WireError
from service.wire_messages import (
    DEFAULT_LIMITS,
    FILTER_GROUPS,
    PROTOCOL_VERSION,
    STAGES,
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    EncodedFrame,
    FrameMessage,
    Hello,
    Limits,
    Reply,
    StageTimes,
)

_CAMERAS: Final = {camera.label: camera for camera in Camera}
_VALIDITIES: Final = {validity.name.lower(): validity for validity in Validity}
_DIGITS: Final = 6
"""Decimal places of values, gaze and confidence: finer than the noise of any camera, half the text of exact float32."""
_REMEDY: Final = "Compare the message with docs/protocol.md."


class _Fields:
    """One JSON object that is read field by field; each wrong field raises a WireError that names it."""

    __slots__ = ("_object", "_where", "sequence")

    def __init__(self, value: object, where: str, sequence: int | None = None) -> None:
        if not isinstance(value, dict):
            raise WireError(ErrorCode.FIELD, f"{where} should be an object.", _show(value), _REMEDY, sequence)
        self._object: dict[str, Any] = value
        self._where = where
        self.sequence = sequence

    def only(self, *names: str) -> None:
        """Refuses fields that the protocol does not know."""
        for name in self._object:
            if name not in names:
                raise WireError(
                    ErrorCode.FIELD,
                    f"{self._where} should have the fields {', '.join(names)}.",
                    f"also {_show(name)}",
                    _REMEDY,
                    self.sequence,
                )

    def refuse(self, name: str, should: str, value: object, code: ErrorCode = ErrorCode.FIELD) -> WireError:
        return WireError(code, f"`{name}` of {self._where} should be {should}.", _show(value), _REMEDY, self.sequence)

    def __contains__(self, name: str) -> bool:
        return name in self._object

    def items(self) -> list[tuple[str, Any]]:
        return list(self._object.items())

    def any(self, name: str) -> Any:
        if name not in self._object:
            raise WireError(
                ErrorCode.FIELD, f"{self._where} should have a field `{name}`.", "none", _REMEDY, self.sequence
            )
        return self._object[name]

    def text(self, name: str) -> str:
        value = self.any(name)
        if not isinstance(value, str):
            raise self.refuse(name, "a text", value)
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number in [low, high]; 1.0 and true are not one."""
        value = self.any(name)
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(name, f"a whole number from {low} to {high}", value)
        return value

    def number(self, name: str, low: float = -3.4e38, high: float = 3.4e38) -> float:
        """A finite number in [low, high]; true is not one."""
        value = self.any(name)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.refuse(name, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def inner(self, name: str) -> "_Fields":
        return _Fields(self.any(name), f"`{name}` of {self._where}", self.sequence)


def parse_text(text: str, limits: Limits = DEFAULT_LIMITS) -> FrameMessage | Configure:
    """A text message of a client of mien.v1.json: a frame set or a control message. Raises WireError."""
    fields = _load(text, limits)
    if fields.any("type") == "frames":
        return _read_frames(fields)
    return _read_control(fields)


def parse_control(text: str, limits: Limits = DEFAULT_LIMITS) -> Configure:
    """A text message of a client of mien.v1.bin: control only, frame sets are binary there. Raises WireError."""
    fields = _load(text, limits)
    if fields.any("type") == "frames":
        raise WireError(
            ErrorCode.KIND,
            "Frame sets of mien.v1.bin should be binary messages.",
            "text",
            "Ask for the subprotocol mien.v1.json to send frame sets as text.",
        )
    return _read_control(fields)


def decode_frames_json(text: str, limits: Limits = DEFAULT_LIMITS) -> FrameMessage:
    """The frame set in a text message; raises WireError for anything else."""
    return _read_frames(_load(text, limits))


def encode_frames_json(message: FrameMessage) -> str:
    """The frame set as text, images as base64."""
    return _dump(
        {
            "type": "frames",
            "sequence": message.sequence,
            "frames": [
                {
                    "camera": frame.camera.label,
                    "encoding": frame.encoding.value,
                    "width": frame.width,
                    "height": frame.height,
                    "t_ns": frame.t_ns,
                    "image": b64encode(frame.payload).decode("ascii"),
                }
                for frame in message.frames
            ],
        }
    )


def reply_as_dict(reply: Reply) -> dict[str, Any]:
    """The reply as the JSON object of mien.v1.json and of POST /v1/expressions."""
    values, stages = reply.values, reply.stages
    gaze = [round(angle, _DIGITS) for angle in values.gaze_deg.tolist()]
    return {
        "type": "values",
        "sequence": values.sequence,
        "t_ns": values.t_ns,
        "drops": reply.drops,
        "bundle": values.bundle_digest[:16],
        "head_version": values.head_version,
        "regions": {
            camera.label: {
                "validity": state.validity.name.lower(),
                "confidence": round(float(state.confidence), _DIGITS),
            }
            for camera, state in zip(Camera, values.regions, strict=True)
        },
        "gaze_deg": {
            "left": {"yaw": gaze[0], "pitch": gaze[1]},
            "right": {"yaw": gaze[2], "pitch": gaze[3]},
        },
        "lag_ms": {name: round(float(lag), _DIGITS) for name, lag in zip(FILTER_GROUPS, reply.lag_ms, strict=True)},
        "stages_us": {name: getattr(stages, f"{name}_us") for name in STAGES},
        "values": {name: round(value, _DIGITS) for name, value in zip(EU_NAMES, values.values_E.tolist(), strict=True)},
    }


def encode_reply_json(reply: Reply) -> str:
    """The reply as text, numbers rounded to six decimal places; raises WireError when one is not finite."""
    try:
        return _dump(reply_as_dict(reply))
    except ValueError as error:
        raise WireError(ErrorCode.VALUE, "The numbers of a reply should be finite.", str(error), _REMEDY) from None


def decode_reply_json(text: str) -> Reply:
    """The reply in a text message; raises WireError for anything else."""
    return _read_reply(_load(text, None))


def encode_hello(hello: Hello) -> str:
    """The first message of the service, as text."""
    return _dump(
        {
            "type": "hello",
            "protocol": hello.protocol,
            "eu_set": hello.eu_set,
            "eu_names": hello.eu_names,
            "bundle": {"name": hello.bundle_name, "digest": hello.bundle_digest},
            "wearer": hello.wearer,
            "head_version": hello.head_version,
            "limits": asdict(hello.limits),
        }
    )


def encode_configured(configured: Configured) -> str:
    """The service's consent to a Configure, as text."""
    return _dump({"type": "configured", "wearer": configured.wearer, "head_version": configured.head_version})


def encode_error(error: WireError) -> str:
    """The refusal of a message, as text."""
    return _dump(error.as_dict())


def encode_closing(closing: Closing) -> str:
    """The last message of the service, as text."""
    return _dump({"type": "closing", "reason": closing.reason})


def encode_configure(configure: Configure) -> str:
    """A client's wish, as text; parts that are None are left out."""
    message: dict[str, Any] = {"type": "configure"}
    if configure.wearer is not None:
        message["wearer"] = configure.wearer
    if configure.rig is not None:
        cameras = {
            camera.label: {name: value for name, value in asdict(placement).items() if value is not None}
            for camera, placement in configure.rig.items()
        }
        message["rig"] = {"cameras": cameras}
    return _dump(message)


def parse_server_text(text: str) -> Hello | Configured | Closing | WireError | Reply:
    """A text message of the service; an error message comes back as the WireError it tells of. Raises WireError."""
    fields = _load(text, None)
    match fields.any("type"):
        case "values":
            return _read_reply(fields)
        case "error":
            sequence = None if fields.any("sequence") is None else fields.whole("sequence", 0, 2**32 - 1)
            expected, found, remedy = (fields.text(name) for name in ("expected", "found", "remedy"))
            return WireError(fields.text("code"), expected, found, remedy, sequence)
        case "configured":
            return Configured(fields.text("wearer"), fields.whole("head_version", 0, 2**32 - 1))
        case "closing":
            return Closing(fields.text("reason"))
        case "hello":
            return _read_hello(fields)
        case other:
            raise fields.refuse("type", "hello, configured, values, error or closing", other, ErrorCode.JSON)


def _load(text: str, limits: Limits | None) -> _Fields:
    if limits is not None and len(text) > limits.max_message_bytes:
        raise WireError(
            ErrorCode.TOO_LARGE,
            f"A message should have at most {limits.max_message_bytes} bytes.",
            f"{len(text)}",
            "Send smaller images, or JPEG.",
        )
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(ErrorCode.JSON, "A text message should be JSON.", _show(str(error)), _REMEDY) from None
    if not isinstance(value, dict):
        raise WireError(ErrorCode.JSON, "A text message should be a JSON object.", _show(value), _REMEDY)
    return _Fields(value, "the message")


def _read_frames(fields: _Fields) -> FrameMessage:
    if fields.any("type") != "frames":
        raise fields.refuse("type", "frames", fields.any("type"), ErrorCode.KIND)
    fields.only("type", "sequence", "frames")
    fields.sequence = sequence = fields.whole("sequence", 0, 2**32 - 1)
    listed = fields.any("frames")
    if not isinstance(listed, list):
        raise fields.refuse("frames", "a list", listed)
    if not 1 <= len(listed) <= len(Camera):
        raise fields.refuse("frames", "a list of 1 to 3 frames", f"{len(listed)} frames", ErrorCode.FRAME_COUNT)
    try:
        return FrameMessage(sequence, tuple(_read_frame(one, index, sequence) for index, one in enumerate(listed)))
    except WireError as error:
        raise error.of(sequence) from None


def _read_frame(value: object, index: int, sequence: int) -> EncodedFrame:
    fields = _Fields(value, f"frame {index}", sequence)
    fields.only("camera", "encoding", "width", "height", "t_ns", "image")
    camera, encoding, image = fields.text("camera"), fields.text("encoding"), fields.text("image")
    if camera not in _CAMERAS:
        raise fields.refuse("camera", "left_eye, right_eye or mouth", camera, ErrorCode.CAMERA)
    if encoding not in (Encoding.GRAY8, Encoding.JPEG):
        raise fields.refuse("encoding", "gray8 or jpeg", encoding, ErrorCode.ENCODING)
    try:
        payload = b64decode(image, validate=True)
    except (Base64Error, ValueError):
        raise fields.refuse("image", "base64", image) from None
    width, height = fields.whole("width", 1, MAX_SIDE_PX), fields.whole("height", 1, MAX_SIDE_PX)
    return EncodedFrame(
        _CAMERAS[camera], Encoding(encoding), width, height, fields.whole("t_ns", 0, 2**63 - 1), payload
    )


def _read_control(fields: _Fields) -> Configure:
    if fields.any("type") != "configure":
        raise fields.refuse("type", "frames or configure", fields.any("type"), ErrorCode.JSON)
    fields.only("type", "wearer", "rig")
    wearer = fields.text("wearer") if "wearer" in fields else None
    rig = None
    if "rig" in fields:
        outer = fields.inner("rig")
        outer.only("cameras")
        cameras = outer.inner("cameras")
        cameras.only(*_CAMERAS)
        rig = {_CAMERAS[name]: _read_placement(cameras.inner(name)) for name, _ in cameras.items()}
    return Configure(wearer, rig)


def _read_placement(fields: _Fields) -> CameraPlacement:
    fields.only("center_px", "side_px", "rotation_deg", "mirrored", "rate_hz")
    center = None
    if "center_px" in fields:
        pair = fields.any("center_px")
        if not isinstance(pair, list) or len(pair) != 2:
            raise fields.refuse("center_px", "[x, y]", pair)
        both = _Fields(dict(zip("xy", pair, strict=True)), "`center_px`")
        center = (both.number("x", -MAX_SIDE_PX, 2 * MAX_SIDE_PX), both.number("y", -MAX_SIDE_PX, 2 * MAX_SIDE_PX))
    mirrored = fields.any("mirrored") if "mirrored" in fields else False
    if not isinstance(mirrored, bool):
        raise fields.refuse("mirrored", "true or false", mirrored)
    return CameraPlacement(
        center_px=center,
        side_px=fields.number("side_px", 1, 2 * MAX_SIDE_PX) if "side_px" in fields else None,
        rotation_deg=fields.number("rotation_deg", -360, 360) if "rotation_deg" in fields else 0.0,
        mirrored=mirrored,
        rate_hz=fields.number("rate_hz", 0.1, 1000) if "rate_hz" in fields else None,
    )


def _read_reply(fields: _Fields) -> Reply:
    if fields.any("type") != "values":
        raise fields.refuse("type", "values", fields.any("type"), ErrorCode.KIND)
    regions, gaze, lag = (fields.inner(name) for name in ("regions", "gaze_deg", "lag_ms"))
    stages, values = fields.inner("stages_us"), fields.inner("values")
    left, right, mouth = (_read_region(regions.inner(camera.label)) for camera in Camera)
    answer = ExpressionValues(
        sequence=fields.whole("sequence", 0, 2**32 - 1),
        t_ns=fields.whole("t_ns", 0, 2**63 - 1),
        values_E=np.array([values.number(name) for name in EU_NAMES], np.float32),
        gaze_deg=np.array(
            [gaze.inner(side).number(angle) for side in ("left", "right") for angle in ("yaw", "pitch")], np.float32
        ),
        regions=(left, right, mouth),
        bundle_digest=fields.text("bundle"),
        head_version=fields.whole("head_version", 0, 2**32 - 1),
    )
    gaze_lag, lids, brows, mouth_lag = (lag.number(name) for name in FILTER_GROUPS)
    return Reply(
        answer,
        fields.whole("drops", 0, 2**32 - 1),
        (gaze_lag, lids, brows, mouth_lag),
        StageTimes(*(stages.whole(name, 0, 2**32 - 1) for name in STAGES)),
    )


def _read_region(fields: _Fields) -> RegionState:
    validity = fields.text("validity")
    if validity not in _VALIDITIES:
        raise fields.refuse("validity", "unseen, live, held or fading", validity)
    return RegionState(_VALIDITIES[validity], fields.number("confidence"))


def _read_hello(fields: _Fields) -> Hello:
    names, limits, bundle = fields.any("eu_names"), fields.inner("limits"), fields.inner("bundle")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise fields.refuse("eu_names", "a list of names", names)
    protocol, eu_set = fields.whole("protocol", 1, 255), fields.whole("eu_set", 1, 65535)
    if protocol != PROTOCOL_VERSION or eu_set != EU_SET_VERSION:
        raise WireError(
            ErrorCode.VERSION,
            f"The service should speak protocol {PROTOCOL_VERSION} with EU set {EU_SET_VERSION}.",
            f"protocol {protocol}, EU set {eu_set}",
            "Use a client and a service of the same version.",
        )
    return Hello(
        bundle_name=bundle.text("name"),
        bundle_digest=bundle.text("digest"),
        wearer=fields.text("wearer"),
        head_version=fields.whole("head_version", 0, 2**32 - 1),
        limits=Limits(*(limits.whole(name, 1, 2**62) for name in ("max_message_bytes", "max_side_px", "max_pixels"))),
        protocol=protocol,
        eu_set=eu_set,
        eu_names=tuple(names),
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _dump(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


def _show(value: object) -> str:
    """A value of the client in a few ASCII letters: it may hold lone surrogates, be nested, or have megabytes."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    shown = ascii(value[:80] if isinstance(value, str) else value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
