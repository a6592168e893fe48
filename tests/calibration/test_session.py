"""The session: stories of one calibration, and promises that no sequence of events breaks."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.session import Session, SessionConfig, State
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
from model_export.contract import CUES, Cue

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


@pytest.fixture
def driver() -> Driver:
    return Driver().begin()


def test_a_calibration_goes_from_consent_over_every_cue_to_a_live_head(driver: Driver) -> None:
    driver.until(State.REPORTED)
    assert driver.told[0] == AskConsent()
    assert driver.asked() == NAMES
    assert driver.of(BeginFit) == [BeginFit(1, dict(zip(NAMES, range(1, 5), strict=True)))]
    assert driver.told[-2:] == [Promote(1), Report(1, 7, {"rmse": 0.1})]
    assert driver.send(Cancelled(driver.t_ns)) == [Ended(Outcome.CLOSED)]


def test_the_shipped_cues_take_less_than_two_minutes() -> None:
    driver = Driver(Session()).begin().until(State.FITTING)
    assert driver.asked() == [cue.name for cue in CUES]
    assert driver.t_ns < 120 * SECOND_NS


def test_re_centring_asks_for_rest_alone_and_ends_with_its_report() -> None:
    driver = Driver(Session(SessionConfig(cues=CUES[:1], rest_teaches=True))).begin()
    driver.refusals = {"rest": ["The face should be still."]}
    driver.until(State.ENDED)
    assert driver.asked() == ["rest", "rest"]
    assert driver.of(BeginFit) == [BeginFit(1, {"rest": 2})]
    assert driver.told[-3:] == [Promote(1), Report(1, 7, {"rmse": 0.1}), Ended(Outcome.CLOSED)]


def test_re_centring_that_would_not_be_better_ends_with_its_report_too() -> None:
    driver = Driver(Session(SessionConfig(cues=CUES[:1], rest_teaches=True)), better=False).begin()
    driver.until(State.ENDED)
    assert driver.of(Promote) == []
    assert driver.told[-2:] == [Report(1, None, {"rmse": 0.1}), Ended(Outcome.CLOSED)]


def test_each_cue_is_announced_with_its_times(driver: Driver) -> None:
    (announced,) = driver.send(Consented(5))
    assert announced == Announce("rest", 1, 5 + 2 * SECOND_NS, 5 + 5 * SECOND_NS, 3)
    assert driver.session.wakes_ns == 5 + 2 * SECOND_NS
    assert driver.send(Passed(SECOND_NS)) == []
    assert driver.wait() == [BeginRecording(1, "rest")]


def test_a_refused_take_is_asked_again_with_its_reason_and_left_out_after_three(driver: Driver) -> None:
    driver.refusals = {"smile": ["too weak"] * 3}
    driver.until(State.FITTING)
    assert driver.of(Refused) == [
        Refused("smile", "too weak", True),
        Refused("smile", "too weak", True),
        Refused("smile", "too weak", False),
    ]
    assert driver.asked() == ["rest", "jaw_open", "smile", "smile", "smile", "frown"]
    assert list(driver.session.accepted) == ["rest", "jaw_open", "frown"]


def test_without_a_usable_rest_there_is_nothing_to_measure_from(driver: Driver) -> None:
    driver.refusals = {"rest": ["dark"] * 3}
    driver.until(State.ENDED)
    assert driver.told[-1] == Ended(Outcome.NO_REST)


def test_rest_cannot_be_skipped_and_everything_else_can(driver: Driver) -> None:
    driver.send(Consented(0))
    assert driver.send(Skipped(0)) == [Declined("skip", "everything is measured from the resting face")]
    driver.perform()
    for _ in NAMES[1:]:
        driver.send(Skipped(driver.t_ns))
    assert driver.told[-1] == Ended(Outcome.NOTHING_TO_LEARN)


def test_skipping_discards_a_running_recording(driver: Driver) -> None:
    driver.send(Consented(0))
    driver.perform()
    driver.wait()
    discarded, announced = driver.send(Skipped(driver.t_ns))
    assert discarded == DiscardRecording(2)
    assert isinstance(announced, Announce)
    assert announced.cue == "smile"


def test_a_judgement_of_a_discarded_recording_changes_nothing(driver: Driver) -> None:
    driver.send(Consented(0))
    driver.perform()
    driver.wait()
    driver.send(Skipped(driver.t_ns))
    assert driver.send(Judged(driver.t_ns, 2, None)) == []
    assert list(driver.session.accepted) == ["rest"]


def test_a_cue_can_be_redone_while_others_are_asked_for(driver: Driver) -> None:
    driver.send(Consented(0))
    driver.perform()
    driver.perform()
    assert driver.send(Redone(driver.t_ns, "jaw_open")) == []
    driver.until(State.FITTING)
    assert driver.asked() == ["rest", "jaw_open", "smile", "jaw_open", "frown"]
    assert driver.session.accepted["jaw_open"] == 4


def test_a_refused_redo_leaves_what_was_accepted_before(driver: Driver) -> None:
    driver.until(State.REPORTED)
    driver.refusals = {"smile": ["too weak"] * 3}
    driver.send(Redone(driver.t_ns, "smile"))
    driver.until(State.FITTING)
    assert driver.session.accepted["smile"] == 3


def test_a_single_cue_is_redone_after_the_report_and_fitted_with_the_others(driver: Driver) -> None:
    driver.until(State.REPORTED)
    driver.send(Redone(driver.t_ns, "smile"))
    driver.until(State.REPORTED)
    assert driver.of(BeginFit)[-1] == BeginFit(2, {"rest": 1, "jaw_open": 2, "smile": 5, "frown": 4})


@pytest.mark.parametrize(("name", "reason"), [("grin", "'grin' is no cue"), ("frown", "still to come")])
def test_what_cannot_be_redone_is_declined(driver: Driver, name: str, reason: str) -> None:
    driver.send(Consented(0))
    (declined,) = driver.send(Redone(0, name))
    assert isinstance(declined, Declined)
    assert reason in declined.reason


def test_a_worse_head_is_not_promoted(driver: Driver) -> None:
    driver.better = False
    driver.until(State.REPORTED)
    assert driver.told[-1] == Report(1, None, {"rmse": 0.1})
    assert not driver.of(Promote)


def test_a_failed_fit_is_told_and_can_be_tried_again(driver: Driver) -> None:
    driver.until(State.FITTING)
    assert driver.send(Failed(driver.t_ns, 1, "no memory")) == [Report(1, None, {}, "no memory")]
    assert driver.send(Promoted(driver.t_ns, 1, 3)) == []
    driver.send(Redone(driver.t_ns, "frown"))
    driver.until(State.REPORTED)
    assert driver.told[-1] == Report(2, 7, {"rmse": 0.1})


def test_a_fit_that_never_ends_is_given_up(driver: Driver) -> None:
    driver.until(State.FITTING)
    (told,) = driver.wait()
    assert isinstance(told, Report)
    assert told.failure == "The fit took too long."
    assert driver.send(Fitted(driver.t_ns, 1, True, {})) == []


def test_a_short_gap_of_the_headset_repeats_the_cue_and_keeps_the_rest(driver: Driver) -> None:
    driver.send(Consented(0))
    driver.perform()
    driver.wait()
    assert driver.send(HeadsetLost(driver.t_ns)) == [DiscardRecording(2), Pause()]
    driver.t_ns += SECOND_NS
    (announced,) = driver.send(HeadsetBack(driver.t_ns))
    assert isinstance(announced, Announce)
    assert (announced.cue, announced.attempt) == ("jaw_open", 1)
    assert list(driver.session.accepted) == ["rest"]


def test_a_headset_taken_off_begins_with_rest_again(driver: Driver) -> None:
    driver.send(Consented(0))
    driver.perform()
    driver.perform()
    driver.send(HeadsetLost(driver.t_ns))
    driver.t_ns += 10 * SECOND_NS
    forgotten, announced = driver.send(HeadsetBack(driver.t_ns))
    assert forgotten == ForgetTakes()
    assert isinstance(announced, Announce)
    assert announced.cue == "rest"
    driver.until(State.FITTING)
    assert sorted(driver.session.accepted) == sorted(NAMES)


def test_a_headset_taken_off_after_the_report_needs_rest_before_a_redo(driver: Driver) -> None:
    driver.until(State.REPORTED)
    driver.send(HeadsetLost(driver.t_ns))
    driver.t_ns += 10 * SECOND_NS
    assert driver.send(HeadsetBack(driver.t_ns)) == []
    assert driver.send(Redone(driver.t_ns, "smile"))[0] == ForgetTakes()
    driver.until(State.REPORTED)
    assert driver.asked()[-2:] == ["rest", "smile"]
    assert driver.of(BeginFit)[-1] == BeginFit(2, {"rest": 5, "smile": 6})


def test_a_headset_that_stays_away_ends_the_session(driver: Driver) -> None:
    driver.send(Consented(0))
    driver.send(HeadsetLost(0))
    assert driver.wait() == [Ended(Outcome.LOST)]


def test_consent_that_never_comes_ends_the_session(driver: Driver) -> None:
    assert driver.wait() == [Ended(Outcome.CANCELLED)]


def test_takes_of_a_dead_worker_are_asked_again_unless_they_are_on_disk(driver: Driver) -> None:
    driver.until(State.FITTING)
    (announced,) = driver.send(WorkerLost(driver.t_ns, frozenset(["rest", "smile"])))
    assert isinstance(announced, Announce)
    assert announced.cue == "jaw_open"
    driver.until(State.REPORTED)
    assert driver.asked()[4:] == ["jaw_open", "frown"]
    assert driver.of(BeginFit)[-1] == BeginFit(2, {"rest": 1, "smile": 3, "jaw_open": 5, "frown": 6})


def test_a_worker_that_dies_fitting_kept_takes_costs_no_cue(driver: Driver) -> None:
    driver.until(State.FITTING)
    assert driver.send(WorkerLost(driver.t_ns, frozenset(NAMES))) == [BeginFit(2, driver.session.accepted)]


def test_workers_that_always_die_end_the_session(driver: Driver) -> None:
    driver.send(Consented(0))
    for _ in range(2):
        driver.send(WorkerLost(driver.t_ns))
    assert driver.send(WorkerLost(driver.t_ns)) == [Ended(Outcome.FAILED)]


def test_a_clock_that_jumps_back_makes_nothing_longer(driver: Driver) -> None:
    driver.t_ns = 100 * SECOND_NS
    driver = Driver(t_ns=driver.t_ns).begin()
    driver.send(Consented(driver.t_ns))
    driver.send(Passed(0))
    assert driver.session.wakes_ns == driver.t_ns + 2 * SECOND_NS


@pytest.mark.parametrize(
    "wrong", [{"cues": ()}, {"cues": CUES[1:3]}, {"cues": (CUES[0], CUES[0])}, {"attempts": 0}, {"countdown_ns": 0}]
)
def test_a_configuration_that_cannot_be_is_refused(wrong: dict[str, tuple[Cue, ...] | int]) -> None:
    with pytest.raises(ValueError, match="should"):
        SessionConfig(**wrong)  # type: ignore[arg-type]


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
