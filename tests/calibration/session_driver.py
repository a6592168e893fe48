"""Plays a calibration session: a short configuration, time, and a worker that accepts what it is not told to refuse."""

from dataclasses import dataclass, field

from calibration.session import Session, SessionConfig, State
from calibration.session_events import (
    Announce,
    BeginFit,
    BeginRecording,
    Consented,
    EndRecording,
    Event,
    Fitted,
    Judged,
    Passed,
    Promoted,
    Wish,
)
from model_export.contract import CUES

SECOND_NS = 1_000_000_000
SHORT = SessionConfig(cues=(CUES[0], *CUES[7:10]))
"""rest, jaw_open, smile, frown"""
NAMES = [cue.name for cue in SHORT.cues]


@dataclass
class Driver:
    """Plays a session: time, and a worker that accepts what it is not told to refuse."""

    session: Session = field(default_factory=lambda: Session(SHORT))
    t_ns: int = 0
    told: list[Wish] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    better: bool = True
    cue: str = ""

    def begin(self) -> "Driver":
        self.take(self.session.begin(self.t_ns))
        return self

    def take(self, wishes: list[Wish]) -> list[Wish]:
        self.told += wishes
        return wishes

    def send(self, event: Event) -> list[Wish]:
        return self.take(self.session.handle(event))

    def wait(self) -> list[Wish]:
        assert self.session.wakes_ns is not None
        self.t_ns = max(self.t_ns, self.session.wakes_ns)
        return self.send(Passed(self.t_ns))

    def perform(self) -> list[Wish]:
        """From a countdown to the judgement."""
        (begun,) = self.wait()
        assert isinstance(begun, BeginRecording)
        assert self.wait() == [EndRecording(begun.recording)]
        refusals = self.refusals.get(begun.cue, [])
        return self.send(Judged(self.t_ns, begun.recording, refusals.pop(0) if refusals else None))

    def until(self, *states: State) -> "Driver":
        while self.session.state not in states:
            match self.session.state:
                case State.CONSENT:
                    self.send(Consented(self.t_ns))
                case State.COUNTDOWN:
                    self.perform()
                case State.FITTING:
                    self.send(Fitted(self.t_ns, self.fit, self.better, {"rmse": 0.1}))
                case State.STORING:
                    self.send(Promoted(self.t_ns, self.fit, 7))
                case _:
                    raise AssertionError(self.session.state)
        return self

    @property
    def fit(self) -> int:
        return max(wish.fit for wish in self.told if isinstance(wish, BeginFit))

    def of(self, kind: type[Wish]) -> list[Wish]:
        return [wish for wish in self.told if isinstance(wish, kind)]

    def asked(self) -> list[str]:
        return [wish.cue for wish in self.told if isinstance(wish, Announce)]
