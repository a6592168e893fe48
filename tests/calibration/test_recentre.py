"""Re-centring: offsets alone move, so that rest reads 0."""

import numpy as np
import pytest

from calibration.features import TakeFeatures
from calibration.recentre import LEAST_FRAMES, recentre
from model_export.contract import EYE_MOVEMENTS, FEATURE_COUNT, Camera
from tests.bundles import make_head
from tests.calibration.synthetic_wearer import FRAME_NS, same_heads


def rest(count: int = 60, seed: int = 0, cameras: tuple[Camera, ...] = tuple(Camera)) -> TakeFeatures:
    random = np.random.default_rng(seed)
    t_ns = np.arange(count, dtype=np.int64) * FRAME_NS
    features = {camera: random.normal(0.5, 0.3, (count, FEATURE_COUNT)).astype(np.float32) for camera in cameras}
    return TakeFeatures("rest", t_ns, features)


def test_rest_reads_zero_in_the_median_and_only_offsets_move() -> None:
    head, seen = make_head(), rest()
    found = recentre(head, [seen])
    for camera in Camera:
        median_O = np.median(found[camera].apply(seen.features[camera]), axis=0)
        zero = slice(0, 32) if camera is Camera.MOUTH else slice(0, 11)
        np.testing.assert_allclose(median_O[zero], 0, atol=1e-5)
        for part in ("down_FA", "down_bias_A", "up_AF", "weight_FO"):
            assert np.array_equal(getattr(found[camera], part), getattr(head[camera], part))


def test_gaze_of_a_wearer_who_looks_ahead_reads_zero() -> None:
    head, seen = make_head(), rest()
    found = recentre(head, [seen])
    gaze_TO = found[Camera.RIGHT_EYE].apply(seen.features[Camera.RIGHT_EYE])[:, 12:14]
    np.testing.assert_allclose(np.median(gaze_TO, axis=0), 0, atol=1e-4)


def test_pupils_and_confidence_have_no_zero_at_rest() -> None:
    head = make_head()
    found = recentre(head, [rest()])
    pupil = EYE_MOVEMENTS.index("pupilDilate")
    assert found[Camera.LEFT_EYE].bias_O[pupil] == head[Camera.LEFT_EYE].bias_O[pupil]
    for camera in Camera:
        assert found[camera].bias_O[-1] == head[camera].bias_O[-1]


def test_blinks_during_rest_do_not_move_the_lids_zero() -> None:
    head, seen = make_head(), rest(60)
    blinking = rest(60)
    blinking.features[Camera.LEFT_EYE][20:26] += 40.0
    still, with_blink = recentre(head, [seen]), recentre(head, [blinking])
    difference_O = np.abs(still[Camera.LEFT_EYE].bias_O - with_blink[Camera.LEFT_EYE].bias_O)
    assert difference_O[:12].max() < 0.1


def test_doing_it_twice_changes_nothing_more() -> None:
    once = recentre(make_head(), [rest()])
    twice = recentre(once, [rest()])
    for camera in Camera:
        np.testing.assert_allclose(twice[camera].bias_O, once[camera].bias_O, atol=1e-5)


@pytest.mark.parametrize("count", [0, LEAST_FRAMES - 1])
def test_too_little_rest_leaves_the_head_as_it_is(count: int) -> None:
    head = make_head()
    assert same_heads(recentre(head, [rest(count)] if count else []), head)


def test_a_camera_that_saw_nothing_keeps_its_offsets() -> None:
    head, seen = make_head(), rest()
    seen.features[Camera.MOUTH][:] = np.nan
    found = recentre(head, [seen])
    assert np.array_equal(found.mouth.bias_O, head.mouth.bias_O)
    assert not np.array_equal(found.left_eye.bias_O, head.left_eye.bias_O)


def test_version_parent_and_report_stay() -> None:
    head = make_head(backbone_digest="a" * 64, head_version=3)
    found = recentre(head, [rest()])
    assert (found.head_version, found.parent, found.backbone_digest) == (3, 2, "a" * 64)
