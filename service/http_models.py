"""The JSON bodies of the HTTP rim, as OpenAPI describes them; nothing behind the rim knows these classes.

Requests of /v1/expressions are read by service.wire, which also reads them from WebSockets; FrameSetBody describes the same.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_export.contract import EU_COUNT, EU_NAMES, Camera
from service.wire import FILTER_GROUPS, STAGES

_CAMERAS = tuple(camera.label for camera in Camera)
_UINT32 = {"minimum": 0, "maximum": 2**32 - 1}


def _named_numbers(names: tuple[str, ...], number: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of an object with exactly these names, each holding a `number`."""
    return {
        "type": "object",
        "properties": dict.fromkeys(names, number),
        "required": list(names),
        "additionalProperties": False,
    }


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ErrorDetail(_Body):
    """What is wrong, for programs and for people."""

    code: str = Field(description="Stable name of the fault.", examples=["jpeg"])
    expected: str = Field(examples=["A JPEG should begin with ff d8."])
    found: str = Field(examples=["89 50"])
    remedy: str = Field(description="What to do; may be empty.", examples=["Send a JPEG image."])


class ErrorBody(_Body):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class FrameBody(_Body):
    """One grey image of one camera."""

    camera: Literal["left_eye", "right_eye", "mouth"] = Field(description="Left is the wearer's left.")
    encoding: Literal["gray8", "jpeg"]
    width: int = Field(ge=1, le=4096, description="Pixels.")
    height: int = Field(ge=1, le=4096, description="Pixels.")
    t_ns: int = Field(ge=0, lt=2**63, description="Capture time, nanoseconds of a monotonic clock.")
    image: str = Field(
        min_length=4,
        json_schema_extra={"contentEncoding": "base64"},
        description="Base64 of the JPEG, or of height rows of width bytes.",
    )


class FrameSetBody(_Body):
    """A frame set: one image of each of one to three cameras, taken together; the same as in mien.v1.json.

    Whole numbers stand without a decimal point: a double cannot hold every nanosecond.
    """

    type: Literal["frames"]
    sequence: Annotated[int, Field(json_schema_extra=_UINT32)] = Field(description="Comes back in the answer.")
    frames: list[FrameBody] = Field(min_length=1, max_length=3, description="Of different cameras.")


class RegionBody(_Body):
    """How far the values of one camera's region can be trusted."""

    validity: Literal["unseen", "live", "held", "fading"]
    confidence: float = Field(ge=0, le=1)


class DirectionBody(_Body):
    """Where an eye looks, degrees."""

    yaw: float = Field(description="Towards the wearer's left is positive.")
    pitch: float = Field(description="Up is positive.")


class ValuesBody(_Body):
    """Expression units and gaze for one frame set; the same as in mien.v1.json."""

    type: Literal["values"]
    sequence: int = Field(ge=0, lt=2**32)
    t_ns: int = Field(ge=0, lt=2**63, description="Capture time of the newest frame of the set.")
    drops: int = Field(ge=0, lt=2**32)
    bundle: str = Field(pattern="^[0-9a-f]{16}$", description="First digits of the sha256 of the bundle.")
    head_version: int = Field(ge=0, lt=2**32, description="0 is the universal head.")
    regions: dict[str, RegionBody] = Field(
        json_schema_extra=_named_numbers(_CAMERAS, {"$ref": "#/components/schemas/RegionBody"})
    )
    gaze_deg: dict[str, DirectionBody] = Field(
        json_schema_extra=_named_numbers(("left", "right"), {"$ref": "#/components/schemas/DirectionBody"})
    )
    lag_ms: dict[str, float] = Field(json_schema_extra=_named_numbers(FILTER_GROUPS, {"type": "number", "minimum": 0}))
    stages_us: dict[str, int] = Field(json_schema_extra=_named_numbers(STAGES, {"type": "integer", "minimum": 0}))
    values: dict[str, float] = Field(
        json_schema_extra=_named_numbers(EU_NAMES, {"type": "number", "minimum": 0, "maximum": 1}),
        description="Each expression unit as a share of the wearer's own range.",
    )


class CropBody(_Body):
    """What a backbone sees of a camera's image."""

    size_px: int
    span_cm: float = Field(description="How much of the face the crop spans.")
    mirrored: bool = Field(description="Whether the service mirrors it, so that both eyes look like left eyes.")


class BundleBody(_Body):
    """The bundle that is served."""

    name: str
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of its bundle.json.")
    eu_set: int
    eu_names: list[str] = Field(min_length=EU_COUNT, max_length=EU_COUNT)
    crops: dict[str, CropBody]
    provider: str = Field(description="What runs its backbones here.")
    training: dict[str, Any] = Field(description="How it was trained, as its exporter wrote it.")


class StateBody(_Body):
    """Whether the service lives, or is ready."""

    status: Literal["alive", "ready"]
