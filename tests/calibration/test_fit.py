"""The fit: what it learns from the map, what the pull keeps, and that held-out frames stay unseen."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.fit import FitConfig, fit_region
from calibration.material import EVERY_FIT, Material, material_of
from model_export.contract import EU_INDEX, LAST_COUNT, MAP_COUNT, Camera, RegionHead
from tests.calibration.synthetic_wearer import calibration_takes, own_head, universal

HEAD = universal()
OWN = own_head(HEAD, gain=1.4, offset=0.1)
QUICK = FitConfig(eye_pull=1.0, mouth_pull=1.0)


@pytest.fixture(scope="module")
def mouth() -> Material:
    return material_of(Camera.MOUTH, HEAD.mouth, calibration_takes(HEAD, OWN))


def error(region: RegionHead, material: Material) -> float:
    out_TO = region.apply(material.features_TF).clip(0, 1)
    return float(np.sqrt(((out_TO - material.targets_TO)[:, material.asked_O] ** 2).mean()))


def read(region: RegionHead) -> float:
    """How much of the map a head reads."""
    return 0.0 if region.map_MO is None else float(np.abs(region.map_MO).sum())


@pytest.mark.parametrize("camera", list(Camera))
def test_a_wearers_own_gain_and_offset_are_learned(camera: Camera) -> None:
    material = material_of(camera, HEAD[camera], calibration_takes(HEAD, OWN))
    fitted = fit_region(HEAD[camera], material, QUICK)
    assert error(fitted.region, material) < 0.8 * error(HEAD[camera], material)
    for part in ("down_FA", "down_bias_A", "up_AF", "weight_FO"):
        np.testing.assert_array_equal(getattr(fitted.region, part), getattr(HEAD[camera], part))


def test_one_output_is_the_solution_of_its_equations_written_out(mouth: Material) -> None:
    found = fit_region(HEAD.mouth, mouth, FitConfig(mouth_pull=5.0)).region
    jaw = EU_INDEX["jawOpen"] - 24
    map_TM = mouth.features_TF[:, LAST_COUNT:].astype(np.float64)
    x_TM = map_TM - np.median(map_TM[mouth.fold_T == EVERY_FIT], axis=0)
    x_TG = np.c_[x_TM / np.sqrt((x_TM**2).mean()), np.ones(len(mouth))]
    out_T = HEAD.mouth.apply(mouth.features_TF)[:, jaw]
    target_T = mouth.targets_TO[:, jaw]
    left_T = np.where((target_T <= 0) & (out_T < 0) | (target_T >= 1) & (out_T > 1), 0, target_T - out_T)
    weights_T = mouth.weights_TO[:, jaw].astype(np.float64) / mouth.weights_TO[:, jaw].max()
    weights_T *= 45 * len(np.unique(mouth.unit_T)) / len(mouth)
    stacked = np.r_[x_TG * np.sqrt(weights_T)[:, None], np.eye(MAP_COUNT + 1) * np.sqrt(5.0)]
    correction_G = np.linalg.lstsq(stacked, np.r_[left_T * np.sqrt(weights_T), np.zeros(MAP_COUNT + 1)], rcond=None)[0]
    np.testing.assert_allclose(found.apply(mouth.features_TF)[:, jaw], out_T + x_TG @ correction_G, atol=2e-3)


def test_a_correction_is_of_the_way_from_rest(mouth: Material) -> None:
    """At rest only the offset is left of it."""
    found = fit_region(HEAD.mouth, mouth, QUICK).region
    rest_F = np.median(mouth.features_TF[mouth.fold_T == EVERY_FIT], axis=0)[None]
    at_rest_O = (found.apply(rest_F) - HEAD.mouth.apply(rest_F))[0, mouth.asked_O]
    assert np.abs(at_rest_O).max() < 0.15
    assert at_rest_O.mean() == pytest.approx(0.1, abs=0.03)  # the wearer's own


def test_a_head_that_reads_the_map_already_is_corrected_from_there(mouth: Material) -> None:
    random = np.random.default_rng(8)
    map_MO = random.normal(0, 1e-3, (MAP_COUNT, HEAD.mouth.bias_O.size)).astype(np.float32)
    base = replace(HEAD.mouth, map_MO=map_MO)
    found = fit_region(base, mouth, QUICK).region
    assert error(found, mouth) < 0.8 * error(base, mouth)
    quiet_O = ~mouth.weights_TO.any(axis=0)
    assert found.map_MO is not None
    np.testing.assert_array_equal(found.map_MO[:, quiet_O], map_MO[:, quiet_O])


def test_an_infinite_pull_gives_the_universal_head_itself(mouth: Material) -> None:
    assert fit_region(HEAD.mouth, mouth, replace(QUICK, mouth_pull=np.inf)).region is HEAD.mouth


def test_a_stronger_pull_stays_nearer(mouth: Material) -> None:
    fits = [fit_region(HEAD.mouth, mouth, replace(QUICK, mouth_pull=pull)).region for pull in (1.0, 1e3, 1e5)]
    away = [read(fit) for fit in fits]
    assert away[0] > away[1] > away[2] > 0


def test_each_region_is_pulled_by_its_own() -> None:
    config = FitConfig(eye_pull=2.0, mouth_pull=7.0)
    assert [config.pull(camera) for camera in Camera] == [2.0, 2.0, 7.0]


@pytest.mark.parametrize("times", [2, 12])
def test_a_higher_camera_rate_gives_the_same_head(mouth: Material, times: int) -> None:
    """Twelve times as many frames are more than a fit takes."""
    faster = replace(
        mouth,
        features_TF=mouth.features_TF.repeat(times, axis=0),
        targets_TO=mouth.targets_TO.repeat(times, axis=0),
        weights_TO=(mouth.weights_TO.repeat(times, axis=0) / times).astype(np.float32),
        known_TO=mouth.known_TO.repeat(times, axis=0),
        unit_T=mouth.unit_T.repeat(times),
        fold_T=mouth.fold_T.repeat(times),
    )
    one, other = (fit_region(HEAD.mouth, material, QUICK).region for material in (mouth, faster))
    np.testing.assert_allclose(one.apply(mouth.features_TF), other.apply(mouth.features_TF), atol=0.02)
    assert read(one) == pytest.approx(read(other), rel=0.02)


def test_a_wearer_for_whom_the_head_is_right_keeps_its_answers() -> None:
    material = material_of(Camera.MOUTH, HEAD.mouth, calibration_takes(HEAD, HEAD))
    fitted = fit_region(HEAD.mouth, material)
    assert error(fitted.region, material) < 0.04  # the noise of the targets is 0.03, half of it clipped away


def test_held_out_answers_come_from_fits_that_did_not_see_the_frame(mouth: Material) -> None:
    before = fit_region(HEAD.mouth, mouth, QUICK).held_out_TO
    wrong_TO = mouth.targets_TO.copy()
    wrong_TO[mouth.fold_T == 0] = 1.0  # only what one side is told changes
    after = fit_region(HEAD.mouth, replace(mouth, targets_TO=wrong_TO), QUICK).held_out_TO
    np.testing.assert_array_equal(after[mouth.fold_T == 0], before[mouth.fold_T == 0])
    assert not np.array_equal(after[mouth.fold_T == 1], before[mouth.fold_T == 1])
    assert np.isnan(before[mouth.fold_T == EVERY_FIT]).all()
    assert np.isfinite(before[mouth.fold_T != EVERY_FIT]).all()


def test_outputs_that_nothing_is_known_of_answer_as_before(mouth: Material) -> None:
    fitted = fit_region(HEAD.mouth, mouth, QUICK).region
    quiet_O = ~mouth.weights_TO.any(axis=0)
    assert quiet_O.any()
    before_TO, after_TO = (head.apply(mouth.features_TF)[:, quiet_O] for head in (HEAD.mouth, fitted))
    np.testing.assert_array_equal(after_TO, before_TO)


def test_the_same_material_gives_the_same_head(mouth: Material) -> None:
    one, other = (fit_region(HEAD.mouth, mouth, QUICK) for _ in range(2))
    assert one.region.map_MO is not None
    assert other.region.map_MO is not None
    np.testing.assert_array_equal(one.region.map_MO, other.region.map_MO)


def test_without_a_rest_take_frames_are_seen_from_their_middle(mouth: Material) -> None:
    moving = replace(mouth, fold_T=np.where(mouth.fold_T == EVERY_FIT, 0, mouth.fold_T))
    assert error(fit_region(HEAD.mouth, moving, QUICK).region, mouth) < 0.8 * error(HEAD.mouth, mouth)


@pytest.mark.parametrize(("name", "value"), [("eye_pull", 0.0), ("mouth_pull", -1.0), ("mouth_pull", np.nan)])
def test_a_configuration_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="should be more than 0"):
        replace(FitConfig(), **{name: value})
