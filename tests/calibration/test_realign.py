"""Slips put into recordings: taken out again, followed where they are slips, and left alone where they are not."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.calibrate import calibrate_takes
from calibration.features import features_of
from calibration.movement import MovementMeter
from calibration.realign import moved_back, placed, realigned
from calibration.recentre import recentre_take
from calibration.rested import rest_features
from model_export.contract import EU_COUNT, LAST_COUNT, NO_SLIP, Bundle, Camera, Head, Slip, Take, read_head, write_head
from model_export.contract.take import Encoding
from model_export.onnx_features import onnx_features
from model_export.placing import seen_through
from model_export.resting import slip_ridge, slipped_maps
from tests.bundles import make_bundle, make_resting
from tests.calibration.moving_pictures import Person, calibration

CUES = ("rest", "eyes_closed", "brows_up", "jaw_open", "smile")
SLIPS = [Slip(6.0, 0.0, 0.0), Slip(0.0, -5.0, 0.0), Slip(2.0, 3.0, 3.0)]


def skin(seed: int = 0) -> NDArray[np.uint8]:
    """A picture with texture of every size."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(n, n)).astype(np.float32), (128, 128), interpolation=cv2.INTER_CUBIC)
        for n in (8, 16, 40)
    ]
    return np.asarray(np.clip(128 + 25 * sum(layers), 0, 255), np.uint8)


def face(seed: int = 0) -> NDArray[np.uint8]:
    """The same, soft as skin is: random kernels read slips off it."""
    return np.asarray(cv2.GaussianBlur(skin(seed), (0, 0), 3), np.uint8)


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
    """A small bundle that knows how these pictures' maps change with a slip, and where most of these faces are."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    rng = np.random.default_rng(1)
    pictures_NHW = np.stack([face(seed) for seed in range(3)] * 300)
    (eye_slip_M4, _), (mouth_slip_M4, _) = (
        slip_ridge([slipped_maps(model, pictures_NHW, rng)]) for model in (bundle.eye_onnx, bundle.mouth_onnx)
    )
    eye_M, mouth_M = (
        onnx_features(model, face()[None], 1)[0, LAST_COUNT:] for model in (bundle.eye_onnx, bundle.mouth_onnx)
    )
    resting = make_resting(
        eye_slip_M4=eye_slip_M4, mouth_slip_M4=mouth_slip_M4, eye_place_M=eye_M, mouth_place_M=mouth_M
    )
    return replace(bundle, resting=resting)


@pytest.fixture(scope="module")
def head(bundle: Bundle) -> Head:
    """A wearer's head that was fitted while the face was where it is in `recording`."""
    rest = rest_features([features_of(recording(face(), 20), bundle)])
    reference = {camera: rest_F[LAST_COUNT:] for camera, rest_F in rest.items()}
    return replace(bundle.head, head_version=3, parent=2, reference=reference)


def is_near(found: Slip, expected: Slip) -> bool:
    off = found.inverse().then(expected)
    return off.length_px < 2 and abs(off.turn_deg) < 2.5 and 0.93 < off.scale < 1.07


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found_in_each_cameras_own_picture_and_followed(bundle: Bundle, head: Head, slip: Slip) -> None:
    moved = slipped(recording(face(), 20), slip)
    found = realigned(head, moved, bundle)
    assert found.followed == tuple(Camera)
    before = features_of(moved, bundle)
    for camera in Camera:
        assert is_near(found.slips[camera], slip)
        assert is_near(found.head.slip[camera], slip)
        away = [
            np.linalg.norm(one.features[camera][0, LAST_COUNT:] - head.reference[camera])
            for one in (found.seen, before)
        ]
        assert away[0] < 0.6 * away[1]
    for camera, features_TF in features_of(moved_back(moved, found.head.slip), bundle).features.items():
        np.testing.assert_allclose(found.seen.features[camera], features_TF, atol=1e-3)


def test_a_second_slip_is_followed_from_the_first(bundle: Bundle, head: Head) -> None:
    first, second = Slip(4.0, 0.0, 0.0), Slip(0.0, 4.0, 2.0)
    once = realigned(head, slipped(recording(face(), 20), first), bundle).head
    found = realigned(once, slipped(slipped(recording(face(), 20), second), first), bundle)
    assert is_near(found.head.slip[Camera.MOUTH], first.then(second))
    assert is_near(found.slips[Camera.MOUTH], second), "what is told is what moved since"
    back = realigned(found.head, recording(face(), 20), bundle)
    assert is_near(back.head.slip[Camera.MOUTH], NO_SLIP)


def test_a_headset_that_sits_as_before_stays(bundle: Bundle, head: Head) -> None:
    found = realigned(head, recording(face(), 20), bundle)
    assert found.head is head
    assert found.followed == ()
    assert found.slips.keys() == set(Camera)


def test_a_face_that_left_the_crop_is_not_followed(bundle: Bundle, head: Head) -> None:
    far = realigned(head, slipped(recording(face(), 20), Slip(90.0, 0.0, 0.0)), bundle)
    assert all(far.slips[camera].length_px <= 24 for camera in far.followed)


