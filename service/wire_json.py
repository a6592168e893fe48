"""Wire v1 as JSON text: the frame sets and replies of mien.v1.json.

The fields are in docs/protocol.md and, as schemas, in docs/asyncapi.yaml.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Any, Final

import numpy as np

from model_export.contract.expression_units import EU_NAMES
from model_export.contract.frames import MAX_SIDE_PX, Camera
from model_export.contract.take import Encoding
from model_export.contract.values import ExpressionValues, RegionState, Validity
from service.errors import ErrorCode, WireError
from service.json_fields import REMEDY, Fields, dump_object, load_object
from service.wire_messages import (
    DEFAULT_LIMITS,
    FILTER_GROUPS,
    STAGES,
    EncodedFrame,
    FrameMessage,
    Limits,
    Reply,
    StageTimes,
)

_CAMERAS: Final = {camera.label: camera for camera in Camera}
_VALIDITIES: Final = {validity.name.lower(): validity for validity in Validity}
_DIGITS: Final = 6
"""Decimal places of values, gaze and confidence: finer than the noise of any camera, half the text of exact float32."""


def decode_frames_json(text: str, limits: Limits = DEFAULT_LIMITS) -> FrameMessage:
    """The frame set in a text message; raises WireError for anything else."""
    return read_frames(load_object(text, limits))


def encode_frames_json(message: FrameMessage) -> str:
    """The frame set as text, images as base64."""
    return dump_object(
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
        return dump_object(reply_as_dict(reply))
    except ValueError as error:
        raise WireError(ErrorCode.VALUE, "The numbers of a reply should be finite.", str(error), REMEDY) from None


def decode_reply_json(text: str) -> Reply:
    """The reply in a text message; raises WireError for anything else."""
    return read_reply(load_object(text, None))


def read_frames(fields: Fields) -> FrameMessage:
    """The frame set in a JSON object; raises WireError, with the sequence as soon as that is known."""
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
    fields = Fields(value, f"frame {index}", sequence)
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


def read_reply(fields: Fields) -> Reply:
    """The reply in a JSON object of the service; raises WireError."""
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


def _read_region(fields: Fields) -> RegionState:
    validity = fields.text("validity")
    if validity not in _VALIDITIES:
        raise fields.refuse("validity", "unseen, live, held or fading", validity)
    return RegionState(_VALIDITIES[validity], fields.number("confidence"))
