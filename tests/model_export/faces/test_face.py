"""The rig's traps, measured in what is rendered."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_COUNT, EU_INDEX, EU_NAMES, LEFT_EYE_EUS, MOUTH_EUS, RIGHT_EYE_EUS
from model_export.faces.anatomy import EYE, LASH, TONGUE
from model_export.faces.camera import place_camera
from model_export.faces.puppet import Puppet
from model_export.faces.render import Stage
from model_export.faces.shading import Painter
from model_export.faces.wearer import Wearer, draw_wearer, gaze_degrees
from tests.model_export.faces.looks import frontal, plain

NEUTRAL = replace(
    draw_wearer(3),
    identity_I=np.zeros(50, np.float32),
    gain_E=np.ones(EU_COUNT, np.float32),
    rest_E=np.zeros(EU_COUNT, np.float32),
    beard=0.0,
    make_up=0.0,
    gaze_range_deg=(35.0, 35.0, 25.0, 25.0),
)


def values(**units: float) -> NDArray[np.float32]:
    values_E = np.zeros(EU_COUNT, np.float32)
    for name, value in units.items():
        values_E[EU_INDEX[name]] = value
    return values_E


def seen(stage: Stage, wearer: Wearer, camera: int, part: int, **units: float) -> int:
    """Pixels of a part in a frontal crop."""
    pose = Puppet(stage.anatomy, wearer).pose(values(**units))
    target = pose.eyes[camera].shell_centre_3 if camera < 2 else pose.lips_3
    mesh = stage.anatomy.meshes_C[camera]
    surface = Painter(mesh).surface(pose, place_camera(frontal(), camera, target, 0.5, 128))
    hit = surface.triangle_HW >= 0
    return int((mesh.part_T[surface.triangle_HW[hit]] == part).sum())


@pytest.mark.parametrize("seed", range(12))
def test_a_full_blink_hides_the_eye_of_every_wearer(stage: Stage, seed: int) -> None:
    wearer = draw_wearer(seed)
    for camera, side in enumerate(("Left", "Right")):
        open_px = seen(stage, wearer, camera, EYE)
        assert open_px > 300
        for others in ({}, {f"eyeLookDown{side}": 1.0}, {f"eyeLookUp{side}": 1.0}, {f"eyeSquint{side}": 1.0}):
            assert seen(stage, wearer, camera, EYE, **{f"eyeBlink{side}": 1.0}, **others) < 0.12 * open_px


def test_half_a_blink_hides_about_half(stage: Stage) -> None:
    whole = seen(stage, NEUTRAL, 0, EYE)
    assert 0.25 * whole < seen(stage, NEUTRAL, 0, EYE, eyeBlinkLeft=0.5) < 0.75 * whole


@pytest.mark.parametrize("camera", [0, 1])
@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.0, 0.4), (0.4, -0.3)])
def test_the_pupil_is_where_geometry_puts_it(stage: Stage, camera: int, yaw: float, pitch: float) -> None:
    side, outward = (("Left", 1.0), ("Right", -1.0))[camera]
    share = outward * yaw
    values_E = values(
        **{
            f"eyeLookOut{side}": max(0.0, share),
            f"eyeLookIn{side}": max(0.0, -share),
            f"eyeLookUp{side}": max(0.0, pitch),
            f"eyeLookDown{side}": max(0.0, -pitch),
            f"eyeWide{side}": 1.0,
        }
    )
    dressed = stage.dress(NEUTRAL)
    fit = plain(NEUTRAL)
    pose = dressed.puppet.pose(values_E)
    eye = pose.eyes[camera]
    np.testing.assert_allclose(pose.gaze_4[2 * camera : 2 * camera + 2], [35.0 * yaw, 25.0 * pitch], atol=1e-4)
    pixels = stage.picture(dressed, fit, values_E, 0.5, np.random.default_rng(0))[camera].astype(np.float64)
    view = place_camera(fit.fitting, camera, eye.shell_centre_3, 0.5, 128)
    angle_x, angle_y = np.radians(35.0 * yaw), np.radians(25.0 * pitch)
    gaze = np.array([np.sin(angle_x) * np.cos(angle_y), np.sin(angle_y), np.cos(angle_x) * np.cos(angle_y)])
    reach = np.sqrt(eye.radius_cm**2 - eye.iris_radius_cm**2)
    expected = view.project((eye.centre_3 + reach * gaze)[None].astype(np.float32))[0]
    rows, columns = np.mgrid[0:128, 0:128] + 0.5
    near = np.hypot(columns - expected[0], rows - expected[1]) < 12
    dark = near & (pixels < 0.35 * np.median(pixels[near]))
    assert dark.sum() > 15
    np.testing.assert_allclose([columns[dark].mean(), rows[dark].mean()], expected, atol=1.0)


def test_a_dilated_pupil_is_larger(stage: Stage) -> None:
    dressed, fit = stage.dress(NEUTRAL), plain(NEUTRAL)
    dark = []
    for dilate in (0.0, 0.5, 1.0):
        pixels = stage.picture(
            dressed, fit, values(pupilDilateLeft=dilate, eyeWideLeft=1.0), 0.5, np.random.default_rng(0)
        )[0]
        dark.append(int((pixels[44:84, 44:84] < 30).sum()))
    assert dark[0] < dark[1] < dark[2]


def changes(stage: Stage, unit: str) -> list[float]:
    """Greatest change of each camera's picture when a unit goes to 1."""
    wearer = replace(NEUTRAL, identity_I=np.zeros(50, np.float32))
    dressed, fit = stage.dress(wearer), plain(wearer)
    # exposure follows the picture's mean; here it must not
    base = {"jawOpen": 0.5} if unit == "mouthClose" else {}
    before, after = (
        stage.picture(dressed, fit, values(**base, **more), 0.5, np.random.default_rng(0)) for more in ({}, {unit: 0.9})
    )
    return [float(np.abs(a.astype(float) - b.astype(float)).mean()) for a, b in zip(before, after, strict=True)]