def test_heads_and_bundles_that_know_nothing_of_it_stay(bundle: Bundle, head: Head) -> None:
    moved = slipped(recording(face(), 20), SLIPS[0])
    fitted = replace(head, reference={})  # its fit was of crops as the rig cuts them
    for one, other in ((fitted, bundle), (head, replace(bundle, resting=None))):
        found = realigned(one, moved, other)
        assert (found.head is one, found.slips, found.followed) == (True, {}, ())


def test_cameras_that_saw_nothing_stay(bundle: Bundle, head: Head) -> None:
    moved = slipped(recording(face(), 20), SLIPS[0])
    moved = replace(moved, images={Camera.LEFT_EYE: moved.images[Camera.LEFT_EYE], Camera.MOUTH: (b"",) * 20})
    assert realigned(head, moved, bundle).followed == (Camera.LEFT_EYE,)
    assert placed(moved, bundle).keys() == {Camera.LEFT_EYE}


def test_a_new_face_is_placed_most_of_the_way_to_where_faces_are(bundle: Bundle) -> None:
    slips = placed(slipped(recording(face(), 20), Slip(6.0, -4.0, 0.0)), bundle)
    for camera in Camera:
        assert is_near(slips[camera], Slip(0.8 * 6, 0.8 * -4, 0.0))
    assert placed(recording(face(), 20), bundle) == {}, "it is there"
    assert placed(recording(face(), 20), replace(bundle, resting=None)) == {}


def test_a_universal_head_is_placed_by_a_rest_and_again_by_the_next(bundle: Bundle) -> None:
    found = recentre_take(bundle.head, slipped(recording(face(), 20), SLIPS[0]), bundle)
    assert (found.better, found.head.head_version) == (True, 1)
    assert is_near(found.head.slip[Camera.MOUTH], SLIPS[0].share(0.8))
    rested_head = replace(found.head, rest=dict.fromkeys(Camera, np.zeros(LAST_COUNT, np.float32)))
    again = realigned(rested_head, slipped(recording(face(), 20), Slip(-5.0, 0.0, 0.0)), bundle)
    assert is_near(again.head.slip[Camera.MOUTH], Slip(-4.0, 0.0, 0.0))


def test_a_calibration_places_the_face_and_remembers_where_it_was(bundle: Bundle) -> None:
    takes = [moved_back(take, dict.fromkeys(Camera, Slip(-5.0, 0.0, 0.0))) for take in calibration(Person(), CUES)]
    found = calibrate_takes(takes, bundle)
    assert found.better
    slips = placed(takes[0], bundle)
    assert slips
    assert dict(found.head.slip) == slips
    rest = rest_features([features_of(moved_back(takes[0], slips), bundle)])
    for camera in Camera:
        np.testing.assert_array_equal(found.head.reference[camera], rest[camera][LAST_COUNT:])
    sits_as_before = realigned(found.head, takes[0], bundle)
    assert sits_as_before.followed == ()


def test_a_re_centring_follows_the_slip_and_says_so(bundle: Bundle, head: Head) -> None:
    found = recentre_take(head, slipped(recording(face(), 20), SLIPS[0]), bundle)
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
    told = recentre_take(head, recording(face(), 20), bundle).report["slip"]
    assert {one["followed"] for one in told.values()} == {False}
    assert max(abs(one["right_px"]) for one in told.values()) < 1
    assert recentre_take(replace(head, reference={}), recording(face(), 20), bundle).report["slip"] == {}


def test_a_slip_that_leaves_the_crop_is_no_head(head: Head) -> None:
    with pytest.raises(ValueError, match="`slip` of mouth should be of a face that is still in the crop"):
        replace(head, slip={Camera.MOUTH: Slip(200.0, 0.0, 0.0)})
    assert replace(head, slip={Camera.MOUTH: NO_SLIP}).slip[Camera.MOUTH] == NO_SLIP


def test_a_camera_that_came_nearer_is_followed_too(bundle: Bundle, head: Head) -> None:
    found = realigned(head, slipped(recording(face(), 20), Slip(2.0, 1.0, 0.0, 1.1)), bundle)
    assert Camera.MOUTH in found.followed
    assert found.head.slip[Camera.MOUTH].scale == pytest.approx(1.1, abs=0.07)


def covered(take: Take, camera: Camera) -> Take:
    grey = bytes([3]) * (128 * 128)
    return replace(take, images={**take.images, camera: (grey,) * len(take)})


def test_a_camera_that_was_covered_at_rest_keeps_all_it_has(bundle: Bundle) -> None:
    """Nothing of a black picture is followed, moves an offset, or is remembered as the wearer's rest."""
    takes = [covered(take, Camera.MOUTH) for take in calibration(Person(), CUES[:3])]
    shift_FO = np.full((LAST_COUNT, 33), 1e-3, np.float32)
    assert bundle.resting is not None
    telling = replace(bundle, resting=replace(bundle.resting, mouth_shift_FO=shift_FO))
    for found in (calibrate_takes(takes, telling).head, recentre_take(bundle.head, takes[0], telling).head):
        assert found is not bundle.head
        assert found.mouth is bundle.head.mouth
        for known in (found.slip, found.reference, found.rest):
            assert Camera.MOUTH not in known
