"""A calibration session as a pure state machine: what happens goes in, what is to be done comes out.

    CONSENT -> COUNTDOWN -> RECORDING -> JUDGING -> ... for each cue ... -> FITTING -> STORING -> REPORTED -> ENDED
                   ^_____________|__________|                                   |_______________^   |
                   |________ refused, redone, lost and back ________________________________________|

No clock, no files, no process: times come with the events, and whoever drives the session calls it again at `wakes_ns`. An event
that does not fit the state (a judgement of a recording that was discarded, a second consent) changes nothing. Re-centring is a
session of the one cue rest, whose worker moves the offsets of the head in use in place of a fit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from calibration.session_events import (
    Accepted,
    Announce,
    AskConsent,
    BeginFit,
    BeginRecording,
    Cancelled,
    Consented,
    Declined,
    DiscardRecording,
    Ended,
    EndRecording,
    Event,
    Failed,
    Fitted,
    ForgetTakes,
    HeadsetBack,
    HeadsetLost,
    Judged,
    Outcome,
    Passed,
    Pause,
    Promote,
    Promoted,
    Redone,
    Refused,
    Report,
    Skipped,
    Wish,
    WorkerLost,
)
from model_export.contract import SCRIPT, Cue

REST: Final = "rest"
"""The cue that everything is measured from: it cannot be skipped."""
_SECOND_NS: Final = 1_000_000_000


class State(Enum):
    """Where a session stands."""

    CONSENT = auto()
    COUNTDOWN = auto()
    RECORDING = auto()
    JUDGING = auto()
    PAUSED = auto()
    """No frames come; goes on with a countdown."""
    FITTING = auto()
    STORING = auto()
    REPORTED = auto()
    """A head was fitted; cues can be redone, or the session closed."""
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """How a session goes."""

    cues: tuple[Cue, ...] = SCRIPT
    """In the order in which they are asked for; the first one is rest."""
    rest_teaches: bool = False
    """Whether rest alone is something to learn from, as for re-centring; then the session ends with its report."""
    countdown_ns: int = 2 * _SECOND_NS
    attempts: int = 3
    """A cue refused this often is left out; it can be redone."""
    judging_ns: int = 20 * _SECOND_NS
    """A judgement that takes longer counts as a refusal."""
    fitting_ns: int = 180 * _SECOND_NS
    new_fitting_ns: int = 3 * _SECOND_NS
    """Without frames for longer than this, the headset was taken off: it sits otherwise when it is back."""
    patience_ns: int = 60 * _SECOND_NS
    """Without frames, or without consent, for longer than this the session ends."""
    workers: int = 3
    """When so many workers have died, the session ends."""
    reported_ns: int = 600 * _SECOND_NS
    """After its report a session stays open for so long."""

    def __post_init__(self) -> None:
        if not self.cues or self.cues[0].name != REST or len({cue.name for cue in self.cues}) != len(self.cues):
            raise ValueError(f"`cues` should begin with {REST!r} and hold each cue once.")
        times = (self.countdown_ns, self.judging_ns, self.fitting_ns, self.new_fitting_ns, self.patience_ns)
        if min(self.attempts, self.workers, *times, self.reported_ns) <= 0:
            raise ValueError("`attempts`, `workers` and all times should be positive.")


@dataclass(slots=True)
class _Now:
    """What is asked for at the moment."""

    cue: Cue
    attempt: int = 1
    recording: int = 0
    """0 before it has begun."""
    begins_ns: int = 0


@dataclass(slots=True)
class Session:
    """One calibration of one wearer. Final."""

    config: SessionConfig = field(default_factory=SessionConfig)
    state: State = State.CONSENT
    wakes_ns: int | None = None
    """When `handle(Passed(...))` is due, if nothing else happens before."""
    accepted: dict[str, int] = field(default_factory=dict)
    """Cue -> number of its accepted recording."""
    _now: _Now | None = None
    _queue: list[Cue] = field(default_factory=list)
    _recordings: int = 0
    _fit: int = 0
    _fitted: Fitted | None = None
    _lost_ns: int | None = None
    _sits_otherwise: bool = False
    """The headset was taken off since the accepted recordings were made."""
    _workers_lost: int = 0
    _clock_ns: int = 0

    def begin(self, t_ns: int) -> list[Wish]:
        """Once, before the first event."""
        self._queue = list(self.config.cues)
        self._clock_ns = t_ns
        self.wakes_ns = t_ns + self.config.patience_ns
        return [AskConsent()]

    def handle(self, event: Event) -> list[Wish]:  # noqa: PLR0911 - one line for each event
        """What is to be done after this event, in this order."""
        self._clock_ns = max(self._clock_ns, event.t_ns)  # a clock that jumps back makes nothing longer
        if self.state is State.ENDED:
            return []
        match event:
            case Cancelled():
                return self._end(Outcome.CLOSED if self.state is State.REPORTED else Outcome.CANCELLED)
            case HeadsetLost():
                return self._lose()
            case HeadsetBack():
                return self._come_back()
            case Skipped():
                return self._skip()
            case Redone(cue=cue):
                return self._redo(cue)
            case WorkerLost(kept=kept):
                return self._replace_worker(kept)
            case Passed():
                return self._wake()
            case Consented():
                return self._next() if self.state is State.CONSENT else []
            case Judged():
                return self._judge(event)
            case Fitted() | Promoted() | Failed():
                return self._learn(event)

    # Cues

    def _next(self) -> list[Wish]:
        """The next cue, or the fit when there is none left."""
        if not self._queue:
            self._now = None
            return self._begin_fit()
        self._now = _Now(self._queue.pop(0))
        return self._announce()

    def _announce(self) -> list[Wish]:
        now = self._now
        assert now is not None
        if self._lost_ns is not None:
            self.state, self.wakes_ns = State.PAUSED, self._lost_ns + self.config.patience_ns
            return [Pause()]
        now.recording, now.begins_ns = 0, self._clock_ns + self.config.countdown_ns
        self.state, self.wakes_ns = State.COUNTDOWN, now.begins_ns
        ends_ns = now.begins_ns + _length_ns(now.cue)
        return [Announce(now.cue.name, now.attempt, now.begins_ns, ends_ns, len(self._queue))]

    def _wake(self) -> list[Wish]:  # noqa: PLR0911 - one for each state
        if self.wakes_ns is None or self._clock_ns < self.wakes_ns:
            return []
        now = self._now
        match self.state:
            case State.COUNTDOWN if now is not None:
                self._recordings += 1
                now.recording, now.begins_ns = self._recordings, self._clock_ns
                self.state, self.wakes_ns = State.RECORDING, self._clock_ns + _length_ns(now.cue)
                return [BeginRecording(now.recording, now.cue.name)]
            case State.RECORDING if now is not None:
                self.state, self.wakes_ns = State.JUDGING, self._clock_ns + self.config.judging_ns
                return [EndRecording(now.recording)]
            case State.JUDGING if now is not None:
                return [*self._discard(), *self._refuse("No judgement came in time.")]
            case State.FITTING | State.STORING:
                return self._report(None, "The fit took too long.")
            case State.REPORTED:
                return self._end(Outcome.CLOSED)
            case _:  # without consent, or without frames, for too long
                return self._end(Outcome.CANCELLED if self.state is State.CONSENT else Outcome.LOST)

    def _judge(self, judged: Judged) -> list[Wish]:
        now = self._now
        if self.state is not State.JUDGING or now is None or judged.recording != now.recording:
            return []
        recording, now.recording = now.recording, 0
        if judged.refusal is not None:
            return self._refuse(judged.refusal)
        self.accepted[now.cue.name] = recording
        return [Accepted(now.cue.name, recording), *self._next()]

    def _refuse(self, reason: str) -> list[Wish]:
        """Asks again, or goes on without; what was accepted before of this cue stays."""
        now = self._now
        assert now is not None
        again = now.attempt < self.config.attempts
        told = Refused(now.cue.name, reason, again)
        if again:
            now.attempt += 1
            return [told, *self._announce()]
        return [told, *self._leave_out(now.cue)]

    def _leave_out(self, cue: Cue) -> list[Wish]:
        if cue.name == REST and REST not in self.accepted:
            return self._end(Outcome.NO_REST)
        return self._next()

    def _skip(self) -> list[Wish]:
        now = self._now
        if now is None or self.state not in (State.COUNTDOWN, State.RECORDING, State.JUDGING, State.PAUSED):
            return [Declined("skip", "no cue is asked for")]
        if now.cue.name == REST and REST not in self.accepted:
            return [Declined("skip", "everything is measured from the resting face")]
        return [*self._discard(), *self._next()]

    def _redo(self, name: str) -> list[Wish]:
        cue = next((cue for cue in self.config.cues if cue.name == name), None)
        if cue is None:
            return [Declined("redo", f"{name[:40]!a} is no cue of this session")]
        if self.state in (State.CONSENT, State.FITTING, State.STORING):
            return [Declined("redo", "not now")]
        now = self._now
        if now is not None and now.cue is cue:  # from its start, with all attempts
            discarded, now.attempt = self._discard(), 1
            return [*discarded, *self._announce()]
        if cue in self._queue:
            return [Declined("redo", "the cue is still to come")]
        if now is not None:
            self._queue.insert(0, cue)
            return []
        forgotten = self._forget()
        needs_rest = REST not in self.accepted and cue.name != REST
        self._queue = [self.config.cues[0], cue] if needs_rest else [cue]
        return [*forgotten, *self._next()]

    def _discard(self) -> list[Wish]:
        """Of the recording that runs or waits, if one does."""
        now = self._now
        if now is None or not now.recording or self.state not in (State.RECORDING, State.JUDGING):
            return []
        recording, now.recording = now.recording, 0
        return [DiscardRecording(recording)]

    # Trouble

    def _lose(self) -> list[Wish]:
        if self._lost_ns is not None:
            return []
        self._lost_ns = self._clock_ns
        if self.state in (State.COUNTDOWN, State.RECORDING):
            return [*self._discard(), *self._announce()]
        return []

    def _come_back(self) -> list[Wish]:
        if self._lost_ns is None:
            return []
        away_ns, self._lost_ns = self._clock_ns - self._lost_ns, None
        self._sits_otherwise |= away_ns > self.config.new_fitting_ns and bool(self.accepted)
        if self.state in (State.PAUSED, State.JUDGING) and self._sits_otherwise:
            discarded = self._discard()
            return [*discarded, *self._forget(), *self._next()]
        return self._announce() if self.state is State.PAUSED else []

    def _forget(self) -> list[Wish]:
        """Lets go of recordings made before the headset was taken off; those cues are asked for again."""
        if not self._sits_otherwise:
            return []
        self._sits_otherwise = False
        forgotten, self.accepted = list(self.accepted), {}
        if self.state is not State.REPORTED:
            self._ask_again(forgotten)
        return [ForgetTakes()] if forgotten else []

    def _replace_worker(self, kept: frozenset[str]) -> list[Wish]:
        gone = [name for name in self.accepted if name not in kept]
        for name in gone:
            del self.accepted[name]
        self._workers_lost += 1
        if self._workers_lost >= self.config.workers:
            return self._end(Outcome.FAILED)
        if self.state in (
            State.CONSENT,
            State.STORING,
            State.REPORTED,
        ):  # a head that is being stored has left the worker
            return []
        discarded = self._discard()
        self._ask_again(gone)
        return [*discarded, *self._forget(), *self._next()]

    def _ask_again(self, names: Iterable[str]) -> None:
        """Asks for these cues, for the present one, and for those still to come, in the order of the session."""
        wanted = {*names, *(cue.name for cue in self._queue)}
        if self._now is not None:
            wanted.add(self._now.cue.name)
        self._queue = [cue for cue in self.config.cues if cue.name in wanted]

    # Learning

    def _begin_fit(self) -> list[Wish]:
        assert REST in self.accepted  # it cannot be skipped, and a session ends where it is left out
        if len(self.accepted) == 1 and not self.config.rest_teaches:
            return self._end(Outcome.NOTHING_TO_LEARN)
        self._fit += 1
        self._fitted = None
        self.state, self.wakes_ns = State.FITTING, self._clock_ns + self.config.fitting_ns
        return [BeginFit(self._fit, dict(self.accepted))]

    def _learn(self, event: Fitted | Promoted | Failed) -> list[Wish]:
        if event.fit != self._fit:
            return []
        match self.state, event:
            case State.FITTING, Fitted(better=better):
                self._fitted = event
                if not better:
                    return self._report(None, None)
                self.state = State.STORING
                return [Promote(event.fit)]
            case State.STORING, Promoted(version=version):
                return self._report(version, None)
            case ((State.FITTING | State.STORING), Failed(reason=reason)):
                return self._report(None, reason)
            case _:
                return []

    def _report(self, version: int | None, failure: str | None) -> list[Wish]:
        self.state, self.wakes_ns = State.REPORTED, self._clock_ns + self.config.reported_ns
        report = {} if self._fitted is None else self._fitted.report
        told = Report(self._fit, version, report, failure)
        return [told, *self._end(Outcome.CLOSED)] if self.config.rest_teaches else [told]

    def _end(self, outcome: Outcome) -> list[Wish]:
        discarded = self._discard()
        self.state, self.wakes_ns, self._now = State.ENDED, None, None
        return [*discarded, Ended(outcome)]


def _length_ns(cue: Cue) -> int:
    return round(cue.seconds * _SECOND_NS)
