"""From a camera's placement to its crop: corners, turns and mirrors by hand, properties by hypothesis."""

from dataclasses import replace
from math import cos, radians, sin

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_export.contract import Camera, Slip
from model_export.placing import seen_through
from service.errors import ErrorCode, WireError
from service.rig import check_placement, plan_crop
from service.wire import CameraPlacement
from tests.service.wire_material import smooth_image


def crop(pixels_HW: NDArray[np.uint8], placement: CameraPlacement | None, camera: Camera) -> NDArray[np.uint8]:
    crop_HW = np.zeros((128, 128), np.uint8)
    height, width = pixels_HW.shape
    plan_crop(placement, camera, width, height).cut(pixels_HW, crop_HW)
    return crop_HW


def close(found_HW: NDArray[np.uint8], expected_HW: NDArray[np.uint8], by: int = 2) -> bool:
    return int(np.abs(found_HW.astype(int) - expected_HW).max()) <= by


IMAGE_HW = smooth_image(128, 128, seed=4)


@pytest.mark.parametrize("camera", [Camera.LEFT_EYE, Camera.MOUTH])
def test_a_crop_sized_image_is_copied(camera: Camera) -> None:
    assert plan_crop(None, camera, 128, 128).copies
    np.testing.assert_array_equal(crop(IMAGE_HW, None, camera), IMAGE_HW)


def test_the_right_eye_is_mirrored_once_and_through_a_mirror_not_at_all() -> None:
    np.testing.assert_array_equal(crop(IMAGE_HW, None, Camera.RIGHT_EYE), IMAGE_HW[:, ::-1])
    through_mirror = CameraPlacement(mirrored=True)
    np.testing.assert_array_equal(crop(IMAGE_HW, through_mirror, Camera.RIGHT_EYE), IMAGE_HW)
    np.testing.assert_array_equal(crop(IMAGE_HW, through_mirror, Camera.MOUTH), IMAGE_HW[:, ::-1])


@pytest.mark.parametrize("camera", list(Camera))
@pytest.mark.parametrize(
    "placement",
    [None, CameraPlacement(center_px=(70, 60), side_px=100, rotation_deg=20), CameraPlacement(mirrored=True)],
)
def test_a_slip_is_taken_out_of_the_crop_as_takes_hold_it(camera: Camera, placement: CameraPlacement | None) -> None:
    slip = Slip(5.0, -3.0, 8.0)
    blurred_HW = cv2.GaussianBlur(smooth_image(150, 150, seed=5).astype(np.float32), (0, 0), 5)
    image_HW = np.asarray(255 * (blurred_HW - blurred_HW.min()) / np.ptp(blurred_HW), np.uint8)
    whole_HW, found_HW = np.zeros((128, 128), np.uint8), np.zeros((128, 128), np.uint8)
    plan_crop(placement, camera, 150, 150).cut(image_HW, whole_HW)
    plan = plan_crop(placement, camera, 150, 150, slip)
    plan.cut(image_HW, found_HW)
    assert plan.slip == slip
    if camera is Camera.RIGHT_EYE:
        whole_HW, found_HW = whole_HW[:, ::-1], found_HW[:, ::-1]
    expected_HW = seen_through(slip, np.ascontiguousarray(whole_HW))
    assert close(found_HW[20:-20, 20:-20], expected_HW[20:-20, 20:-20], by=6)
    assert not close(found_HW, whole_HW, by=40)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_warp_agrees_with_the_copy(mirrored: bool) -> None:
    plan = plan_crop(CameraPlacement(mirrored=mirrored), Camera.LEFT_EYE, 128, 128)
    warped_HW = np.zeros((128, 128), np.uint8)
    replace(plan, copies=False).cut(IMAGE_HW, warped_HW)
    np.testing.assert_array_equal(warped_HW, crop(IMAGE_HW, CameraPlacement(mirrored=mirrored), Camera.LEFT_EYE))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_counter_clockwise(turns: int) -> None:
    placement = CameraPlacement(rotation_deg=90 * turns)
    np.testing.assert_array_equal(crop(IMAGE_HW, placement, Camera.MOUTH), np.rot90(IMAGE_HW, turns))


def test_it_is_turned_first_and_mirrored_then() -> None:
    placement = CameraPlacement(rotation_deg=90, mirrored=True)
    np.testing.assert_array_equal(crop(IMAGE_HW, placement, Camera.MOUTH), np.rot90(IMAGE_HW)[:, ::-1])


def test_the_default_is_the_largest_centred_square() -> None:
    wide_HW = smooth_image(128, 200)
    np.testing.assert_array_equal(crop(wide_HW, None, Camera.MOUTH), wide_HW[:, 36:164])


def test_the_crop_is_cut_around_its_centre() -> None:
    large_HW = smooth_image(300, 400)
    placement = CameraPlacement(center_px=(164, 114), side_px=128)
    np.testing.assert_array_equal(crop(large_HW, placement, Camera.LEFT_EYE), large_HW[50:178, 100:228])


