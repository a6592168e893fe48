"""Wire v1: the control messages of both subprotocols as JSON text, and which message a text is.

The fields are in docs/protocol.md and, as schemas, in docs/asyncapi.yaml.
"""

from dataclasses import asdict
from typing import Any, Final

from model_export.contract.expression_units import EU_SET_VERSION
from model_export.contract.frames import MAX_SIDE_PX, Camera
from service.errors import ErrorCode, WireError
from service.json_fields import Fields, dump_object, load_object
from service.wire_json import read_frames, read_reply
from service.wire_messages import (
    CALIBRATION_WISHES,
    DEFAULT_LIMITS,
    PROTOCOL_VERSION,
    STARTS,
    Calibrate,
    CalibrationTold,
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    FrameMessage,
    GivenConsent,
    Hello,
    Limits,
    Reply,
)

_CAMERAS: Final = {camera.label: camera for camera in Camera}


def parse_text(text: str, limits: Limits = DEFAULT_LIMITS) -> FrameMessage | Configure | Calibrate:
    """A text message of a client of mien.v1.json: a frame set or a control message. Raises WireError."""
    fields = load_object(text, limits)
    if fields.any("type") == "frames":
        return read_frames(fields)
    return _read_control(fields)


def parse_control(text: str, limits: Limits = DEFAULT_LIMITS) -> Configure | Calibrate:
    """A text message of a client of mien.v1.bin: control only, frame sets are binary there. Raises WireError."""
    fields = load_object(text, limits)
    if fields.any("type") == "frames":
        raise WireError(
            ErrorCode.KIND,
            "Frame sets of mien.v1.bin should be binary messages.",
            "text",
            "Ask for the subprotocol mien.v1.json to send frame sets as text.",
        )
    return _read_control(fields)


def encode_hello(hello: Hello) -> str:
    """The first message of the service, as text."""
    return dump_object(
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
    return dump_object({"type": "configured", "wearer": configured.wearer, "head_version": configured.head_version})


def encode_calibrate(wish: Calibrate) -> str:
    """A client's wish about a calibration, as text; parts that are None are left out."""
    message: dict[str, Any] = {"type": "calibrate", "do": wish.do}
    if wish.cue is not None:
        message["cue"] = wish.cue
    if wish.consent is not None:
        message["consent"] = asdict(wish.consent)
    return dump_object(message)


def encode_calibration(told: CalibrationTold) -> str:
    """How a calibration goes, as text."""
    return dump_object({"type": "calibration", "event": told.event, **told.fields})


def encode_error(error: WireError) -> str:
    """The refusal of a message, as text."""
    return dump_object(error.as_dict())


def encode_closing(closing: Closing) -> str:
    """The last message of the service, as text."""
    return dump_object({"type": "closing", "reason": closing.reason})


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
    return dump_object(message)


def parse_server_text(text: str) -> Hello | Configured | CalibrationTold | Closing | WireError | Reply:
    """A text message of the service; an error message comes back as the WireError it tells of. Raises WireError."""
    fields = load_object(text, None)
    match fields.any("type"):
        case "values":
            return read_reply(fields)
        case "error":
            sequence = None if fields.any("sequence") is None else fields.whole("sequence", 0, 2**32 - 1)
            expected, found, remedy = (fields.text(name) for name in ("expected", "found", "remedy"))
            return WireError(fields.text("code"), expected, found, remedy, sequence)
        case "configured":
            return Configured(fields.text("wearer"), fields.whole("head_version", 0, 2**32 - 1))
        case "calibration":
            told = dict(fields.items())
            del told["type"]
            return CalibrationTold(fields.text("event"), {name: told[name] for name in told if name != "event"})
        case "closing":
            return Closing(fields.text("reason"))
        case "hello":
            return _read_hello(fields)
        case other:
            raise fields.refuse(
                "type", "hello, configured, calibration, values, error or closing", other, ErrorCode.JSON
            )


def _read_control(fields: Fields) -> Configure | Calibrate:
    if fields.any("type") == "calibrate":
        return _read_calibrate(fields)
    if fields.any("type") != "configure":
        raise fields.refuse("type", "frames, configure or calibrate", fields.any("type"), ErrorCode.JSON)
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


def _read_calibrate(fields: Fields) -> Calibrate:
    do = fields.text("do")
    if do not in CALIBRATION_WISHES:
        raise fields.refuse("do", f"one of {', '.join(CALIBRATION_WISHES)}", do)
    fields.only("type", "do", *(["cue"] if do == "redo" else ["consent"] if do in STARTS else []))
    consent = None
    if "consent" in fields:
        given = fields.inner("consent")
        given.only("version", "keep_takes", "retention_days")
        version, keep = given.text("version"), given.any("keep_takes") if "keep_takes" in given else False
        if not 1 <= len(version) <= 64:
            raise given.refuse("version", "1 to 64 letters", version)
        if not isinstance(keep, bool):
            raise given.refuse("keep_takes", "true or false", keep)
        days = given.whole("retention_days", 1, 3650) if "retention_days" in given else 30
        consent = GivenConsent(version, keep, days)
    return Calibrate(do, fields.text("cue") if do == "redo" else None, consent)


def _read_placement(fields: Fields) -> CameraPlacement:
    fields.only("center_px", "side_px", "rotation_deg", "mirrored", "rate_hz")
    center = None
    if "center_px" in fields:
        pair = fields.any("center_px")
        if not isinstance(pair, list) or len(pair) != 2:
            raise fields.refuse("center_px", "[x, y]", pair)
        both = Fields(dict(zip("xy", pair, strict=True)), "`center_px`")
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


def _read_hello(fields: Fields) -> Hello:
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
