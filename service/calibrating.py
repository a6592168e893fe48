"""Drives one calibration beside a stream: the session decides, the worker computes, the profile store keeps, the client is told.

    stream --offer--> worker            (only while a recording runs; never waited for)
    client, worker, time --> Session --> client, worker, store, heads

Everything here runs on the event loop except `crops_of`, which runs on the worker's sender thread.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np

from calibration import errors
from calibration import session_events as happens
from calibration.profiles import Profiles
from calibration.session import Session, SessionConfig, State
from calibration.worker import Worker, WorkerConfig
from calibration.worker_messages import CropSet
from model_export.contract import CROP_SIZE_PX, Camera, Head
from model_export.contract.cues import cue_by_name
from service.decode import decode_image
from service.errors import ErrorCode, WireError
from service.rig import Rig, plan_crop
from service.wearers import Wearers
from service.wire_messages import Calibrate, FrameMessage

LOST_NS: Final = 500_000_000
"""Without a frame set for so long, the headset counts as lost."""
LOOK_S: Final = 0.1
"""How often that is looked at."""
READY_S: Final = 60.0
"""A worker that has not loaded by then is given up."""
_MS: Final = 1_000_000

Tell = Callable[[dict[str, Any]], Awaitable[None]]
"""Sends the client one `calibration` message."""
_Offered = tuple[FrameMessage, Rig]


class WorkerOf(Protocol):
    """Gives the worker to start."""

    def __call__(self, wearer: str, /, *, keeps: bool, recentres: bool) -> WorkerConfig:
        """`keeps`: whether takes are kept; `recentres`: whether it moves offsets in place of a fit."""


class Calibrations:
    """Who calibrates now: one calibration a wearer, several wearers side by side."""

    def __init__(
        self,
        wearers: Wearers,
        backbone_digest: str,
        command: WorkerOf,
        session: SessionConfig | None = None,
    ) -> None:
        self.wearers = wearers
        self.backbone_digest = backbone_digest
        self.command = command
        self.session = session or SessionConfig()
        self._running: set[str] = set()

    async def start(self, wearer: str, wish: Calibrate, tell: Tell) -> "Calibration":
        """A calibration, or a re-centring, that has begun; raises WireError where it may not."""
        profiles = self.wearers.profiles
        if profiles is None:
            raise WireError(
                ErrorCode.CONFLICT,
                "A calibration needs profiles.",
                "a service without",
                "Set MIEN_PROFILES to a folder.",
            )
        if wearer in self._running:
            raise WireError(
                ErrorCode.CONFLICT,
                f"{wearer!r} should be calibrated once at a time.",
                "a calibration under way",
                "Wait.",
            )
        self._running.add(wearer)
        try:
            keeps = await asyncio.to_thread(_consented, profiles, wearer, wish)
        except errors.ProfileError as error:
            self._running.discard(wearer)
            code = ErrorCode.CONSENT if isinstance(error, errors.ConsentError) else ErrorCode.STORAGE
            raise WireError(code, error.expected, error.found, error.remedy) from error
        except BaseException:
            self._running.discard(wearer)
            raise
        recentres = wish.do == "recentre"
        session = Session(
            replace(self.session, cues=self.session.cues[:1], rest_teaches=True) if recentres else self.session
        )
        worker = self.command(wearer, keeps=keeps, recentres=recentres)
        return Calibration(self, profiles, wearer, session, worker, tell)

    def forget(self, wearer: str) -> None:
        """The wearer's calibration is over."""
        self._running.discard(wearer)