@pytest.fixture(scope="module")
def changes_of(stage: Stage) -> dict[str, list[float]]:
    return {unit: changes(stage, unit) for unit in EU_NAMES}


@pytest.mark.parametrize("unit", EU_NAMES)
def test_every_unit_shows_in_the_camera_that_sees_it(changes_of: dict[str, list[float]], unit: str) -> None:
    camera = 0 if unit in LEFT_EYE_EUS else 1 if unit in RIGHT_EYE_EUS else 2
    assert changes_of[unit][camera] > 0.15


@pytest.mark.parametrize("unit", [*LEFT_EYE_EUS, *RIGHT_EYE_EUS])
def test_an_eyes_unit_changes_its_own_camera_most(changes_of: dict[str, list[float]], unit: str) -> None:
    own = 0 if unit.endswith("Left") else 1
    left, right, mouth = changes_of[unit]
    assert (left, right)[own] > 4 * (left, right)[1 - own]
    assert (left, right)[own] > mouth


@pytest.mark.parametrize(
    "name", ["mouthSmile", "mouthFrown", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "cheekPuff"]
)
def test_left_units_move_the_image_right_half_of_the_mouth_crop(stage: Stage, name: str) -> None:
    dressed, fit = stage.dress(NEUTRAL), plain(NEUTRAL)
    rest = stage.picture(dressed, fit, values(), 0.5, np.random.default_rng(0))[2].astype(float)
    for side, own, other in (("Left", slice(64, 128), slice(0, 64)), ("Right", slice(0, 64), slice(64, 128))):
        moved = stage.picture(dressed, fit, values(**{name + side: 0.9}), 0.5, np.random.default_rng(0))[2].astype(
            float
        )
        change = np.abs(moved - rest)
        assert change[:, own].mean() > 1.5 * change[:, other].mean()


