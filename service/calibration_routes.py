"""The calibration routes: a page starts, skips, redoes and cancels the calibration of a connected headset, or re-centres it.

The calibration is the same as over the headset's own WebSocket, where its events go, too; pages read them from /v1/watch.
"""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from service.errors import ErrorCode, RequestError, WireError
from service.http_models import ErrorBody
from service.parts import Parts
from service.stream import Stream
from service.wire import WEARER_PATTERN, Calibrate, GivenConsent

Number = Annotated[int, Path(ge=1, lt=2**32, description="Of the connection, as the status of /v1/watch tells it.")]

_STATUSES: Final = {ErrorCode.CONFLICT: 409, ErrorCode.CONSENT: 409, ErrorCode.STORAGE: 500}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody, "description": why}
    for status, why in (
        (403, "The Host or Origin header is not allowed."),
        (404, "No such connection."),
        (409, "A calibration runs, or none does, or the wearer has not agreed."),
        (422, "A name or number is not as it should be."),
        (500, "The store cannot be read or written."),
    )
}

router = APIRouter(prefix="/v1/calibration/{connection}", responses=_ERRORS)


class CalibrationBody(BaseModel):
    """Whose calibration it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    connection: int = Field(ge=1)
    wearer: str


def _stream(request: Request, connection: Number) -> Stream:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    stream = parts.streams.stream_of(connection)
    if stream is None:
        remedy = "Take a number from the status of /v1/watch."
        raise RequestError(
            404, ErrorCode.NOT_FOUND, "a headset that is connected", f"none of number {connection}", remedy
        )
    return stream


Headset = Annotated[Stream, Depends(_stream)]


async def _wish(stream: Stream, wish: Calibrate, wearer: str | None = None) -> CalibrationBody:
    try:
        await stream.calibrate(wish, wearer)
    except WireError as error:
        code = ErrorCode(error.code)
        raise RequestError(_STATUSES.get(code, 422), code, error.expected, error.found, error.remedy) from error
    return CalibrationBody(connection=stream.number, wearer=stream.wearer)


_Wearer = Annotated[
    str | None,
    Query(pattern=f"^{WEARER_PATTERN}$", description="Who wears the headset from now on; left out: whoever does."),
]


def _consent(
    version: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=64,
            description="Of the text the wearer agrees to; left out where one is on record.",
        ),
    ] = None,
    keep_takes: Annotated[Literal["true", "false"], Query(description="May recordings be kept?")] = "false",
    retention_days: Annotated[int, Query(ge=1, le=3650, description="How long a kept recording stays.")] = 30,
) -> GivenConsent | None:
    return None if version is None else GivenConsent(version, keep_takes == "true", retention_days)


Consent = Annotated[GivenConsent | None, Depends(_consent)]


@router.post("/start", summary="Start a calibration")
async def start(headset: Headset, consent: Consent, wearer: _Wearer = None) -> CalibrationBody:
    """Begins with the first cue as soon as the worker has loaded. The headset has to send frame sets all the while."""
    return await _wish(headset, Calibrate("start", consent=consent), wearer)


@router.post("/recentre", summary="The headset was put on again")
async def recentre(headset: Headset, consent: Consent, wearer: _Wearer = None) -> CalibrationBody:
    """Records three seconds of rest and moves the offsets of the head in use that held-out frames of it ask for.

    The moved head answers, and going back one head of the profile undoes it. It ends with its report.
    """
    return await _wish(headset, Calibrate("recentre", consent=consent), wearer)


@router.post("/skip", summary="Skip the cue that is asked for")
async def skip(headset: Headset) -> CalibrationBody:
    """Goes on with the next cue; rest cannot be skipped, which is told as an event."""
    return await _wish(headset, Calibrate("skip"))


@router.post("/redo", summary="Do a cue again")
async def redo(
    headset: Headset, cue: Annotated[str, Query(min_length=1, max_length=64, description="Its name.")]
) -> CalibrationBody:
    """Asks for this cue again, now or after the report; whether it can be is told as an event."""
    return await _wish(headset, Calibrate("redo", cue))


@router.post("/cancel", summary="End the calibration")
async def cancel(headset: Headset) -> CalibrationBody:
    """Ends it at once; the head in use stays. After a report it closes the calibration."""
    return await _wish(headset, Calibrate("cancel"))
