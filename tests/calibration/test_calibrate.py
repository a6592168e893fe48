"""From takes to a head that is better or not used: what it learns, what it refuses to learn, what it reports."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.calibrate import CalibrateConfig, Calibration, calibrate
from calibration.features import answers_of
from calibration.fit import FitConfig
from calibration.material import FitTake
from calibration.rested import rest_features
from model_export.contract import EU_INDEX, LAST_COUNT, MOUTH_EUS, Camera, HeadError, read_head, write_head
from tests.bundles import make_resting
from tests.calibration.synthetic_wearer import (
    calibration_takes,
    cue_take,
    own_head,
    same_heads,
    universal,
    with_targets,
)

HEAD = universal()
OWN = own_head(HEAD, gain=1.4, offset=0.1)
QUICK = CalibrateConfig(fit=FitConfig(eye_pull=1.0, mouth_pull=1.0))
JAW = EU_INDEX["jawOpen"]


@pytest.fixture(scope="module")
def calibrated() -> Calibration:
    return calibrate(calibration_takes(HEAD, OWN), HEAD, config=QUICK)


def errors(calibration: Calibration, take: FitTake) -> NDArray[np.float32]:
    difference_TE = answers_of(calibration.head, take.seen).values_TE - take.targets.values_TE
    return np.asarray(np.sqrt((difference_TE**2).mean(axis=0)), np.float32)


def test_a_wearer_with_an_own_range_gets_a_better_head(calibrated: Calibration) -> None:
    assert calibrated.better
    fresh = cue_take(HEAD, OWN, "jaw_open", seed=50)
    before = errors(Calibration(HEAD, {}, better=False), fresh)[JAW]
    assert errors(calibrated, fresh)[JAW] < 0.7 * before


def test_the_report_says_of_each_eu_what_changed_and_is_kept_in_the_head(calibrated: Calibration) -> None:
    report = calibrated.head.report
    assert report == calibrated.report
    jaw, never_asked = report["eus"]["jawOpen"], report["eus"]["jawForward"]
    assert jaw["after"] < jaw["before"]
    assert jaw["source"] == "fitted"
    assert jaw["repetitions"] >= 2
    assert never_asked["source"] == "old"
    assert report["summary"]["mean_after"] < report["summary"]["mean_before"]
    assert read_head(write_head(calibrated.head)).report == report


def test_no_eu_is_worse_on_held_out_frames(calibrated: Calibration) -> None:
    for name, eu in calibrated.report["eus"].items():
        assert eu["before"] is None or eu["after"] <= eu["before"] + 1e-6, name


def test_eus_that_no_take_asked_for_answer_as_before(calibrated: Calibration) -> None:
    fresh = cue_take(HEAD, OWN, "smile", seed=51)
    old_TE, new_TE = (answers_of(head, fresh.seen).values_TE for head in (HEAD, calibrated.head))
    for name in ("jawForward", "mouthShrugUpper", "browDownLeft", "pupilDilateRight"):
        np.testing.assert_allclose(new_TE[:, EU_INDEX[name]], old_TE[:, EU_INDEX[name]], atol=2e-4)


def test_the_rest_take_moves_what_no_cue_asks_for() -> None:
    takes = calibration_takes(HEAD, OWN)
    rest = rest_features([take.seen for take in takes])
    rest_F = rest[Camera.MOUTH][:LAST_COUNT]
    forward = MOUTH_EUS.index("jawForward")
    shift_FO = np.zeros((LAST_COUNT, 33), np.float32)
    shift_FO[:, forward] = 0.07 / LAST_COUNT
    resting = make_resting(mouth_mean_F=rest_F - 1, mouth_shift_FO=shift_FO)
    found = calibrate(takes, HEAD, config=QUICK, rest=rest, resting=resting)
    assert found.report["eus"]["jawForward"]["source"] == "rested"
    assert found.report["eus"]["jawOpen"]["source"] == "fitted"
    assert found.report["summary"]["eus_better"] == sum(
        eu["source"] == "fitted" and eu["before"] is not None and not name.startswith("gaze")
        for name, eu in found.report["eus"].items()
    )
    fresh = cue_take(HEAD, OWN, "smile", seed=51)
    old_TO, new_TO = (head.mouth.apply(fresh.seen.features[Camera.MOUTH]) for head in (HEAD, found.head))
    np.testing.assert_allclose(new_TO[:, forward] - old_TO[:, forward], 0.07, atol=1e-3)
    kept = read_head(write_head(found.head))
    np.testing.assert_array_equal(kept.rest[Camera.MOUTH], rest_F)
    for known in (kept.neutral, kept.reference):
        np.testing.assert_array_equal(known[Camera.MOUTH], rest[Camera.MOUTH][LAST_COUNT:])


def test_version_and_parent_count_up(calibrated: Calibration) -> None:
    assert (calibrated.head.head_version, calibrated.head.parent) == (1, 0)
    assert calibrated.head.backbone_digest == HEAD.backbone_digest
    later = calibrate(calibration_takes(HEAD, own_head(HEAD, 0.6)), HEAD, calibrated.head, QUICK)
    assert (later.head.head_version, later.head.parent) == (2, 1)


def test_a_wearer_for_whom_the_head_is_right_keeps_it_itself() -> None:
    found = calibrate(calibration_takes(HEAD, HEAD, noise=0.0), HEAD, config=QUICK)
    assert not found.better
    assert found.head is HEAD


def test_takes_of_rest_alone_fit_nothing() -> None:
    found = calibrate([cue_take(HEAD, OWN, "rest")], HEAD, config=QUICK)
    assert found.head is HEAD


def test_no_take_at_all_leaves_the_old_head() -> None:
    found = calibrate([], HEAD, config=QUICK)
    assert (found.better, found.head) == (False, HEAD)
    assert found.report["summary"] == {"eus_judged": 0, "eus_better": 0, "mean_before": None, "mean_after": None}


def test_targets_of_which_nothing_is_known_leave_the_old_head() -> None:
    takes = [
        with_targets(take, confidence_TE=np.zeros_like(take.targets.confidence_TE))
        for take in calibration_takes(HEAD, OWN)
    ]
    assert calibrate(takes, HEAD, config=QUICK).head is HEAD


def test_a_repetition_of_which_targets_say_that_nothing_moved_does_no_harm() -> None:
    takes = calibration_takes(HEAD, HEAD, noise=0.0)
    for number, take in enumerate(takes[1:], 1):
        values_TE = take.targets.values_TE.copy()
        values_TE[take.targets.repetition_T == 1] = 0.0
        takes[number] = with_targets(take, values_TE=values_TE)
    found = calibrate(takes, HEAD, config=QUICK)
    fresh = cue_take(HEAD, HEAD, "smile", seed=52)
    assert errors(found, fresh).max() < 0.05


def test_a_missing_camera_keeps_its_head() -> None:
    takes = [
        FitTake(replace(take.seen, features={Camera.MOUTH: take.seen.features[Camera.MOUTH]}), take.targets)
        for take in calibration_takes(HEAD, OWN)
    ]
    found = calibrate(takes, HEAD, config=QUICK)
    assert found.better
    assert found.head.left_eye is HEAD.left_eye
    assert not np.array_equal(found.head.mouth.bias_O, HEAD.mouth.bias_O)


def test_an_infinite_pull_leaves_the_head_in_use() -> None:
    found = calibrate(
        calibration_takes(HEAD, OWN), HEAD, config=CalibrateConfig(fit=FitConfig(eye_pull=np.inf, mouth_pull=np.inf))
    )
    assert found.head is HEAD


def test_a_head_of_other_backbones_is_refused() -> None:
    with pytest.raises(HeadError, match="Calibrate again with the bundle in use"):
        calibrate([], HEAD, replace(HEAD, backbone_digest="c" * 64))


def test_the_same_takes_give_the_same_head(calibrated: Calibration) -> None:
    again = calibrate(calibration_takes(HEAD, OWN), HEAD, config=QUICK)
    assert same_heads(again.head, calibrated.head)