def test_what_lies_beyond_the_edge_repeats_it() -> None:
    placement = CameraPlacement(center_px=(0, 64), side_px=128)
    crop_HW = crop(IMAGE_HW, placement, Camera.MOUTH)
    np.testing.assert_array_equal(crop_HW[:, 64:], IMAGE_HW[:, :64])
    np.testing.assert_array_equal(crop_HW[:, :64], np.repeat(IMAGE_HW[:, :1], 64, axis=1))


@pytest.mark.parametrize("side", [256, 384, 512])
def test_large_images_are_averaged_and_not_sampled(side: int) -> None:
    noise_HW = np.random.default_rng(1).integers(0, 256, (side, side), dtype=np.uint8)
    expected_HW = cv2.resize(noise_HW, (128, 128), interpolation=cv2.INTER_AREA)
    assert close(crop(noise_HW, None, Camera.MOUTH), np.asarray(expected_HW, np.uint8))


def test_an_odd_size_keeps_the_middle_in_the_middle() -> None:
    spot_HW = np.zeros((391, 517), np.uint8)
    spot_HW[190:201, 253:264] = 255  # centred at (258.5, 195.5), the centre of the image
    crop_HW = crop(spot_HW, None, Camera.MOUTH).astype(float)
    rows_HW, columns_HW = np.mgrid[0:128, 0:128] + 0.5
    assert (columns_HW * crop_HW).sum() / crop_HW.sum() == pytest.approx(64, abs=0.1)
    assert (rows_HW * crop_HW).sum() / crop_HW.sum() == pytest.approx(64, abs=0.1)


placements = st.builds(
    CameraPlacement,
    center_px=st.tuples(st.floats(40, 160), st.floats(30, 120)),
    side_px=st.floats(20, 120),
    rotation_deg=st.floats(-360, 360),
    mirrored=st.booleans(),
)


@given(placements, st.sampled_from(list(Camera)), st.floats(-50, 50), st.floats(-50, 50))
def test_a_point_of_the_crop_shows_the_point_of_the_image_that_the_formula_says(
    placement: CameraPlacement, camera: Camera, u: float, v: float
) -> None:
    assert placement.center_px is not None
    assert placement.side_px is not None
    matrix_23 = plan_crop(placement, camera, 200, 150).matrix_23
    found = matrix_23 @ [u + 63.5, v + 63.5, 1] + 0.5
    sign = -1 if placement.mirrored != (camera is Camera.RIGHT_EYE) else 1
    scale, angle = placement.side_px / 128, radians(placement.rotation_deg)
    x = placement.center_px[0] + scale * (sign * u * cos(angle) - v * sin(angle))
    y = placement.center_px[1] + scale * (sign * u * sin(angle) + v * cos(angle))
    assert found == pytest.approx([x, y], abs=1e-6)


@given(placements)
def test_mirrored_twice_is_not_mirrored(placement: CameraPlacement) -> None:
    image_HW = smooth_image(150, 200)
    twice = replace(placement, mirrored=not placement.mirrored)
    once_HW, twice_HW = crop(image_HW, placement, Camera.LEFT_EYE), crop(image_HW, twice, Camera.LEFT_EYE)
    assert close(once_HW, twice_HW[:, ::-1], by=8)  # cv2 rounds positions to 1/32 px, from either side


@given(placements, st.sampled_from(list(Camera)))
def test_a_full_turn_changes_nothing(placement: CameraPlacement, camera: Camera) -> None:
    turned = replace(placement, rotation_deg=placement.rotation_deg + 360)
    matrix_23, turned_23 = (plan_crop(one, camera, 200, 150).matrix_23 for one in (placement, turned))
    np.testing.assert_allclose(matrix_23, turned_23, atol=1e-9)


def test_only_the_crop_is_written() -> None:
    around_HW = np.full((3, 128, 128), 7, np.uint8)
    plan_crop(CameraPlacement(rotation_deg=10), Camera.MOUTH, 128, 128).cut(IMAGE_HW, around_HW[1])
    assert (around_HW[[0, 2]] == 7).all()
    assert not (around_HW[1] == 7).all()


@pytest.mark.parametrize(
    ("placement", "field"),
    [
        (CameraPlacement(center_px=(201, 50)), "center_px"),
        (CameraPlacement(center_px=(50, -0.1)), "center_px"),
        (CameraPlacement(side_px=801), "side_px"),
    ],
)
def test_a_crop_that_does_not_fit_these_images_is_refused(placement: CameraPlacement, field: str) -> None:
    with pytest.raises(WireError, match=f"`{field}` of left_eye .* 200 x 150") as caught:
        plan_crop(placement, Camera.LEFT_EYE, 200, 150)
    assert caught.value.code == ErrorCode.FIELD


@pytest.mark.parametrize(
    ("placement", "field"),
    [
        (CameraPlacement(center_px=(float("nan"), 0)), "center_px"),
        (CameraPlacement(side_px=0), "side_px"),
        (CameraPlacement(side_px=float("inf")), "side_px"),
        (CameraPlacement(rotation_deg=float("inf")), "rotation_deg"),
        (CameraPlacement(rate_hz=0), "rate_hz"),
    ],
)
def test_numbers_that_no_camera_can_have_are_refused_at_once(placement: CameraPlacement, field: str) -> None:
    with pytest.raises(WireError, match=f"`{field}` of mouth"):
        check_placement(Camera.MOUTH, placement)
