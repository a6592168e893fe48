"""The profile routes: whose heads there are, which one answers, consent, and the way out. No route takes a body.

Every call goes to the store on a thread of its own; what changes the live head is in use when the answer is sent.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from calibration import errors
from calibration.profiles import UNIVERSAL, Profile, Profiles
from service.errors import ErrorCode, RequestError
from service.http_models import ErrorBody
from service.parts import Parts
from service.profile_models import HeadsBody, ProfileBody, WearersBody, head_bodies, profile_body
from service.wire import WEARER_PATTERN

Wearer = Annotated[str, Path(pattern=f"^{WEARER_PATTERN}$", description="The wearer's identifier.")]
Version = Annotated[int, Path(ge=1, lt=2**32, description="Of a head of this wearer.")]
LiveVersion = Annotated[int, Path(ge=0, lt=2**32, description="Of a head of this wearer; 0 is the bundle's.")]

_STATUSES: Final[tuple[tuple[type[errors.ProfileError], int, ErrorCode], ...]] = (
    (errors.UnknownWearerError, 404, ErrorCode.NOT_FOUND),
    (errors.UnknownHeadError, 404, ErrorCode.NOT_FOUND),
    (errors.LiveHeadError, 409, ErrorCode.CONFLICT),
    (errors.WearerExistsError, 409, ErrorCode.CONFLICT),
    (errors.ConsentError, 409, ErrorCode.CONSENT),
    (errors.StoreFullError, 507, ErrorCode.STORAGE),
    (errors.ProfileError, 500, ErrorCode.STORAGE),
)
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody, "description": why}
    for status, why in (
        (403, "The Host or Origin header is not allowed."),
        (404, "No such wearer or head, or this service keeps no profiles."),
        (409, "The profile is in a state that does not allow it."),
        (422, "A name or number is not as it should be."),
        (500, "The store cannot be read or written."),
        (507, "The disk is full; nothing has changed."),
    )
}
_Result = TypeVar("_Result")

router = APIRouter(prefix="/v1/profiles", responses=_ERRORS)


class _Desk:
    """The store and the engine as one request sees them."""

    def __init__(self, request: Request) -> None:
        parts = request.app.state.parts
        assert isinstance(parts, Parts)
        self._parts = parts

    @property
    def profiles(self) -> Profiles:
        """The store; raises RequestError where this service has none."""
        profiles = self._parts.wearers.profiles
        if profiles is None:
            raise RequestError(
                404, ErrorCode.NOT_FOUND, "a service with profiles", "none", "Set MIEN_PROFILES to a folder."
            )
        return profiles

    async def ask(self, question: Callable[..., _Result], *what: Any, **how: Any) -> _Result:
        """The store's answer to a question; raises RequestError in place of its errors."""
        try:
            return await asyncio.to_thread(question, *what, **how)
        except errors.ProfileError as error:
            status, code = next((status, code) for kind, status, code in _STATUSES if isinstance(error, kind))
            raise RequestError(status, code, error.expected, error.found, error.remedy) from error

    async def change(self, wearer: str, change: Callable[..., Any], *what: Any) -> ProfileBody:
        """Changes a wearer's heads, lets the live one answer, and gives the profile as it is then."""
        await self.ask(change, wearer, *what)
        await self._parts.wearers.bring(wearer)
        return self.show(await self.ask(self.profiles.profile, wearer))

    async def forget(self, wearer: str) -> None:
        """Deletes the wearer; the bundle's head answers when this is done."""
        try:
            await self.ask(self.profiles.delete_wearer, wearer)
        finally:
            await self._parts.wearers.bring(wearer)

    async def standalone(self, wearer: str, version: int) -> bytes:
        """One head of a wearer, 0 the bundle's, as an ONNX file of its own."""
        found = await self.ask(self.profiles.profile, wearer)
        head_file = b""
        if version != UNIVERSAL:
            head_file = await self.ask(self.profiles.head_file, wearer, version)
            (record,) = (head for head in found.heads if head.version == version)
            if record.backbone_digest != self._parts.bundle.backbone_digest:
                remedy = "Serve the bundle that it was calibrated with."
                what = "a head that this bundle serves"
                raise RequestError(409, ErrorCode.CONFLICT, what, "one of other backbones", remedy)
        return await self._parts.standalone.make(head_file)

    def show(self, profile: Profile) -> ProfileBody:
        """A profile as it is sent."""
        return profile_body(
            profile, self._parts.engine.head_version(profile.wearer), self._parts.bundle.backbone_digest
        )

    def show_heads(self, profile: Profile) -> HeadsBody:
        """Its heads alone."""
        return HeadsBody(heads=head_bodies(profile, self._parts.bundle.backbone_digest))


