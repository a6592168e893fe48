"""Slips put into recordings: taken out again, followed where they are slips, and left alone where they are not."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.features import features_of
from calibration.movement import MovementMeter
from calibration.realign import Realigned, moved_back, realigned
from calibration.recentre import recentre_take
from calibration.rested import rest_features
from model_export.contract import EU_COUNT, LAST_COUNT, NO_SLIP, Bundle, Camera, Head, Slip, Take, read_head, write_head
from model_export.contract.take import Encoding
from model_export.resting import slip_ridge, slipped_maps
from model_export.seen_through import seen_through
from tests.bundles import make_bundle, make_resting

SLIPS = [Slip(6.0, 0.0, 0.0), Slip(0.0, -5.0, 0.0), Slip(2.0, 3.0, 3.0)]


def skin(seed: int = 0) -> NDArray[np.uint8]:
    """A picture with texture of every size."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(n, n)).astype(np.float32), (128, 128), interpolation=cv2.INTER_CUBIC)
        for n in (8, 16, 40)
    ]
    return np.asarray(np.clip(128 + 25 * sum(layers), 0, 255), np.uint8)


def recording(picture_HW: NDArray[np.uint8], count: int = 2) -> Take:
    """The picture for all three cameras, the right eye's mirrored, as faces are."""
    mirrored = np.ascontiguousarray(picture_HW[:, ::-1]).tobytes()
    images = {camera: (picture_HW.tobytes(),) * count for camera in Camera} | {Camera.RIGHT_EYE: (mirrored,) * count}
    t_ns = np.arange(count, dtype=np.int64) * 33_000_000
    return Take("rest", Encoding.GRAY8, t_ns, images, (128, 128), np.full((count, EU_COUNT), 0.25, np.float32))


def slipped(take: Take, slip: Slip) -> Take:
    return moved_back(take, dict.fromkeys(Camera, slip.inverse()))


@pytest.mark.parametrize("slip", SLIPS)
def test_the_meter_finds_the_slip(slip: Slip) -> None:
    moved = slipped(recording(skin()), slip)
    frame_HW = np.frombuffer(moved.images[Camera.MOUTH][1], np.uint8).reshape(128, 128)
    found = MovementMeter(Camera.MOUTH, skin()).measure(frame_HW).slip
    assert (found.right_px, found.down_px) == pytest.approx((slip.right_px, slip.down_px), abs=0.7)
    assert found.turn_deg == pytest.approx(slip.turn_deg, abs=0.7)


def test_times_truth_missing_frames_and_cameras_that_are_not_named_stay() -> None:
    before = recording(skin())
    before = replace(before, images={**before.images, Camera.LEFT_EYE: (before.images[Camera.LEFT_EYE][0], b"")})
    after = moved_back(before, {Camera.LEFT_EYE: Slip(4.0, 1.0, -2.0)})
    assert after.images[Camera.LEFT_EYE][1] == b""
    assert after.images[Camera.LEFT_EYE][0] != before.images[Camera.LEFT_EYE][0]
    assert after.images[Camera.MOUTH] == before.images[Camera.MOUTH]
    assert (after.cue, after.t_ns, after.values_TE) == (before.cue, before.t_ns, before.values_TE)
    assert moved_back(before, {}).images == before.images


def test_a_slip_there_and_back_leaves_the_middle_as_it_was() -> None:
    picture_HW = np.asarray(cv2.GaussianBlur(skin(), (0, 0), 2), np.uint8)
    there_and_back_HW = seen_through(SLIPS[2], seen_through(SLIPS[2].inverse(), picture_HW))
    off_HW = np.abs(there_and_back_HW.astype(int) - picture_HW)[20:-20, 20:-20]
    assert off_HW.max() <= 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small bundle that knows how these pictures' maps change with a slip."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    rng = np.random.default_rng(1)
    pictures_NHW = np.stack([skin(seed) for seed in range(3)] * 120)
    eye, mouth = (
        slip_ridge([slipped_maps(model, pictures_NHW, rng)]) for model in (bundle.eye_onnx, bundle.mouth_onnx)
    )
    return replace(bundle, resting=make_resting(eye_slip_M3=eye, mouth_slip_M3=mouth))


@pytest.fixture(scope="module")
def head(bundle: Bundle) -> Head:
    """A wearer's head that was fitted while the face was where it is in `recording`."""
    rest = rest_features([features_of(recording(skin(), 20), bundle)])
    reference = {camera: rest_F[LAST_COUNT:] for camera, rest_F in rest.items()}
    return replace(bundle.head, head_version=3, parent=2, reference=reference)


