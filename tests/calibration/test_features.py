"""What a head says of a take's frames: eyes that were seen together read each other, others answer for themselves."""

import numpy as np
import pytest

from calibration.features import Answers, TakeFeatures, answers_of
from model_export.contract import EYE_SIGNALS, FEATURE_COUNT, Camera
from tests.bundles import make_eye_pair
from tests.calibration.synthetic_wearer import universal

HEAD, PAIR = universal(), make_eye_pair(3)
FRAMES = 9


def take(*, blind: dict[Camera, int]) -> TakeFeatures:
    """Nine frame sets of all cameras, of which some lack one at one place."""
    random = np.random.default_rng(0)
    features = {camera: 1 + random.normal(0, 0.3, (FRAMES, FEATURE_COUNT)).astype(np.float32) for camera in Camera}
    for camera, frame in blind.items():
        features[camera][frame] = np.nan
    return TakeFeatures("smile", np.arange(FRAMES, dtype=np.int64) * 33_000_000, features)


def eye(answers: Answers, camera: Camera) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """An eye's signals as it is seen as a left one."""
    values_TE = answers.values_TE[:, 12 * camera : 12 * camera + 12]
    sign = np.array([-1 if camera is Camera.RIGHT_EYE else 1, 1], np.float32)
    return np.concatenate([values_TE, answers.gaze_T4[:, 2 * camera : 2 * camera + 2] * sign], axis=1)


@pytest.mark.parametrize("blind", [{}, {Camera.RIGHT_EYE: 4}, {Camera.LEFT_EYE: 0, Camera.MOUTH: 2}])
def test_eyes_seen_together_read_each_other(blind: dict[Camera, int]) -> None:
    seen = take(blind=blind)
    alone, paired = answers_of(HEAD, seen), answers_of(HEAD, seen, PAIR)
    np.testing.assert_array_equal(paired.values_TE[:, 24:], alone.values_TE[:, 24:])
    both_T = np.ones(FRAMES, bool)
    both_T[[frame for camera, frame in blind.items() if camera is not Camera.MOUTH]] = False
    logits_T2 = [
        HEAD[camera].apply(seen.features[camera])[both_T, -1] for camera in (Camera.LEFT_EYE, Camera.RIGHT_EYE)
    ]
    confidence_T2 = (1 / (1 + np.exp(-np.stack(logits_T2, axis=1)))).astype(np.float32)
    before = [eye(alone, camera) for camera in (Camera.LEFT_EYE, Camera.RIGHT_EYE)]
    expected = PAIR.both(before[0][both_T], before[1][both_T], confidence_T2)
    for camera in (Camera.LEFT_EYE, Camera.RIGHT_EYE):
        found_TS = eye(paired, camera)
        np.testing.assert_allclose(found_TS[both_T], expected[camera], atol=1e-4)
        np.testing.assert_array_equal(found_TS[~both_T], before[camera][~both_T])
        assert found_TS.shape == (FRAMES, EYE_SIGNALS)
        assert np.abs(found_TS[both_T] - before[camera][both_T]).max() > 0.05


def test_an_eye_without_the_other_answers_for_itself() -> None:
    seen = take(blind={}).without([Camera.LEFT_EYE])
    alone, paired = answers_of(HEAD, seen), answers_of(HEAD, seen, PAIR)
    np.testing.assert_array_equal(paired.values_TE, alone.values_TE)
    np.testing.assert_array_equal(paired.gaze_T4, alone.gaze_T4)
