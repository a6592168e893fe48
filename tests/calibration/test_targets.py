"""Targets of calibrations performed well and badly: speckled faces that warp, with known courses."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.segments import Reason
from calibration.take_targets import TakeTargets
from calibration.targets import CalibrationTargets, apex_share, targets_of
from model_export.contract.cues import cue_by_name
from model_export.contract.expression_units import EU_INDEX, EU_NAMES
from model_export.contract.frames import Camera
from model_export.contract.take import Take
from tests.calibration.moving_pictures import CALIBRATION, Person, calibration, speckles

EYES = ("rest", "eyes_closed", "brows_up", "look", "smile")
SHORT = ("rest", "smile", "frown", "jaw_open")


@cache
def whole() -> tuple[tuple[Take, ...], CalibrationTargets]:
    takes = calibration(Person(rate_hz=30.0))
    return tuple(takes), targets_of(takes)


def of(targets: CalibrationTargets, cue: str) -> TakeTargets:
    return next(one for one in targets.accepted if one.cue == cue)


def reasons(targets: CalibrationTargets) -> dict[str, Reason]:
    return {refusal.cue: refusal.reason for refusal in targets.refused}


def test_every_cue_performed_as_asked_is_accepted() -> None:
    takes, targets = whole()
    assert [one.cue for one in targets.accepted] == [take.cue for take in takes]
    assert targets.refused == ()


@pytest.mark.parametrize("name", [name for name in CALIBRATION if cue_by_name(name).eus])
def test_targets_follow_the_truth(name: str) -> None:
    takes, targets = whole()
    take = next(take for take in takes if take.cue == name)
    assert take.values_TE is not None
    one = of(targets, name)
    for index in cue_by_name(name).eu_indices:
        known_T = one.confidence_TE[:, index] > 0
        assert known_T.mean() > 0.6
        r = np.corrcoef(one.values_TE[known_T, index], take.values_TE[known_T, index])[0, 1]
        assert r >= 0.93, EU_NAMES[index]


def test_apexes_count_what_people_reach_and_rest_counts_zero() -> None:
    assert apex_share(1) == pytest.approx(0.8)
    assert apex_share(2) == pytest.approx(0.8667, abs=1e-4)
    _, targets = whole()
    smile = of(targets, "smile").values_TE[:, EU_INDEX["mouthSmileLeft"]]
    assert smile[:6].max() < 0.1
    assert smile.max() == pytest.approx(apex_share(2), abs=0.05)


def test_repetitions_are_numbered_and_the_weaker_one_is_weaker() -> None:
    _, targets = whole()
    one = of(targets, "jaw_open")
    assert set(one.repetition_T.tolist()) == {-1, 0, 1}
    jaw = one.values_TE[:, EU_INDEX["jawOpen"]]
    peaks = [float(jaw[one.repetition_T == number].max()) for number in (0, 1)]
    assert peaks[1] / peaks[0] == pytest.approx(0.8, abs=0.1)


def test_lids_gaze_and_pupils_are_unknown_outside_their_own_cues() -> None:
    _, targets = whole()
    for one in targets.accepted:
        own = cue_by_name(one.cue).eus
        for name, index in EU_INDEX.items():
            if name.startswith(("eyeBlink", "pupil")) or (name.startswith("eyeLook") and one.cue != "look"):
                assert name in own or not one.confidence_TE[:, index].any()


def test_eus_that_a_take_did_not_ask_for_have_no_label() -> None:
    _, targets = whole()
    for one in targets.accepted:
        cue = cue_by_name(one.cue)
        if cue.eus:
            assert {name for name, index in EU_INDEX.items() if one.confidence_TE[:, index].any()} == set(cue.eus)


def test_frames_of_a_blink_have_no_labels_of_that_eye() -> None:
    person = Person(spoil=lambda cue, camera, t, frame: closed(t, frame) if cue == "brows_up" and camera < 2 else frame)
    names = ("rest", "eyes_closed", "brows_up")
    one = of(targets_of(calibration(person, names)), "brows_up")
    assert not one.confidence_TE[22:24, EU_INDEX["browInnerUpLeft"]].any()
    assert one.confidence_TE[:, EU_INDEX["browInnerUpLeft"]].mean() > 0.4


def closed(t: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not 22 <= t < 24:
        return frame
    shut = frame.copy()
    shut[40:90, 40:90] = speckles(0)[40:90, 40:90]
    return shut


def test_dots_give_gaze_in_degrees() -> None:
    _, targets = whole()
    one = of(targets, "look")
    assert one.gaze_T4 is not None
    dots_D2 = np.array(cue_by_name("look").dots_deg)
    late_T = np.arange(len(one)) % (len(one) / len(dots_D2)) > 0.6 * len(one) / len(dots_D2)
    wanted_T2 = dots_D2[one.repetition_T]
    away_T2 = np.abs(one.gaze_T4[late_T][:, :2] - wanted_T2[late_T])
    assert float(np.nanmedian(away_T2)) < 4.0
    assert one.values_TE[:, EU_INDEX["eyeLookOutLeft"]].max() > 0.4


def test_a_smile_when_asked_to_frown_is_refused_and_harms_no_other_take() -> None:
    targets = targets_of(calibration(Person(performs={"frown": "smile"}), SHORT))
    assert reasons(targets) == {"frown": Reason.WRONG_MOVEMENT}
    refusal = targets.refused[0]
    assert "up" in refusal.found
    assert str(refusal).endswith(refusal.remedy)
    assert len(targets.accepted) == len(SHORT) - 1


def test_an_empty_take_and_a_wearer_who_cannot_do_it_are_refused() -> None:
    targets = targets_of(calibration(Person(unable=("pucker",)), (*SHORT, "pucker")))
    assert set(reasons(targets)) == {"pucker"}
    assert len(targets.accepted) == len(SHORT)


def test_fifteen_frames_a_second_are_enough() -> None:
    takes = calibration(Person(rate_hz=15.0), SHORT)
    targets = targets_of(takes)
    assert targets.refused == ()
    one, take = of(targets, "smile"), takes[SHORT.index("smile")]
    assert take.values_TE is not None
    index = EU_INDEX["mouthSmileLeft"]
    assert np.corrcoef(one.values_TE[:, index], take.values_TE[:, index])[0, 1] > 0.93


def test_a_dark_take_is_refused_as_dark() -> None:
    person = Person(spoil=lambda cue, _camera, _t, frame: frame // 60 if cue == "smile" else frame)
    targets = targets_of(calibration(person, SHORT))
    assert reasons(targets) == {"smile": Reason.DARK}


def test_a_covered_camera_is_refused_as_covered() -> None:
    other = speckles(99)
    person = Person(spoil=lambda cue, camera, _t, frame: other if cue == "smile" and camera == 2 else frame)
    targets = targets_of(calibration(person, SHORT))
    assert reasons(targets) == {"smile": Reason.COVERED}


def test_a_calibration_that_is_dark_throughout_refuses_every_take() -> None:
    person = Person(spoil=lambda _cue, _camera, _t, frame: frame // 60)
    targets = targets_of(calibration(person, SHORT))
    assert targets.accepted == ()
    assert len(targets.refused) == len(SHORT)
    assert set(reasons(targets).values()) == {Reason.NO_REST}


def test_without_a_mouth_camera_the_eyes_are_still_learned() -> None:
    targets = targets_of(calibration(Person(cameras=(Camera.LEFT_EYE, Camera.RIGHT_EYE)), EYES))
    assert set(reasons(targets).values()) == {Reason.CAMERA_MISSING}
    assert {one.cue for one in targets.accepted} == {"rest", "eyes_closed", "brows_up", "look"}


def test_without_one_eye_the_other_is_learned_and_nothing_is_said_of_the_missing_one() -> None:
    targets = targets_of(calibration(Person(cameras=(Camera.LEFT_EYE, Camera.MOUTH)), EYES))
    one = of(targets, "brows_up")
    assert one.confidence_TE[:, EU_INDEX["browInnerUpLeft"]].any()
    assert not any(two.confidence_TE[:, 12:24].any() for two in targets.accepted)


def test_frames_that_never_came_have_no_labels() -> None:
    person = Person(spoil=lambda cue, _camera, t, frame: None if cue == "smile" and 30 <= t < 33 else frame)
    one = of(targets_of(calibration(person, SHORT)), "smile")
    assert not one.confidence_TE[30:33].any()


def test_without_a_rest_the_starts_of_the_takes_stand_in() -> None:
    targets = targets_of(calibration(Person(), ("smile", "frown", "jaw_open")))
    assert {one.cue for one in targets.accepted} == {"smile", "frown", "jaw_open"}


def test_a_single_take_of_a_calibration_can_be_judged_alone() -> None:
    targets = targets_of(calibration(Person(), ("rest", "smile")))
    assert targets.refused == ()


def test_free_movement_teaches_nothing_and_changes_nothing() -> None:
    takes = calibration(Person(), (*SHORT, "free"))
    with_it, without = targets_of(takes), targets_of(takes[:-1])
    assert [one.cue for one in with_it.accepted] == [one.cue for one in without.accepted]
    assert with_it.refused == without.refused
    for one, same in zip(with_it.accepted, without.accepted, strict=True):
        np.testing.assert_array_equal(one.values_TE, same.values_TE)
        np.testing.assert_array_equal(one.confidence_TE, same.confidence_TE)


def test_no_takes_give_no_targets() -> None:
    assert targets_of([]) == CalibrationTargets((), ())
