"""What a head is fitted to: repetitions stay whole, gaps are filled as stated, missing frames are left out."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.features import TakeFeatures
from calibration.material import EVERY_FIT, FitTake, MaterialConfig, balanced, material_of
from model_export.contract import EU_INDEX, Camera
from tests.calibration.synthetic_wearer import calibration_takes, cue_take, universal, with_targets

HEAD = universal()
MOUTH = Camera.MOUTH
SMILE, JAW = EU_INDEX["mouthSmileLeft"] - 24, EU_INDEX["jawOpen"] - 24


def test_frames_of_one_repetition_are_never_on_both_sides() -> None:
    takes = calibration_takes(HEAD, HEAD)
    # rest before, between and after the repetitions belongs to none, and goes with its neighbour
    repetition_T = takes[4].targets.repetition_T.copy()
    repetition_T[[0, 1, 18, 19, 20, 21, -1]] = -1
    takes[4] = with_targets(takes[4], repetition_T=repetition_T)
    for camera in Camera:
        material = material_of(camera, HEAD[camera], takes)
        for unit in np.unique(material.unit_T):
            assert len(np.unique(material.fold_T[material.unit_T == unit])) == 1
        sides, counts = np.unique(material.fold_T, return_counts=True)
        assert list(sides) == [EVERY_FIT, 0, 1]
        assert counts[1] == counts[2]
        assert (np.diff(np.flatnonzero(np.diff(material.unit_T))) >= 18).all()  # units are whole stretches


def test_only_the_rest_take_is_seen_by_every_fit() -> None:
    takes = calibration_takes(HEAD, HEAD)
    material = material_of(MOUTH, HEAD.mouth, takes)
    assert (material.fold_T[: len(takes[0].seen)] == EVERY_FIT).all()
    assert (material.fold_T[len(takes[0].seen) :] != EVERY_FIT).all()


def test_what_targets_know_is_taken_and_weights_of_an_output_sum_to_one() -> None:
    take = cue_take(HEAD, HEAD, "smile")
    material = material_of(MOUTH, HEAD.mouth, [take])
    np.testing.assert_array_equal(material.targets_TO[:, SMILE], take.targets.values_TE[:, 24 + SMILE])
    np.testing.assert_allclose(material.weights_TO.sum(0)[material.asked_O], 1, atol=1e-5)
    assert not material.weights_TO[:, -1].any()  # nothing is known of confidence


def test_an_eu_that_no_take_asks_for_is_not_fitted() -> None:
    takes = [cue_take(HEAD, HEAD, "smile"), cue_take(HEAD, HEAD, "jaw_open"), cue_take(HEAD, HEAD, "rest")]
    material = material_of(MOUTH, HEAD.mouth, takes)
    asked = {SMILE, SMILE + 1, JAW}
    assert set(np.flatnonzero(material.asked_O)) == asked
    assert set(np.flatnonzero(material.weights_TO.any(axis=0))) == asked


def test_moving_frames_can_be_given_a_least_share() -> None:
    material = material_of(MOUTH, HEAD.mouth, [cue_take(HEAD, HEAD, "smile")])
    moving_T = material.targets_TO[:, SMILE] > 0.1
    assert 0.0 < material.weights_TO[moving_T, SMILE].sum() < 0.7
    weights_TO = balanced(material.targets_TO, material.weights_TO, 0.8)
    assert weights_TO[moving_T, SMILE].sum() == pytest.approx(0.8, abs=1e-4)
    assert weights_TO[:, SMILE].sum() == pytest.approx(1.0, abs=1e-4)


def test_an_eu_that_a_take_does_not_ask_for_is_told_a_share_of_what_the_head_says() -> None:
    take, jaw = cue_take(HEAD, HEAD, "smile"), cue_take(HEAD, HEAD, "jaw_open", 1)
    unknown_TE = take.targets.confidence_TE.copy()
    unknown_TE[:, 24 + JAW] = 0
    takes = [with_targets(take, confidence_TE=unknown_TE), jaw]
    material = material_of(MOUTH, HEAD.mouth, takes)
    said_T = HEAD.mouth.apply(take.seen.features[MOUTH])[:, JAW].clip(0, 1)
    np.testing.assert_allclose(material.targets_TO[: len(said_T), JAW], 0.5 * said_T, atol=1e-6)
    assert not material.known_TO[: len(said_T), JAW].any()
    off = material_of(MOUTH, HEAD.mouth, takes, MaterialConfig(quiet_weight=0))
    assert not off.weights_TO[: len(said_T), JAW].any()


def test_blinks_outside_their_cue_are_told_what_the_head_says_whatever_the_target() -> None:
    take = cue_take(HEAD, HEAD, "smile")  # its targets say that no lid moves, with full confidence
    features = dict(take.seen.features)
    features[Camera.LEFT_EYE] = features[Camera.LEFT_EYE] + np.float32(0.1) * np.arange(40, dtype=np.float32)[:, None]
    blinking = FitTake(TakeFeatures("smile", take.seen.t_ns, features), take.targets)
    material = material_of(Camera.LEFT_EYE, HEAD.left_eye, [blinking])
    said_T = HEAD.left_eye.apply(features[Camera.LEFT_EYE])[:, 0].clip(0, 1)
    np.testing.assert_allclose(material.targets_TO[:, 0], said_T, atol=1e-6)
    assert not material.known_TO[:, 0].any()
    asked = material_of(Camera.LEFT_EYE, HEAD.left_eye, [cue_take(HEAD, HEAD, "eyes_closed")])
    assert asked.known_TO[:, 0].all()


def test_gaze_is_taken_from_dots_only_and_yaw_is_towards_the_temple() -> None:
    seen = cue_take(HEAD, HEAD, "look", repetitions=2)
    gaze_T4 = np.tile(np.array([10, 5, 12, 5], np.float32), (len(seen.seen), 1))
    gaze_T4[:10] = np.nan
    takes = [with_targets(seen, gaze_T4=gaze_T4), with_targets(cue_take(HEAD, HEAD, "smile"), gaze_T4=gaze_T4)]
    right = material_of(Camera.RIGHT_EYE, HEAD.right_eye, takes)
    np.testing.assert_array_equal(right.targets_TO[10:40, 12], -12)
    np.testing.assert_array_equal(right.targets_TO[10:40, 13], 5)
    assert right.known_TO[10:40, 12].all()
    assert not right.known_TO[:10, 12].any()
    assert not right.known_TO[40:, 12].any()


def test_frames_that_a_camera_did_not_see_are_left_out() -> None:
    take = cue_take(HEAD, HEAD, "smile")
    take.seen.features[MOUTH][5:9] = np.nan
    assert len(material_of(MOUTH, HEAD.mouth, [take])) == len(take.seen) - 4
    take.seen.features[MOUTH][:] = np.nan
    assert len(material_of(MOUTH, HEAD.mouth, [take])) == 0


def test_a_camera_that_is_in_no_take_has_no_material() -> None:
    take = cue_take(HEAD, HEAD, "smile")
    only = FitTake(replace(take.seen, features={MOUTH: take.seen.features[MOUTH]}), take.targets)
    assert len(material_of(Camera.LEFT_EYE, HEAD.left_eye, [only])) == 0


def test_features_and_targets_of_different_takes_are_refused() -> None:
    smile, jaw = cue_take(HEAD, HEAD, "smile"), cue_take(HEAD, HEAD, "jaw_open")
    with pytest.raises(ValueError, match="same take"):
        FitTake(smile.seen, jaw.targets)


def test_a_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`quiet_share` should lie in \[0, 1\]. Found 2"):
        MaterialConfig(quiet_share=2)
