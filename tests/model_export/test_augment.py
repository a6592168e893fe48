"""Augmentation: mirrors, keeps places within what is asked, spoils as often as asked, repeats by seed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.augment import NO_AUGMENTATION, AugmentConfig, augment
from model_export.contract import Slip
from model_export.placing import seen_through
from model_export.points import carried


def dot(row: int, column: int) -> NDArray[Any]:
    image_HW = np.full((128, 128), 60, np.uint8)
    image_HW[row - 3 : row + 4, column - 3 : column + 4] = 250
    return image_HW


def centre_of_light(image_HW: NDArray[Any]) -> NDArray[Any]:
    bright_HW = np.clip(image_HW.astype(float) - np.percentile(image_HW, 98), 0, None)
    rows_HW, columns_HW = np.mgrid[0:128, 0:128]
    total = bright_HW.sum()
    return np.array([(bright_HW * rows_HW).sum() / total, (bright_HW * columns_HW).sum() / total])


def test_nothing_is_changed_when_nothing_is_asked() -> None:
    image_HW = dot(30, 40)
    same_HW, intact, _ = augment(image_HW, np.random.default_rng(0), NO_AUGMENTATION, mirrored=False)
    assert intact
    np.testing.assert_array_equal(same_HW, image_HW)


def test_mirroring_turns_left_into_right() -> None:
    image_HW = dot(30, 40)
    mirrored_HW, *_ = augment(image_HW, np.random.default_rng(0), NO_AUGMENTATION, mirrored=True)
    np.testing.assert_array_equal(mirrored_HW, image_HW[:, ::-1])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_place_in_the_crop_moves_no_further_than_asked(mirrored: bool) -> None:
    config = AugmentConfig(spoiled=0.0, photometric=0.0, moved_px=0.0)
    found = []
    for seed in range(60):
        image_HW, _, way_23 = augment(dot(64, 90), np.random.default_rng(seed), config, mirrored=mirrored)
        found.append(centre_of_light(image_HW))
        told = carried(np.array([[90 - 63.5, 64 - 63.5, 1.0, 0.0]]), way_23)[0]
        np.testing.assert_allclose(found[-1], 63.5 + told[1::-1], atol=0.6)
        assert np.linalg.norm(told[2:]) == pytest.approx(1.0, abs=0.15)
    expected = np.array([64, 127 - 90 if mirrored else 90])
    # 26.5 px from the centre: shift 7.7, scale 2.7, rotation 3.7
    assert np.median(np.linalg.norm(np.array(found) - expected, axis=1)) < 8
    assert np.linalg.norm(np.median(found, axis=0) - expected) < 3


def test_equal_draws_give_frames_of_a_fitting_one_place_and_light_and_noise_of_their_own() -> None:
    config = AugmentConfig(spoiled=0.3, photometric=1.0, moved_px=0.0)
    image_HW, own = np.full((128, 128), 120, np.uint8), np.random.default_rng(1)
    image_HW[40:80, 30:90] = 60
    ways, pictures = [], []
    for _ in range(40):
        seen = augment(image_HW, np.random.default_rng(3), config, mirrored=False, own=own)
        if seen.intact:
            ways.append(seen.way_23)
            pictures.append(seen.pixels_HW.astype(float))
    assert 20 < len(ways) < 36, "each is spoiled or not by itself"
    assert np.ptp(np.stack(ways), axis=0).max() == 0.0
    assert np.std([picture.mean() for picture in pictures]) < 1.0
    moved = [
        augment(image_HW, np.random.default_rng(3), replace(config, moved_px=1.0, spoiled=0.0), mirrored=False, own=own)
        for _ in range(60)
    ]
    assert np.std([seen.way_23[:, 2] for seen in moved], axis=0) == pytest.approx(1.0, abs=0.4)


def test_as_many_crops_are_spoiled_as_asked() -> None:
    rng, config = np.random.default_rng(5), AugmentConfig(spoiled=0.3)
    intact = [augment(dot(64, 64), rng, config, mirrored=False)[1] for _ in range(400)]
    assert 0.62 < np.mean(intact) < 0.78


def test_a_seed_repeats_a_crop() -> None:
    config = AugmentConfig()
    first, *_ = augment(dot(64, 64), np.random.default_rng(9), config, mirrored=False)
    second, *_ = augment(dot(64, 64), np.random.default_rng(9), config, mirrored=False)
    np.testing.assert_array_equal(first, second)


def test_the_crop_given_is_left_alone() -> None:
    image_HW = dot(64, 64)
    before_HW = image_HW.copy()
    for seed in range(30):
        augment(image_HW, np.random.default_rng(seed), AugmentConfig(), mirrored=False)
    np.testing.assert_array_equal(image_HW, before_HW)


def test_shares_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="Shares"):
        AugmentConfig(spoiled=1.5)


def test_half_the_augmentation_spoils_as_many_crops() -> None:
    full = AugmentConfig()
    half = full.scaled(0.5)
    assert (half.shift, half.rotation_deg) == (full.shift / 2, full.rotation_deg / 2)
    assert half.spoiled == full.spoiled
    assert full.scaled(1.0) == full


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_face_whose_place_is_known_is_cut_there(mirrored: bool) -> None:
    slip, image_HW = Slip(7.0, -4.0, 6.0, 1.1), dot(64, 90)
    seen_HW, intact, way_23 = augment(image_HW, np.random.default_rng(0), NO_AUGMENTATION, mirrored=mirrored, slip=slip)
    expected_HW = seen_through(slip, image_HW)
    assert intact
    inside = (slice(16, -16), slice(16, -16))  # beyond the edges is left to chance
    np.testing.assert_allclose(
        seen_HW[inside].astype(int), expected_HW[:, :: -1 if mirrored else 1][inside].astype(int), atol=12
    )
    told = carried(np.array([[90 - 63.5, 64 - 63.5, 1.0, 0.0]]), way_23)[0]
    np.testing.assert_allclose(centre_of_light(seen_HW), 63.5 + told[1::-1], atol=0.6)


def test_some_faces_stay_where_nobody_has_placed_them_and_those_move_further() -> None:
    config = AugmentConfig(spoiled=0.0, photometric=0.0, placed=0.5, placed_range=0.1, rotation_deg=0.0, scale=0.0)
    config = replace(config, moved_px=0.0)
    found = []
    for seed in range(200):
        image_HW, *_ = augment(
            dot(64, 64), np.random.default_rng(seed), config, mirrored=False, slip=Slip(20.0, 0.0, 0.0)
        )
        found.append(centre_of_light(image_HW)[1])
    placed_N = np.array(found) < 54
    assert 0.4 < placed_N.mean() < 0.6
    assert np.array(found)[placed_N].mean() == pytest.approx(44, abs=0.5)
    assert np.ptp(np.array(found)[placed_N]) < 2.5
    assert np.ptp(np.array(found)[~placed_N]) > 8