def undone(found: Realigned, slip: Slip) -> None:
    for camera in Camera:
        right, down, turn = slip.right_px, slip.down_px, slip.turn_deg
        assert found.slips[camera].right_px == pytest.approx(right, abs=1.5), camera
        assert found.slips[camera].down_px == pytest.approx(down, abs=1.5), camera
        assert found.slips[camera].turn_deg == pytest.approx(turn, abs=1.5), camera


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found_in_each_cameras_own_picture_and_followed(bundle: Bundle, head: Head, slip: Slip) -> None:
    rest = recording(skin(), 20)
    images = {**slipped(rest, slip).images, Camera.RIGHT_EYE: slipped(rest, slip).images[Camera.RIGHT_EYE]}
    found = realigned(head, replace(rest, images=images), bundle)
    assert found.followed == tuple(Camera)
    undone(found, slip)
    assert found.head.slip.keys() == found.slips.keys()
    for camera in Camera:
        reference_M = head.reference[camera]
        away = [
            np.linalg.norm(seen[0, LAST_COUNT:] - reference_M)
            for seen in (found.seen.features[camera], features_of(slipped(rest, slip), bundle).features[camera])
        ]
        assert away[0] < 0.6 * away[1]


def test_a_second_slip_is_added_to_the_first(bundle: Bundle, head: Head) -> None:
    first, second = Slip(4.0, 0.0, 0.0), Slip(0.0, 4.0, 2.0)
    rest = recording(skin(), 20)
    once = realigned(head, slipped(rest, first), bundle).head
    # the service cuts the crops of a head that has followed one slip already so that it is gone
    as_cut = moved_back(slipped(slipped(rest, second), first), once.slip)
    found = realigned(once, as_cut, bundle)
    total = found.head.slip[Camera.MOUTH]
    expected = first.then(second)
    assert (total.right_px, total.down_px) == pytest.approx((expected.right_px, expected.down_px), abs=1.5)
    assert total.turn_deg == pytest.approx(2.0, abs=1.5)


def test_a_headset_that_sits_as_before_stays(bundle: Bundle, head: Head) -> None:
    found = realigned(head, recording(skin(), 20), bundle)
    assert found.head is head
    assert found.followed == ()
    assert found.slips.keys() == set(Camera)


def test_another_face_is_no_slip(bundle: Bundle, head: Head) -> None:
    found = realigned(head, recording(skin(7), 20), bundle)
    assert all(found.head.slip[camera].length_px <= 16 for camera in found.followed)
    far = realigned(head, slipped(recording(skin(), 20), Slip(40.0, 0.0, 0.0)), bundle)
    assert Camera.MOUTH not in far.followed or far.slips[Camera.MOUTH].length_px <= 16


def test_heads_and_bundles_that_know_nothing_of_it_stay(bundle: Bundle, head: Head) -> None:
    moved = slipped(recording(skin(), 20), SLIPS[0])
    for one, other in ((bundle.head, bundle), (head, replace(bundle, resting=None))):
        found = realigned(one, moved, other)
        assert (found.head is one, found.slips, found.followed) == (True, {}, ())


def test_cameras_that_saw_nothing_stay(bundle: Bundle, head: Head) -> None:
    moved = slipped(recording(skin(), 20), SLIPS[0])
    moved = replace(moved, images={Camera.LEFT_EYE: moved.images[Camera.LEFT_EYE], Camera.MOUTH: (b"",) * 20})
    assert realigned(head, moved, bundle).followed == (Camera.LEFT_EYE,)


def test_a_re_centring_follows_the_slip_and_says_so(bundle: Bundle, head: Head) -> None:
    found = recentre_take(head, slipped(recording(skin(), 20), SLIPS[0]), bundle)
    assert found.better
    assert (found.head.head_version, found.head.parent) == (4, 3)
    told = found.report["slip"]["mouth"]
    assert told["followed"] is True
    assert told["right_px"] == pytest.approx(6.0, abs=1.5)
    again = read_head(write_head(found.head))
    assert again.report == found.report
    for camera in Camera:
        assert again.slip[camera].right_px == pytest.approx(found.head.slip[camera].right_px)
        np.testing.assert_array_equal(again.reference[camera], head.reference[camera])


def test_a_re_centring_of_a_headset_that_sits_as_before_tells_that_it_does(bundle: Bundle, head: Head) -> None:
    told = recentre_take(head, recording(skin(), 20), bundle).report["slip"]
    assert {one["followed"] for one in told.values()} == {False}
    assert max(abs(one["right_px"]) for one in told.values()) < 1
    assert recentre_take(replace(head, slip={}, reference={}), recording(skin(), 20), bundle).report["slip"] == {}


def test_a_slip_that_leaves_the_crop_is_no_head(head: Head) -> None:
    with pytest.raises(ValueError, match="`slip` of mouth should be of a face that is still in the crop"):
        replace(head, slip={Camera.MOUTH: Slip(200.0, 0.0, 0.0)})
    assert replace(head, slip={Camera.MOUTH: NO_SLIP}).slip[Camera.MOUTH] == NO_SLIP
