"""Calibrations that are killed: a handful here, hundreds by `python -m benchmarks.kill_calibration`."""

import os
import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kept import WEARER, Kept, check
from benchmarks.kill_calibration import run, spoiled
from benchmarks.killer import SERVICE, WORKER, Plan
from benchmarks.short_calibrations import CUES, hurried, short_session
from benchmarks.simulated_wearer import Calibrated
from calibration.profiles import Profiles
from model_export.contract import Bundle, read_bundle
from service.client import CalibrationTold
from tests.bundles import make_bundle
from tests.calibration.moving_pictures import Person

PERSON = Person(rate_hz=30.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    make_bundle(tmp_path / "bundle")
    return read_bundle(tmp_path / "bundle")


@pytest.fixture
def folder(tmp_path: Path, bundle: Bundle) -> Path:
    """A store with a live head and two takes."""
    with closing(Profiles(tmp_path / "profiles")) as store:
        store.create(WEARER)
        store.give_consent(WEARER, "1", keep_takes=True)
        store.add_head(WEARER, spoiled(bundle, random.Random(0)), live=True)
        for cue in ("rest", "smile"):
            store.add_take(WEARER, PERSON.take(cue))
    return tmp_path / "profiles"


@pytest.mark.slow
@pytest.mark.timeout(600)  # five calibrations, on a machine that may be busy
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does")
def test_killed_calibrations_leave_what_they_had_acknowledged(tmp_path: Path, bundle: Bundle) -> None:
    del bundle
    takes = {cue: PERSON.take(cue) for cue in CUES}
    result = run(tmp_path / "profiles", takes, rounds=4, seed=4, bundle=tmp_path / "bundle")
    assert result["faults"] == []
    assert sum(sum(phases.values()) for phases in result["killed"].values()) == 4
    assert result["takes"]["acknowledged"] > 0


def test_kills_are_drawn_over_the_whole_course_and_at_every_file_of_the_store() -> None:
    random_ = random.Random(0)
    plans = [Plan.drawn(random_, 12.0) for _ in range(400)]
    assert {plan.victim for plan in plans} == {SERVICE, WORKER}
    assert {plan.file for plan in plans} == {0, *range(1, len(CUES) + 2)}, "each take and the head"
    times_s = [plan.after_s for plan in plans if not plan.file]
    assert min(times_s) < 1
    assert max(times_s) > 11


def test_hurried_takes_fit_the_hurried_session() -> None:
    take = PERSON.take("smile")
    fast = hurried(take, 2)
    (cue,) = (cue for cue in short_session(2).cues if cue.name == "smile")
    assert cue.seconds == 1.5
    assert (fast.t_ns[-1] - fast.t_ns[0]) / 1e9 < cue.seconds
    assert len(fast) == len(take) // 2
    assert abs(float(fast.t_ns[1] - fast.t_ns[0]) - 1e9 / PERSON.rate_hz) < 1e3, "the same frame rate"


def told_of(
    *events: str, versions: tuple[int, ...] = (1,), accepted: tuple[str, ...] = (), report: int = 0
) -> Calibrated:
    told = Calibrated([CalibrationTold(event, {}) for event in events], accepted=list(accepted))
    told.head_versions = list(versions)
    told.report = {"head_version": report, "failure": None} if report else None
    return told


def before_of(folder: Path) -> Kept:
    with closing(Profiles(folder)) as store:
        return Kept.of(store)


def test_what_may_be_there_after_a_kill_is_accepted(folder: Path, bundle: Bundle) -> None:
    before = before_of(folder)
    with closing(Profiles(folder)) as store:
        assert check(store, before, told_of()) == before
        store.add_take(WEARER, PERSON.take("rest"))  # written and not told yet
        check(store, before, told_of("judging"))
        check(store, before, told_of("accepted", accepted=("rest",)))
        child = replace(spoiled(bundle, random.Random(1)), head_version=2, parent=1)
        store.add_head(WEARER, child, live=True)
        assert check(store, before, told_of("fitting")).live == 2
        check(store, before, told_of("fitting", "report", versions=(1, 2), report=2))


def test_the_check_sees_what_it_is_there_to_see(folder: Path, bundle: Bundle) -> None:
    before = before_of(folder)
    with closing(Profiles(folder)) as store:
        for wrong, message in (
            (told_of(versions=(3,)), "should begin as 1"),
            (told_of(versions=(1, 2)), "live is 1"),
            (told_of("report", report=2), "should be the reported one, 2"),
            (told_of(accepted=("rest",)), "acknowledged were"),
        ):
            with pytest.raises(AssertionError, match=message):
                check(store, before, wrong)
        with pytest.raises(AssertionError, match="of earlier rounds are lost"):
            check(store, Kept(before.live, before.live_file, before.heads, {**before.takes, 9: "smile"}), told_of())
        with pytest.raises(AssertionError, match="is another one"):
            check(store, Kept(before.live, b"other bytes", before.heads, before.takes), told_of())
        store.add_head(WEARER, spoiled(bundle, random.Random(1)))
        with pytest.raises(AssertionError, match="there and not live"):
            check(store, before, told_of())
        store.make_live(WEARER, 2)
        with pytest.raises(AssertionError, match="of no fit"):
            check(store, before, told_of("judging"))
        with pytest.raises(AssertionError, match="was fitted from None, should be from 1"):
            check(store, before, told_of("fitting"))
        digest = store.profile(WEARER).takes[0].digest
        (folder / "files" / digest).write_bytes(b"half a ta")
        with pytest.raises(Exception, match="another content"):
            check(store, before, told_of("fitting"))
