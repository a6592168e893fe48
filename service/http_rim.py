"""The HTTP rim: single frame sets, the bundle, health, metrics. Every answer that is not a success is an ErrorBody.

POST /v1/expressions answers one frame set by itself: no filter state and no wearer's rig are carried from call to call, the
crop is the largest centred square. Headsets that stream use the WebSocket.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from model_export.contract import CROP_SIZE_PX, CROP_SPAN_CM, EU_NAMES, EU_SET_VERSION, Camera
from model_export.contract.take import Encoding
from service.errors import ErrorCode, RequestError, WireError
from service.http_models import BundleBody, CropBody, ErrorBody, FrameSetBody, StateBody, ValuesBody
from service.jpeg import read_jpeg_size
from service.metrics import CONTENT_TYPE
from service.parts import Parts
from service.wire import (
    DEFAULT_WEARER,
    WEARER_PATTERN,
    EncodedFrame,
    FrameMessage,
    Limits,
    Reply,
    decode_frames_json,
    encode_reply_json,
)

_CAMERAS: Final = {camera.label: camera for camera in Camera}
_MULTIPART: Final = {
    "type": "object",
    "properties": {
        **{name: {"type": "string", "contentMediaType": "image/jpeg", "format": "binary"} for name in _CAMERAS},
        # FastAPI may write bounds as floats; 2**63 is one, 2**63 - 1 is not.
        "t_ns": {
            "type": "integer",
            "minimum": 0,
            "exclusiveMaximum": 2.0**63,
            "description": "Capture time; default 0.",
        },
    },
    "anyOf": [{"required": [name]} for name in _CAMERAS],
    "additionalProperties": False,
}
_FRAMES_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _MULTIPART,
                "encoding": {name: {"contentType": "image/jpeg"} for name in _CAMERAS},
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/FrameSetBody"}},
        },
    }
}


def _errors(**why: str) -> dict[int | str, dict[str, Any]]:
    """Error answers of a route for its OpenAPI: 403 stands before every route but the probes."""
    return _documented(s403="The Host or Origin header is not allowed.", **why)


def _documented(**why: str) -> dict[int | str, dict[str, Any]]:
    return {int(status[1:]): {"model": ErrorBody, "description": text} for status, text in why.items()}


router = APIRouter()


@router.post(
    "/v1/expressions",
    summary="Expression units of one frame set",
    response_model=ValuesBody,
    responses=_errors(
        s400="The body cannot be read as its media type.",
        s413="The body is longer than the service takes.",
        s415="The body, or an image, is of another media type.",
        s422="A field or an image is not as it should be.",
        s500="The service failed.",
        s503="Not ready, or too busy; try again.",
    ),
    openapi_extra=_FRAMES_BODY,
)
async def expressions(
    request: Request,
    wearer: Annotated[
        str,
        Query(
            pattern=f"^{WEARER_PATTERN}$", description="Whose head answers; the universal one where there is no own."
        ),
    ] = DEFAULT_WEARER,
) -> Response:
    """Answers one frame set by itself: images of one to three cameras in, expression units and gaze out.

    Send multipart/form-data with a JPEG for each camera, or JSON with JPEG or raw grey images in base64. Nothing is remembered
    between calls: the filter that steadies a stream does not act here, and the crop is the largest centred square.
    """
    parts = _parts(request)
    limit = parts.settings.max_message_bytes
    body = await _read_body(request, limit)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        message = _decode_json(body, parts)
    elif kind == "multipart/form-data":
        message = await _decode_form(body, request.headers)
    else:
        raise RequestError(
            415,
            ErrorCode.MEDIA_TYPE,
            "a body of multipart/form-data or application/json",
            repr(kind[:100]),
            "Say in Content-Type what you send.",
        )
    parts.metrics.frame_sets += 1
    reply = await _answer(parts, message, wearer)
    parts.metrics.reply(reply.stages)
    return Response(encode_reply_json(reply), media_type="application/json")


async def _read_body(request: Request, limit: int) -> bytes:
    """The whole body; stops reading as soon as it is longer than `limit`."""
    chunks, size = [], 0
    try:
        declared = int(request.headers.get("content-length", "0"))
    except ValueError:
        declared = 0
    async for chunk in request.stream():
        size += len(chunk)
        if max(size, declared) > limit:
            break
        chunks.append(chunk)
    if max(size, declared) > limit:
        found = f"{max(size, declared)} or more"
        raise RequestError(413, ErrorCode.TOO_LARGE, f"at most {limit} bytes", found, "Send smaller images, or JPEG.")
    return b"".join(chunks)


def _decode_json(body: bytes, parts: Parts) -> FrameMessage:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, ErrorCode.JSON, "JSON in UTF-8", str(error), "Encode the body as UTF-8.") from None
    return decode_frames_json(text, Limits(max_message_bytes=parts.settings.max_message_bytes))


async def _decode_form(body: bytes, headers: Headers) -> FrameMessage:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    # The body is in memory and bounded: parts of that size never become files on a disk.
    parser = MultiPartParser(headers, whole(), max_files=3, max_fields=1, max_part_size=64)
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, AssertionError, UnicodeDecodeError) as error:
        raise RequestError(
            400,
            ErrorCode.FIELD,
            "multipart/form-data with parts left_eye, right_eye, mouth and t_ns",
            ascii(str(error))[:100],
            "Let an HTTP library write the form.",
        ) from None
    try:
        times, images = [], []
        for name, part in form.multi_items():
            if name == "t_ns" and isinstance(part, str):
                times.append(_read_time(part))
            elif name in _CAMERAS and isinstance(part, UploadFile):
                images.append((_CAMERAS[name], await _read_image(name, part)))
            else:
                raise WireError(
                    ErrorCode.FIELD,
                    "A form should have the files left_eye, right_eye and mouth, and the field t_ns.",
                    f"the {'file' if isinstance(part, UploadFile) else 'field'} {ascii(name)[:40]}",
                    "Leave it out, or send it as the other kind.",
                )
    finally:
        await form.close()
    t_ns = times[0] if times else 0
    return FrameMessage(
        0,
        tuple(EncodedFrame(camera, Encoding.JPEG, *read_jpeg_size(image), t_ns, image) for camera, image in images),
    )


def _read_time(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) < 2**63):
        raise WireError(
            ErrorCode.TIME,
            "The field t_ns should be a whole number, 0 to 2**63 - 1.",
            ascii(text)[:40],
            "Send nanoseconds of a monotonic clock.",
        )
    return int(text)


async def _read_image(name: str, part: UploadFile) -> bytes:
    image = await part.read()
    if image[:2] != b"\xff\xd8":
        raise RequestError(
            415,
            ErrorCode.MEDIA_TYPE,
            f"a JPEG for {name}, which begins with ff d8",
            image[:4].hex(" ") or "no bytes",
            "Send JPEG, or raw grey images in a JSON body.",
        )
    return image


async def _answer(parts: Parts, message: FrameMessage, wearer: str) -> Reply:
    """Has the engine answer a frame set on a connection of its own, so that nobody's filter sees it."""
    if not parts.engine.running:
        raise _not_ready()
    if parts.one_shots >= parts.settings.max_connections:
        raise RequestError(
            503,
            ErrorCode.BUSY,
            f"at most {parts.settings.max_connections} frame sets at once",
            "as many under way",
            "Try again, or stream over the WebSocket.",
        )
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Reply | WireError] = loop.create_future()

    def settle(answer: Reply | WireError) -> None:
        if not answered.done():
            answered.set_result(answer)

    def on_answer(answer: Reply | WireError) -> None:
        loop.call_soon_threadsafe(settle, answer)

    parts.one_shots += 1
    connection = parts.engine.connect(wearer, None, on_answer)
    try:
        connection.offer(message, time.perf_counter_ns())
        async with asyncio.timeout(parts.settings.answer_deadline_s):
            answer = await answered
    except TimeoutError:
        raise RequestError(
            503,
            ErrorCode.BUSY,
            f"an answer within {parts.settings.answer_deadline_s:g} s",
            "none",
            "Try again, or stream over the WebSocket.",
        ) from None
    finally:
        parts.one_shots -= 1
        connection.close()
    if isinstance(answer, WireError):
        raise answer
    return answer


