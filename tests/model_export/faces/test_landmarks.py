"""Points of the face: where they are told to be is where the picture shows them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.faces.render import RenderConfig, Stage, render_wearer
from model_export.points import EYE_POINTS, MOUTH_POINTS, MOUTH_POINTS_MIRROR
from tests.model_export.faces.looks import plain
from tests.model_export.faces.test_face import NEUTRAL, values


def placed(stage: Stage, distortion: float = 0.0, **units: float) -> tuple[NDArray[np.float64], ...]:
    dressed, fit = stage.dress(NEUTRAL), plain(NEUTRAL)
    fit = replace(fit, sensor=replace(fit.sensor, distortion=distortion))
    scene = stage.arrange(dressed, fit, values(**units), 0.5)
    pictures = stage.shoot(dressed, fit, scene, np.random.default_rng(0))
    return *(points.astype(np.float64) for points in stage.landmarks(dressed, fit, scene)), np.stack(pictures)


def test_a_face_at_rest_has_not_moved_and_lies_in_the_crops(stage: Stage) -> None:
    eyes_2K4, mouth_K4, _ = placed(stage)
    assert eyes_2K4.shape == (2, EYE_POINTS, 4)
    assert mouth_K4.shape == (MOUTH_POINTS, 4)
    for points_K4 in (*eyes_2K4, mouth_K4):
        np.testing.assert_allclose(points_K4[:, 2:], 0.0, atol=0.05)
        assert (np.abs(points_K4[:, :2]) < 64).mean() > 0.95
        assert (np.ptp(points_K4[:, :2], axis=0) > 50).all()


@pytest.mark.parametrize("distortion", [0.0, -0.1, 0.05])
def test_the_pupil_is_where_the_picture_is_darkest(stage: Stage, distortion: float) -> None:
    eyes_2K4, _, pictures_CHW = placed(stage, distortion, eyeLookOutLeft=0.6, eyeLookInRight=0.6, pupilDilateLeft=0.5)
    column, row = eyes_2K4[0, -1, :2] + 64
    dark_rows, dark_columns = np.nonzero(pictures_CHW[0] <= np.sort(pictures_CHW[0].ravel())[20])
    assert abs(np.median(dark_columns) + 0.5 - column) < 2.0
    assert abs(np.median(dark_rows) + 0.5 - row) < 2.0
    assert eyes_2K4[0, -1, 2] > 8  # outward is right in the left eye's picture
    assert eyes_2K4[1, -1, 2] > 8


def test_an_open_jaw_takes_the_lower_lip_down_and_leaves_the_nose(stage: Stage) -> None:
    _, mouth_K4, _ = placed(stage, jawOpen=1.0)
    below = mouth_K4[:, 1] - mouth_K4[:, 3] > 10
    assert np.median(mouth_K4[below, 3]) > 7
    nose = (mouth_K4[:, 1] - mouth_K4[:, 3] < -30) & (np.abs(mouth_K4[:, 0]) < 20)
    assert np.abs(mouth_K4[nose, 2:]).max() < 3.5


def test_counterparts_mirror_each_other(stage: Stage) -> None:
    eyes_2K4, *_ = placed(stage)
    _, mouth_K4, _ = placed(stage, mouthSmileLeft=0.8)
    np.testing.assert_allclose(eyes_2K4[1, :, :2] * (-1, 1), eyes_2K4[0, :, :2], atol=2.5)
    _, other_K4, _ = placed(stage, mouthSmileRight=0.8)
    np.testing.assert_allclose(other_K4[MOUTH_POINTS_MIRROR] * (-1, 1, -1, 1), mouth_K4, atol=3.0)


def test_a_wearers_supplement_belongs_to_the_frames(stage: Stage) -> None:
    _, rendered, supplement = render_wearer(stage, RenderConfig(1, 6, 3, "near", 2), 0)
    assert supplement.eye_points_T2K4.shape == (6, 2, EYE_POINTS, 4)
    assert supplement.mouth_points_TK4.shape == (6, MOUTH_POINTS, 4)
    assert np.isfinite(supplement.mouth_points_TK4).all()
    assert supplement.rest_eyes_2FHW.shape == (2, 2, 128, 128)
    # one fitting's rest looks like that fitting's frames, not like the other's
    middle_T = rendered.mouth_THW[:, 40:90, 40:90].mean(axis=(1, 2))
    rest_F = supplement.rest_mouth_FHW[:, 40:90, 40:90].mean(axis=(1, 2))
    own = np.abs(middle_T.reshape(2, 3).mean(axis=1) - rest_F)
    assert (own < np.abs(middle_T.reshape(2, 3).mean(axis=1) - rest_F[::-1])).all()