class Calibration:
    """One calibration, or re-centring, of one wearer, until `run` ends."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        calibrations: Calibrations,
        profiles: Profiles,
        wearer: str,
        session: Session,
        config: WorkerConfig,
        tell: Tell,
    ) -> None:
        self.wearer = wearer
        self._calibrations = calibrations
        self._profiles = profiles
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[happens.Event | None] = asyncio.Queue()
        """None: the gauge moved."""
        self._gauge: float | None = None
        """What the gauge shows and the client was not told yet."""
        self._cue = ""
        self._session = session
        self._heads: dict[int, Head] = {}
        self._worker: Worker[_Offered] = Worker(config, crops_of, self._hear, self._heads.__setitem__, self._hear_gauge)
        self._recording = False
        self._last_frame_ns = time.monotonic_ns()
        self._lost = False

    @property
    def over(self) -> bool:
        """Whether another one may begin."""
        return self._session.state is State.ENDED

    def offer(self, message: FrameMessage, rig: Rig) -> None:
        """A frame set of the stream."""
        self._last_frame_ns = time.monotonic_ns()
        if self._recording:
            self._worker.offer((message, rig))

    def wish(self, wish: Calibrate) -> None:
        """What the client wants now."""
        now_ns = time.monotonic_ns()
        if wish.do == "skip":
            self._events.put_nowait(happens.Skipped(now_ns))
        elif wish.do == "redo":
            self._events.put_nowait(happens.Redone(now_ns, wish.cue or ""))
        else:
            self._events.put_nowait(happens.Cancelled(now_ns))

    async def run(self) -> None:
        """From start to end; cancelling it ends the calibration, and nothing stays behind."""
        try:
            self._worker.start()
            await self._tell({"event": "starting", "wearer": self.wearer})
            self._session.begin(time.monotonic_ns())
            if await asyncio.to_thread(self._worker.ready.wait, READY_S):
                self._events.put_nowait(happens.Consented(time.monotonic_ns()))
            else:
                self._events.put_nowait(happens.Cancelled(time.monotonic_ns()))
            while not self.over:
                event = await self._next()
                if event is None:
                    await self._tell_gauge()
                    continue
                for wish in self._session.handle(event):
                    await self._do(wish)
        finally:
            self._recording = False
            if not self.over:
                self._calibrations.forget(self.wearer)
            await asyncio.shield(asyncio.to_thread(self._worker.stop))

    def _hear(self, event: happens.Event) -> None:
        # On the worker's reader thread.
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _hear_gauge(self, value: float) -> None:
        # On the worker's reader thread.
        self._loop.call_soon_threadsafe(self._show, value)

    def _show(self, value: float) -> None:
        # A client that reads slowly is told the newest value, not all of them.
        if self._recording:
            if self._gauge is None:
                self._events.put_nowait(None)
            self._gauge = value

    async def _tell_gauge(self) -> None:
        value, self._gauge = self._gauge, None
        if value is not None and self._recording:
            await self._tell({"event": "gauge", "cue": self._cue, "value": round(value, 3)})

    async def _next(self) -> happens.Event | None:
        """What happens next; time passing is something, too. None: the gauge moved."""
        while True:
            try:
                async with asyncio.timeout(self._rest_s()):
                    return await self._events.get()
            except TimeoutError:
                now_ns = time.monotonic_ns()
            lost = now_ns - self._last_frame_ns > LOST_NS
            if lost != self._lost:
                self._lost = lost
                return happens.HeadsetLost(now_ns) if lost else happens.HeadsetBack(now_ns)
            if self._session.wakes_ns is not None and now_ns >= self._session.wakes_ns:
                return happens.Passed(now_ns)

    def _rest_s(self) -> float:
        wakes_ns = self._session.wakes_ns
        return LOOK_S if wakes_ns is None else min(LOOK_S, max(0.0, (wakes_ns - time.monotonic_ns()) / 1e9))

    async def _do(self, wish: happens.Wish) -> None:
        match wish:
            case happens.BeginRecording(recording=recording, cue=cue):
                self._worker.begin(recording, cue)
                self._recording, self._cue = True, cue
            case happens.EndRecording(recording=recording):
                self._recording = False
                self._worker.end(recording)
            case happens.DiscardRecording(recording=recording):
                self._recording = False
                self._worker.discard(recording)
            case happens.ForgetTakes():
                self._worker.forget()
            case happens.BeginFit(fit=fit, recordings=recordings):
                self._worker.fit(fit, recordings, await asyncio.to_thread(self._current))
            case happens.Promote(fit=fit):
                await self._promote(fit)
            case happens.Ended():
                self._calibrations.forget(self.wearer)  # whoever hears of the end may begin anew
        told = told_of(wish)
        if told is not None:
            await self._tell(told)

    def _current(self) -> bytes:
        """File of the head in use; none for the universal one, or where this bundle cannot use it."""
        try:
            record = self._profiles.live_head(self.wearer)
            if record is None or record.backbone_digest != self._calibrations.backbone_digest:
                return b""
            return self._profiles.head_file(self.wearer, record.version)
        except errors.ProfileError:  # damaged: it does not answer either
            return b""

    async def _promote(self, fit: int) -> None:
        """Stores the head and lets it answer; the next reply names it."""
        head = self._heads.pop(fit)
        try:
            record = await asyncio.to_thread(self._profiles.add_head, self.wearer, head, live=True)
        except errors.ProfileError as error:
            self._events.put_nowait(happens.Failed(time.monotonic_ns(), fit, str(error)))
            return
        await self._calibrations.wearers.bring(self.wearer)
        self._events.put_nowait(happens.Promoted(time.monotonic_ns(), fit, record.version))


def told_of(wish: happens.Wish) -> dict[str, Any] | None:  # noqa: PLR0911 - one for each wish
    """What the client is told of a wish; None where it concerns others."""
    match wish:
        case happens.Announce():
            cue = cue_by_name(wish.cue)
            return {
                "event": "cue",
                "cue": wish.cue,
                "prompt": cue.prompt,
                "dots_deg": [list(dot) for dot in cue.dots_deg],
                "repetitions": cue.repetitions,
                "attempt": wish.attempt,
                "begins_in_ms": max(0, wish.begins_ns - time.monotonic_ns()) // _MS,
                "length_ms": (wish.ends_ns - wish.begins_ns) // _MS,
                "left": wish.left,
            }
        case happens.BeginRecording(cue=cue_name):
            return {"event": "recording", "cue": cue_name}
        case happens.EndRecording():
            return {"event": "judging"}
        case happens.Accepted(cue=cue_name):
            return {"event": "accepted", "cue": cue_name}
        case happens.Refused():
            return {"event": "refused", "cue": wish.cue, "reason": wish.reason, "again": wish.again}
        case happens.Declined():
            return {"event": "declined", "wish": wish.wish, "reason": wish.reason}
        case happens.Pause():
            return {"event": "paused"}
        case happens.BeginFit(recordings=recordings):
            return {"event": "fitting", "cues": list(recordings)}
        case happens.Report():
            report = dict(wish.report)
            return {"event": "report", "head_version": wish.version, "failure": wish.failure, "report": report}
        case happens.Ended(outcome=outcome):
            return {"event": "ended", "outcome": str(outcome)}
        case _:
            return None


def _consented(profiles: Profiles, wearer: str, wish: Calibrate) -> bool:
    """Puts a consent that came with the wish on record; gives whether takes may be kept. Raises ConsentError without one."""
    try:
        profile = profiles.profile(wearer)
    except errors.UnknownWearerError:
        if wish.consent is None:
            raise _no_consent(wearer) from None
        profile = profiles.create(wearer)
    if wish.consent is not None:
        given = wish.consent
        profile = profiles.give_consent(
            wearer, given.version, keep_takes=given.keep_takes, retention_days=given.retention_days
        )
    if profile.consent is None:
        raise _no_consent(wearer)
    return profile.consent.keep_takes


def _no_consent(wearer: str) -> errors.ConsentError:
    return errors.ConsentError(
        "A wearer should have agreed before a calibration.",
        f"no consent of {wearer!r}",
        "Send `consent` with the start.",
    )


def crops_of(offered: _Offered) -> CropSet | None:
    """The crops of the rig, upright and not mirrored; None for frames that the engine refuses.

    Where in them the face is, which the head in use follows, the worker finds anew.
    """
    message, rig = offered
    crops = {}
    try:
        for frame in message.frames:
            crop_HW = np.empty((CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
            plan_crop(rig.get(frame.camera), frame.camera, frame.width, frame.height).cut(decode_image(frame), crop_HW)
            crops[frame.camera] = crop_HW[:, ::-1] if frame.camera is Camera.RIGHT_EYE else crop_HW
    except WireError:
        return None
    return CropSet(message.t_ns, crops)
