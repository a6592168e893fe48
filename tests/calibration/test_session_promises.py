"""Promises of the session that no sequence of events breaks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.session import Session, State
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
    Passed,
    Promote,
    Promoted,
    Redone,
    Report,
    Skipped,
    Wish,
    WorkerLost,
)
from tests.calibration.session_driver import NAMES, SECOND_NS, SHORT

SENSIBLE = ("go",) * 16
KINDS = (
    *SENSIBLE,
    *("due", "judged", "passed", "consented", "fitted", "promoted"),
    *("skipped", "redone", "lost", "back", "failed", "worker", "cancelled"),
)
STEPS = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from([0, 0, 0, -1, 1]),
    st.booleans(),
    st.sampled_from([*NAMES, "grin"]),
    st.sampled_from([0, SECOND_NS // 10, 2 * SECOND_NS, 5 * SECOND_NS]),
)
"""What happens; which recording or fit it speaks of, seen from the newest; yes or no; a cue; how long after the step before."""
Step = tuple[str, int, bool, str, int]


def event_of(step: Step, session: Session, t_ns: int) -> Event:
    """Anything that may happen, sensible or not."""
    kind, off, yes, cue, _ = step
    recording, fit = max(0, session._recordings + off), max(0, session._fit + off)
    if kind == "go":
        kind = {
            State.CONSENT: "consented",
            State.JUDGING: "judged",
            State.PAUSED: "back",
            State.FITTING: "fitted",
            State.STORING: "promoted",
            State.REPORTED: "redone",
        }.get(session.state, "due")
    if kind == "cancelled" and off != 1:  # or most sequences would be short
        kind = "passed"
    kept = frozenset(NAMES[: NAMES.index(cue) + 1] if cue in NAMES else ())
    events: dict[str, Event] = {
        "judged": Judged(t_ns, recording, None if yes else "too weak"),
        "consented": Consented(t_ns),
        "fitted": Fitted(t_ns, fit, yes, {}),
        "promoted": Promoted(t_ns, fit, 3),
        "skipped": Skipped(t_ns),
        "redone": Redone(t_ns, cue),
        "lost": HeadsetLost(t_ns),
        "back": HeadsetBack(t_ns),
        "failed": Failed(t_ns, fit, "no memory"),
        "worker": WorkerLost(t_ns, kept),
        "cancelled": Cancelled(t_ns),
    }
    return events.get(kind, Passed(t_ns))


class Witness:
    """Holds every promise against what a session says, and what it was told."""

    def __init__(self) -> None:
        self.consented = False
        self.running: tuple[int, int] | None = None
        self.ended_recordings: dict[int, str] = {}
        self.cues: dict[int, str] = {}
        self.good: dict[str, int] = {}
        self.fits: dict[int, bool] = {}
        self.promoted: set[int] = set()
        self.over = False
        self.lost = False
        self.heard: Event = Passed(0)
        self.newest_fit = 0

    def hear(self, event: Event) -> None:
        self.heard = event
        match event:
            case Consented():
                self.consented = True
            case HeadsetLost():
                self.lost = True
            case HeadsetBack():
                self.lost = False
            case Fitted(fit=fit, better=better):
                self.fits.setdefault(fit, better)
            case WorkerLost(kept=kept):
                self.good = {cue: number for cue, number in self.good.items() if cue in kept}

    def see(self, wish: Wish, t_ns: int) -> None:
        assert not self.over, "nothing comes after the end"
        assert self.consented or isinstance(wish, (AskConsent, Ended, Declined)), "nothing happens before consent"
        match wish:
            case Announce(begins_ns=begins_ns, ends_ns=ends_ns):
                assert t_ns < begins_ns < ends_ns
                assert not self.lost, "nobody is asked for a cue without a headset"
            case BeginRecording(recording=recording, cue=cue):
                assert self.running is None, "one recording at a time"
                assert recording not in self.cues
                assert not self.lost
                self.cues[recording] = cue
                self.running = (recording, t_ns)
            case EndRecording(recording=recording):
                assert self.running is not None
                assert self.running[0] == recording
                seconds = next(cue.seconds for cue in SHORT.cues if cue.name == self.cues[recording])
                assert t_ns - self.running[1] >= seconds * SECOND_NS, "recordings are whole"
                self.running = None
                self.ended_recordings[recording] = self.cues[recording]
            case DiscardRecording(recording=recording):
                assert recording in self.ended_recordings or (self.running is not None and self.running[0] == recording)
                self.running = None
                self.ended_recordings.pop(recording, None)
            case Accepted(cue=cue, recording=recording):
                assert self.ended_recordings.pop(recording) == cue, "only a whole recording is accepted, once"
                assert isinstance(self.heard, Judged)
                assert (self.heard.recording, self.heard.refusal) == (recording, None), "by its own judgement"
                self.good[cue] = recording
            case ForgetTakes():
                self.good.clear()
            case BeginFit(fit=fit, recordings=recordings):
                assert recordings == self.good, "every accepted recording is fitted, and nothing else"
                assert "rest" in recordings
                assert len(recordings) > 1
                assert self.running is None
                assert fit > self.newest_fit
                self.newest_fit = fit
                self.fits.pop(fit, None)
            case Promote(fit=fit):
                assert self.fits[fit], "only a better head is promoted"
                assert fit == self.newest_fit, "and no old one"
                assert fit not in self.promoted, "and only once"
                self.promoted.add(fit)
            case Report(fit=fit, version=version):
                assert version is None or fit in self.promoted
            case Ended():
                assert self.running is None, "no recording outlives its session"
                self.over = True


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=30, max_size=60))
def test_no_sequence_of_events_breaks_a_promise(steps: list[Step]) -> None:
    session, witness, t_ns = Session(SHORT), Witness(), 0
    for wish in session.begin(t_ns):
        witness.see(wish, t_ns)
    for step in steps:
        due = step[0] == "due" or (step[0] == "go" and session.state in (State.COUNTDOWN, State.RECORDING))
        t_ns = max(t_ns, session.wakes_ns or 0) if due else t_ns + step[4]
        event = event_of(step, session, t_ns)
        witness.hear(event)
        for wish in session.handle(event):
            witness.see(wish, t_ns)
        assert (session.state is State.ENDED) == witness.over
        assert session.accepted == witness.good or witness.over
        assert (session.wakes_ns is None) == witness.over, "an open session always wakes up again"
        if isinstance(event, Cancelled):
            assert witness.over, "cancelling works at any time"
            return


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_a_session_left_alone_comes_to_an_end(steps: list[Step]) -> None:
    session, t_ns = Session(SHORT), 0
    session.begin(t_ns)
    for step in steps:
        t_ns += step[4]
        session.handle(event_of(step, session, t_ns))
    for _ in range(60):
        if session.wakes_ns is None:
            break
        t_ns = max(t_ns, session.wakes_ns)
        session.handle(Passed(t_ns))
    assert session.state is State.ENDED