@router.get("/v1/bundle", summary="The bundle that is served", responses=_errors())
async def bundle(request: Request) -> BundleBody:
    """Names of the expression units in the order of the binary wire, crops, digest, and how it was trained."""
    parts = _parts(request)
    return BundleBody(
        name=parts.bundle.name,
        digest=parts.bundle.digest,
        eu_set=EU_SET_VERSION,
        eu_names=list(EU_NAMES),
        crops={
            camera.label: CropBody(
                size_px=CROP_SIZE_PX, span_cm=CROP_SPAN_CM[camera], mirrored=camera is Camera.RIGHT_EYE
            )
            for camera in Camera
        },
        provider=parts.runtime.provider,
        training=dict(parts.bundle.training),
    )


@router.get("/livez", summary="Whether the process answers")
async def livez() -> StateBody:
    """200 as long as the event loop turns. Answered whatever the Host header is, for orchestrators."""
    return StateBody(status="alive")


@router.get(
    "/readyz", summary="Whether frames are answered", responses=_documented(s503="Starting, stopping, or broken.")
)
async def readyz(request: Request) -> StateBody:
    """200 while the engine is warm and its thread runs. Answered whatever the Host header is, for orchestrators."""
    if not _parts(request).engine.running:
        raise _not_ready()
    return StateBody(status="ready")


@router.get(
    "/metrics",
    summary="Counts and stage times for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_errors()},
)
async def metrics(request: Request) -> Response:
    """Frame sets, replies, drops, errors by code, connections, time in each stage, memory and CPU time of the process.

    Answered under any IP address as Host, too, as Prometheus asks the pods that it finds.
    """
    return Response(_parts(request).metrics.text(), headers={"content-type": CONTENT_TYPE})


def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


def _not_ready() -> RequestError:
    return RequestError(
        503, ErrorCode.NOT_READY, "a warm engine", "one that does not run", "Try again; read the service's log."
    )


BODIES_OF_REQUESTS: Final = (FrameSetBody,)
"""Models that only `openapi_extra` refers to."""