Desk = Annotated[_Desk, Depends(_Desk)]


@router.get("", summary="Who has a profile")
async def wearers(desk: Desk) -> WearersBody:
    """Every wearer with a profile, by name."""
    return WearersBody(wearers=list(await desk.ask(desk.profiles.wearers)))


@router.get("/{wearer}", summary="One profile")
async def profile(desk: Desk, wearer: Wearer) -> ProfileBody:
    """Heads, kept takes and consents of a wearer, without the contents of files."""
    return desk.show(await desk.ask(desk.profiles.profile, wearer))


@router.put("/{wearer}", summary="A profile for a wearer")
async def make_profile(desk: Desk, wearer: Wearer) -> ProfileBody:
    """Makes an empty profile where there is none; gives the one there is otherwise."""

    def made() -> Profile:
        try:
            return desk.profiles.create(wearer)
        except errors.WearerExistsError:
            return desk.profiles.profile(wearer)

    return desk.show(await desk.ask(made))


@router.delete("/{wearer}", summary="Delete a wearer's data", status_code=204)
async def delete_wearer(desk: Desk, wearer: Wearer) -> Response:
    """Deletes heads, takes, consents and the name, so that nothing is left in the store. The bundle's head answers then."""
    await desk.forget(wearer)
    return Response(status_code=204)


@router.put("/{wearer}/consent", summary="Record a consent")
async def give_consent(
    desk: Desk,
    wearer: Wearer,
    version: Annotated[str, Query(min_length=1, max_length=64, description="Of the text that was shown.")],
    keep_takes: Annotated[Literal["true", "false"], Query(description="May recordings be kept?")] = "false",
    retention_days: Annotated[int, Query(ge=1, le=3650, description="How long a kept recording stays.")] = 30,
) -> ProfileBody:
    """Writes down that the wearer agreed; replaces the consent that holds."""
    keep = keep_takes == "true"
    give = desk.profiles.give_consent
    return desk.show(await desk.ask(give, wearer, version, keep_takes=keep, retention_days=retention_days))


@router.delete("/{wearer}/consent", summary="Withdraw the consent")
async def withdraw_consent(desk: Desk, wearer: Wearer) -> ProfileBody:
    """Ends the consent that holds and deletes every kept take. Heads stay until they, or the wearer, are deleted."""
    return desk.show(await desk.ask(desk.profiles.withdraw_consent, wearer))


@router.get("/{wearer}/heads", summary="Every head of a wearer")
async def heads(desk: Desk, wearer: Wearer) -> HeadsBody:
    """Oldest first, each with its report."""
    return desk.show_heads(await desk.ask(desk.profiles.profile, wearer))


@router.get(
    "/{wearer}/heads/{version}",
    summary="A head as a file",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def head_file(desk: Desk, wearer: Wearer, version: Version) -> Response:
    """The safetensors file of one head."""
    data = await desk.ask(desk.profiles.head_file, wearer, version)
    name = f'attachment; filename="{wearer}-{version}.safetensors"'
    return Response(data, media_type="application/octet-stream", headers={"content-disposition": name})


@router.get(
    "/{wearer}/heads/{version}/onnx",
    summary="A head as a model that stands alone",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        503: {"model": ErrorBody, "description": "Another export is under way; try again."},
    },
)
async def head_onnx(desk: Desk, wearer: Wearer, version: LiveVersion) -> Response:
    """Backbones and this head, 0 the bundle's, in one ONNX file that runs without the service; takes a second.

    It gives what is served before the filter. 404 also where the service is installed without the package onnx.
    """
    data = await desk.standalone(wearer, version)
    name = f'attachment; filename="{wearer}-{version}.onnx"'
    return Response(data, media_type="application/octet-stream", headers={"content-disposition": name})


@router.delete("/{wearer}/heads/{version}", summary="Delete a head")
async def delete_head(desk: Desk, wearer: Wearer, version: Version) -> ProfileBody:
    """Deletes one head and its file; the live one has to be replaced first."""
    return await desk.change(wearer, desk.profiles.delete_head, version)


@router.post("/{wearer}/heads/{version}/make-live", summary="Choose a head")
async def make_live(desk: Desk, wearer: Wearer, version: LiveVersion) -> ProfileBody:
    """Lets this head answer for the wearer; the next reply names it. 0 chooses the bundle's."""
    return await desk.change(wearer, desk.profiles.make_live, version)


@router.post("/{wearer}/roll-back", summary="Go back one head")
async def roll_back(desk: Desk, wearer: Wearer) -> ProfileBody:
    """Lets the head answer that did so before the live one."""
    return await desk.change(wearer, desk.profiles.roll_back)
