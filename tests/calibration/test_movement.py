"""The movement of one camera: slip, flow, brightness, gates, and what it costs."""

import time

import numpy as np
import pytest

from calibration.movement import (
    CELLS,
    FEATURES,
    Gate,
    MovementMeter,
    NeutralError,
    neutral_image,
    skin_weight,
)
from model_export.contract.frames import Camera
from tests.calibration.moving_pictures import DOWN_HW, RIGHT_HW, SIZE, bump, moved, speckles

PICTURE = speckles(3)


@pytest.mark.parametrize("camera", list(Camera))
def test_a_shifted_picture_is_slip_and_no_movement(camera: Camera) -> None:
    movement = MovementMeter(camera, PICTURE).measure(moved(PICTURE, 2.0, -1.5))
    assert movement.slip.right_px == pytest.approx(2.0, abs=0.15)
    assert movement.slip.down_px == pytest.approx(-1.5, abs=0.15)
    assert float(np.abs(movement.flow_RCK[2:-2, 2:-2]).mean()) < 0.25
    assert movement.gate is None


def test_a_turned_and_grown_picture_is_slip() -> None:
    turn, scale = np.radians(2.0), 1.02
    x, y = RIGHT_HW - 63.5, DOWN_HW - 63.5
    right = (scale * np.cos(turn) - 1) * x - scale * np.sin(turn) * y
    down = scale * np.sin(turn) * x + (scale * np.cos(turn) - 1) * y
    slip = MovementMeter(Camera.LEFT_EYE, PICTURE).measure(moved(PICTURE, right, down)).slip
    assert slip.turn_deg == pytest.approx(2.0, abs=0.2)
    assert slip.scale == pytest.approx(1.02, abs=0.006)


def test_a_movement_is_measured_where_it_is_although_the_headset_slips() -> None:
    chin = bump(64, 100, 16)
    movement = MovementMeter(Camera.MOUTH, PICTURE).measure(moved(PICTURE, 1.5, 4.0 * chin + 1.0))
    assert movement.flow_RCK[12, 8, 1] == pytest.approx(3.6, abs=0.8)  # the mean of a cell lies below the peak
    assert float(np.abs(movement.flow_RCK[1:4, 2:14]).mean()) < 0.35


def test_the_still_picture_has_neither_flow_nor_change_whatever_the_exposure() -> None:
    meter = MovementMeter(Camera.RIGHT_EYE, PICTURE)
    brighter = np.clip(PICTURE * 1.2, 0, 255).astype(np.uint8)
    movement = meter.measure(brighter)
    assert float(np.abs(movement.flow_RCK).max()) < 0.3
    assert float(np.abs(movement.appearance_RC).mean()) < 0.08


def test_what_grows_dark_is_seen_as_appearance() -> None:
    dark = (PICTURE * (1 - 0.7 * bump(64, 64, 12))).astype(np.uint8)
    movement = MovementMeter(Camera.LEFT_EYE, PICTURE).measure(dark)
    assert movement.appearance_RC[7:9, 7:9].max() < -0.5
    assert float(np.abs(movement.appearance_RC[:3]).mean()) < 0.1


def test_features_are_flow_and_appearance_in_one_vector() -> None:
    movement = MovementMeter(Camera.MOUTH, PICTURE).measure(moved(PICTURE, 0.0, 2.0 * bump(64, 90, 15)))
    features = movement.features()
    assert features.shape == (FEATURES,)
    assert (features[: 2 * CELLS * CELLS] == movement.flow_RCK.ravel()).all()


def test_dark_covered_and_jolted_frames_are_gated() -> None:
    meter = MovementMeter(Camera.MOUTH, PICTURE)
    assert meter.measure(PICTURE // 60).gate is Gate.DARK
    assert meter.measure(speckles(77)).gate is Gate.COVERED
    meter.measure(PICTURE)
    assert meter.measure(moved(PICTURE, 5.0, 0.0)).gate is Gate.SLIPPED


def test_speed_is_of_the_change_since_the_frame_before() -> None:
    meter = MovementMeter(Camera.MOUTH, PICTURE)
    there = moved(PICTURE, 0.0, 3.0 * bump(64, 100, 16))
    assert meter.measure(there).speed_px == 0.0
    assert meter.measure(there).speed_px == 0.0
    assert meter.measure(PICTURE).speed_px > 0.1


def test_a_neutral_image_leaves_blinks_out() -> None:
    rng = np.random.default_rng(0)
    frames = [np.clip(PICTURE + rng.normal(0, 2, PICTURE.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    frames[4:7] = [speckles(5)] * 3
    neutral = neutral_image(frames).astype(float)
    assert float(np.abs(neutral - PICTURE).mean()) < 1.5


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([PICTURE] * 9, "9"),
        ([PICTURE // 60] * 12, "dark"),
        ([speckles(seed) for seed in range(12)], "alike"),
    ],
)
def test_a_rest_that_is_short_dark_or_never_still_gives_no_neutral_image(frames: list[np.ndarray], found: str) -> None:
    with pytest.raises(NeutralError, match=found):
        neutral_image(frames)


def test_only_canonical_crops_are_measured() -> None:
    with pytest.raises(ValueError, match=r"Found uint8 \[64, 64\]"):
        MovementMeter(Camera.MOUTH, PICTURE).measure(PICTURE[:64, :64])


def test_skin_that_expressions_move_weighs_little() -> None:
    eye, mouth = skin_weight(Camera.LEFT_EYE), skin_weight(Camera.MOUTH)
    assert eye.shape == mouth.shape == (CELLS, CELLS)
    assert eye[8, 8] == mouth[9, 8] == np.float32(0.03)
    assert eye[14, 1] > 0.5
    assert mouth[0, 8] == 1.0


@pytest.mark.latency
def test_a_frame_is_measured_within_a_millisecond() -> None:
    meter = MovementMeter(Camera.MOUTH, PICTURE)
    frames = [moved(PICTURE, 0.0, 0.2 * step * bump(64, 100, 16)) for step in range(20)]
    spent = []
    for step in range(400):
        start = time.perf_counter()
        meter.measure(frames[step % 20])
        spent.append(time.perf_counter() - start)
    assert float(np.median(spent[100:])) < 1.0e-3
    assert SIZE == 128


def test_slip_that_is_kept_is_part_of_the_movement_and_known_to_the_gates() -> None:
    still, picture = speckles(3), moved(speckles(3), 2.0, -1.5)
    removed, kept = (
        MovementMeter(Camera.MOUTH, still, remove_slip=remove).measure(picture) for remove in (True, False)
    )
    assert kept.slip == removed.slip
    assert kept.gate is None
    inside = slice(2, -2), slice(2, -2)
    np.testing.assert_allclose(kept.flow_RCK[inside].mean(axis=(0, 1)), (2.0, -1.5), atol=0.2)
    assert np.abs(removed.flow_RCK[inside]).mean() < 0.25
    assert np.abs(kept.appearance_RC).mean() > 3 * np.abs(removed.appearance_RC).mean()
