import numpy as np
import pytest

from model_export.faces.camera import MOUTH_DROP_CM, SPAN_CM, Fitting, draw_fitting, place_camera
from tests.model_export.faces.looks import frontal


def test_frontal_pictures_are_upright_and_not_mirrored() -> None:
    target = np.array([3.1, 3.6, 8.0], np.float32)
    view = place_camera(frontal(), 0, target, 0.5, 128)
    middle, left, up = view.project(target + np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32))
    np.testing.assert_allclose(middle, [64, 64], atol=1e-3)
    assert left[0] > middle[0] + 20  # the subject's left is at image right
    assert up[1] < middle[1] - 20


@pytest.mark.parametrize("camera", [0, 1, 2])
def test_a_crop_spans_the_canonical_width_around_its_target(camera: int) -> None:
    target = np.array([0.5, -1.0, 8.0], np.float32)
    view = place_camera(frontal(), camera, target, 0.5, 128)
    centre = target - np.array([0, MOUTH_DROP_CM if camera == 2 else 0.0, 0], np.float32)
    half = np.array([SPAN_CM[camera] / 2, 0, 0], np.float32)
    edges = view.project(np.stack([centre - half, centre + half]))
    np.testing.assert_allclose(edges, [[0, 64], [128, 64]], atol=1e-2)


def test_rotation_is_right_down_forward() -> None:
    for seed in range(50):
        fitting = draw_fitting(np.random.default_rng(seed), "train")
        for camera in range(3):
            view = place_camera(fitting, camera, np.array([1.0, 2.0, 8.0], np.float32), 0.0, 128)
            matrix = view.rotation_33
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
            np.testing.assert_allclose(np.cross(matrix[0], matrix[1]), matrix[2], atol=1e-5)
            assert matrix[2, 2] < 0  # cameras stand before the face and look at it


def test_training_mixes_frontal_and_headset_fittings_half_and_half() -> None:
    fittings = [draw_fitting(np.random.default_rng([1, seed]), "train") for seed in range(400)]
    headsets = [fitting for fitting in fittings if fitting.headset]
    assert 0.42 < len(headsets) / 400 < 0.58

    def distances(chosen: list[Fitting]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.array([np.linalg.norm(fitting.position_C3[0]) for fitting in chosen], np.float64)

    assert distances(headsets).max() < 8.0
    assert distances([fitting for fitting in fittings if not fitting.headset]).min() > 30.0
    # the field of view follows from span and distance: headset cameras reach 60 to 110 degrees
    fields = 2 * np.degrees(np.arctan(SPAN_CM[0] / 2 / distances(headsets)))
    assert fields.max() > 90
    assert np.quantile(fields, 0.1) > 40


def test_slip_moves_the_camera_through_a_fitting() -> None:
    fitting = draw_fitting(np.random.default_rng(3), "headset")
    target = np.array([3.0, 3.6, 8.0], np.float32)
    first, last = (place_camera(fitting, 0, target, phase, 128).position_3 for phase in (0.0, 1.0))
    np.testing.assert_allclose(last - first, fitting.slip_3, atol=1e-5)
