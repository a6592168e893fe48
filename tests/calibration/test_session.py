"""The session: stories of one calibration that goes as it should."""

import pytest

from calibration.session import Session, SessionConfig, State
from calibration.session_events import (
    Announce,
    AskConsent,
    BeginFit,
    BeginRecording,
    Cancelled,
    Consented,
    Declined,
    DiscardRecording,
    Ended,
    Judged,
    Outcome,
    Passed,
    Promote,
    Redone,
    Refused,
    Report,
    Skipped,
)
from model_export.contract import CUES, SCRIPT, Cue
from tests.calibration.session_driver import NAMES, SECOND_NS, Driver


def test_a_calibration_goes_from_consent_over_every_cue_to_a_live_head(driver: Driver) -> None:
    driver.until(State.REPORTED)
    assert driver.told[0] == AskConsent()
    assert driver.asked() == NAMES
    assert driver.of(BeginFit) == [BeginFit(1, dict(zip(NAMES, range(1, 5), strict=True)))]
    assert driver.told[-2:] == [Promote(1), Report(1, 7, {"rmse": 0.1})]
    assert driver.send(Cancelled(driver.t_ns)) == [Ended(Outcome.CLOSED)]


def test_the_shipped_cues_take_less_than_two_minutes() -> None:
    driver = Driver(Session()).begin().until(State.FITTING)
    assert driver.asked() == [cue.name for cue in SCRIPT]
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


@pytest.mark.parametrize(
    "wrong", [{"cues": ()}, {"cues": CUES[1:3]}, {"cues": (CUES[0], CUES[0])}, {"attempts": 0}, {"countdown_ns": 0}]
)
def test_a_configuration_that_cannot_be_is_refused(wrong: dict[str, tuple[Cue, ...] | int]) -> None:
    with pytest.raises(ValueError, match="should"):
        SessionConfig(**wrong)  # type: ignore[arg-type]