def test_the_tongue_comes_out_between_the_lips(stage: Stage) -> None:
    tongue = stage.anatomy.tongue_P
    rest, half, out = (
        Puppet(stage.anatomy, NEUTRAL).pose(values(jawOpen=0.3, tongueOut=value)) for value in (0.0, 0.5, 1.0)
    )
    tips = [pose.points_P3[tongue, 2].max() - pose.lips_3[2] for pose in (rest, half, out)]
    assert tips[0] < -1.0
    assert tips[0] < tips[1] < tips[2]
    assert tips[2] > 1.0
    inside = seen(stage, NEUTRAL, 2, TONGUE, jawOpen=0.3)
    assert seen(stage, NEUTRAL, 2, TONGUE, jawOpen=0.3, tongueOut=1.0) > inside + 300


def test_closing_a_dropped_jaws_lips_brings_them_together(stage: Stage) -> None:
    upper, lower = stage.anatomy.lips_P
    for jaw in (0.3, 0.8):
        gaps = []
        for close in (0.0, jaw):
            points = Puppet(stage.anatomy, NEUTRAL).pose(values(jawOpen=jaw, mouthClose=close)).points_P3
            gaps.append(float(points[upper, 1] - points[lower, 1]))
        assert gaps[0] > 2.0 * jaw
        assert abs(gaps[1]) < 0.3


def test_helper_shells_are_gone_and_lashes_are_strands(stage: Stage) -> None:
    for mesh in stage.anatomy.meshes_C:
        assert not np.isin(mesh.part_T, (LASH, 255)).any()
    for mesh in stage.anatomy.meshes_C[:2]:
        along, out = mesh.lash_uv_T32[..., 0], mesh.lash_uv_T32[..., 1]
        assert ((along >= 0) & (along <= 3)).all()
        assert out.min() == 0.0
        assert out.max() == 1.0
    dressed, fit = stage.dress(NEUTRAL), plain(NEUTRAL)
    thick = replace(fit, look=replace(fit.look, lash_cover=1.0, lash=0.0, lash_length=0.9, lash_count=40.0))
    bare, lashed = (
        stage.picture(dressed, which, values(eyeBlinkLeft=1.0), 0.5, np.random.default_rng(0))[0].astype(float)
        for which in (fit, thick)
    )
    darker = bare - lashed > 12
    strip = darker[:, 40:90]
    row = int(strip.sum(axis=1).argmax())
    assert strip[row].sum() > 5
    # strands: along the row of most lashes, skin shows between them
    assert np.abs(np.diff(strip[max(0, row + 2)].astype(int))).sum() >= 6


def test_gaze_labels_are_shares_of_the_wearers_own_range() -> None:
    wearer = replace(NEUTRAL, gaze_range_deg=(30.0, 40.0, 20.0, 25.0))
    found = gaze_degrees(
        wearer, values(eyeLookInLeft=0.5, eyeLookUpLeft=1.0, eyeLookOutRight=0.5, eyeLookDownRight=0.2)
    )
    np.testing.assert_allclose(found, [-15.0, 20.0, -20.0, -5.0], atol=1e-5)


def test_wearers_differ_and_repeat() -> None:
    first, again, other = draw_wearer(1), draw_wearer(1), draw_wearer(2)
    assert first.summary() == again.summary()
    assert first.summary() != other.summary()
    held_out = draw_wearer(1, space=1)
    assert held_out.summary() != first.summary()
    gains = np.array([draw_wearer(seed).gain_E for seed in range(40)])
    blinks = [EU_INDEX["eyeBlinkLeft"], EU_INDEX["eyeBlinkRight"]]
    others = np.delete(gains, blinks, axis=1)
    assert others.min() >= 0.6 - 1e-6
    assert others.max() <= 1.3 + 1e-6
    assert others[:, [EU_INDEX[name] - 2 for name in MOUTH_EUS[:3]]].std() > 0.05
