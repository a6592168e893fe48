"""Re-centring: offsets alone move, so that rest reads 0; judged, only those that a held-out half of the rest asks for."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.features import TakeFeatures
from calibration.recentre import RecentreConfig, recentre, recentre_judged
from calibration.rested import LEAST_FRAMES, rest_features
from model_export.contract import (
    EU_INDEX,
    EYE_MOVEMENTS,
    FEATURE_COUNT,
    LAST_COUNT,
    MAP_COUNT,
    MOUTH_EUS,
    Camera,
    Head,
    read_head,
    rested,
    write_head,
)
from tests.bundles import make_head, make_resting
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


JAW, SMILE = (MOUTH_EUS.index(name) for name in ("jawOpen", "mouthSmileLeft"))


def resting_head(**offsets: float) -> Head:
    """A head that reads this of every face, 0 where nothing is said: weights are 0, so that features say nothing."""
    head = make_head(backbone_digest="a" * 64, head_version=3)
    regions = []
    for camera in Camera:
        bias_O = np.zeros_like(head[camera].bias_O)
        for name, offset in offsets.items():
            if name == "gaze_deg" and camera is not Camera.MOUTH:
                bias_O[12:14] = offset
            elif name in EU_INDEX and EU_INDEX[name] - 24 in range(32) and camera is Camera.MOUTH:
                bias_O[EU_INDEX[name] - 24] = offset
        weight_FO = np.zeros_like(head[camera].weight_FO)
        regions.append(replace(head[camera], bias_O=bias_O, weight_FO=weight_FO))
    return replace(head, left_eye=regions[0], right_eye=regions[1], mouth=regions[2])


def test_only_what_is_off_by_the_margin_moves() -> None:
    found = recentre_judged(resting_head(jawOpen=0.2, mouthSmileLeft=0.02, gaze_deg=4.0), rest())
    assert found.better
    assert found.head.mouth.bias_O[JAW] == pytest.approx(0, abs=1e-6)
    assert found.head.mouth.bias_O[SMILE] == pytest.approx(0.02)
    assert found.head.left_eye.bias_O[12:14] == pytest.approx([0, 0], abs=1e-6)
    assert found.report["summary"] == {"outputs_judged": 11 + 2 + 11 + 2 + 32, "outputs_moved": 5}
    assert found.report["eus"]["jawOpen"] == {"before": 0.2, "after": 0.0, "source": "recentred"}
    assert found.report["eus"]["mouthSmileLeft"] == {"before": 0.02, "after": 0.02, "source": "old"}
    assert "pupilDilateLeft" not in found.report["eus"]


def test_an_output_below_zero_is_served_as_rest_and_stays() -> None:
    found = recentre_judged(resting_head(jawOpen=-0.3), rest())
    assert not found.better
    assert found.head.mouth.bias_O[JAW] == pytest.approx(-0.3)


def test_a_rest_whose_halves_disagree_moves_nothing() -> None:
    head = resting_head()
    weight_FO = head.mouth.weight_FO.copy()
    weight_FO[0, JAW] = 1.0
    head = replace(head, mouth=replace(head.mouth, weight_FO=weight_FO, up_AF=np.zeros_like(head.mouth.up_AF)))
    seen = rest()
    seen.features[Camera.MOUTH][:30, 0], seen.features[Camera.MOUTH][30:, 0] = (
        0.4,
        0.0,
    )  # a mouth that was closed in between
    assert not recentre_judged(head, seen).better
    assert not same_heads(recentre(head, [seen]), head), "without the judgement it would have moved"
    seen.features[Camera.MOUTH][:, 0] = 0.4
    assert recentre_judged(head, seen).better


def test_a_moved_head_follows_its_parent_and_says_where_it_comes_from() -> None:
    parent = resting_head(jawOpen=0.2)
    found = recentre_judged(parent, rest())
    assert (found.head.head_version, found.head.parent, found.head.backbone_digest) == (4, 3, "a" * 64)
    assert found.head.report == found.report == read_head(write_head(found.head)).report
    assert found.report["origin"] == "recentred"
    assert found.report["rest_frames"] == {"left_eye": 60, "right_eye": 60, "mouth": 60}
    again = recentre_judged(found.head, rest(seed=1))
    assert not again.better, "it is at rest now"
    assert again.head is found.head


@pytest.mark.parametrize("count", [1, 2 * LEAST_FRAMES - 1])
def test_too_little_rest_judges_nothing(count: int) -> None:
    parent = resting_head(jawOpen=0.2)
    found = recentre_judged(parent, rest(count))
    assert (found.better, found.head is parent, found.report["eus"]) == (False, True, {})


def test_cameras_that_saw_nothing_stay() -> None:
    found = recentre_judged(resting_head(jawOpen=0.2, gaze_deg=5), rest(cameras=(Camera.MOUTH,)))
    assert found.head.left_eye.bias_O[12] == 5
    assert found.head.mouth.bias_O[JAW] == pytest.approx(0, abs=1e-6)
    assert found.report["rest_frames"]["left_eye"] == 0


def test_a_margin_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        RecentreConfig(least_gain=0)


def test_what_rest_tells_moves_the_head_before_anything_is_judged() -> None:
    shift_FO = np.zeros((LAST_COUNT, 33), np.float32)
    shift_FO[:, JAW] = -0.15 / LAST_COUNT  # a rest whose features are all 1 above the mean reads .15 less
    seen = rest()
    resting = make_resting(mouth_shift_FO=shift_FO)
    seen.features[Camera.MOUTH][:] = 1.0
    universal = replace(resting_head(jawOpen=0.16, mouthSmileLeft=0.2), head_version=0, parent=None)
    told = rest_features([seen])
    found = recentre_judged(universal, seen, begun=rested(universal, told, resting))
    assert found.head.mouth.bias_O[JAW] == pytest.approx(0.01, abs=1e-6)
    assert found.report["eus"]["jawOpen"] == {"before": 0.16, "after": 0.01, "source": "rested"}
    assert found.report["eus"]["mouthSmileLeft"] == {"before": 0.2, "after": 0.0, "source": "recentred"}
    np.testing.assert_array_equal(found.head.rest[Camera.MOUTH], np.ones(LAST_COUNT, np.float32))
    np.testing.assert_array_equal(found.head.neutral[Camera.MOUTH], np.ones(MAP_COUNT, np.float32))
    again = recentre_judged(found.head, seen, begun=rested(found.head, told, resting))
    assert not again.better, "the same rest again moves nothing more"
