"""The session when something fails: fits, headsets taken off, workers that die, clocks that jump."""

from calibration.session import State
from calibration.session_events import (
    Announce,
    BeginFit,
    Consented,
    DiscardRecording,
    Ended,
    Failed,
    Fitted,
    ForgetTakes,
    HeadsetBack,
    HeadsetLost,
    Outcome,
    Passed,
    Pause,
    Promoted,
    Redone,
    Report,
    WorkerLost,
)
from tests.calibration.session_driver import NAMES, SECOND_NS, Driver


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
