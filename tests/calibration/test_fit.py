"""The fit: what it learns, what anchors and pull keep, and that held-out frames stay unseen."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.fit import FitConfig, fit_region
from calibration.material import EVERY_FIT, Material, material_of
from model_export.contract import EU_INDEX, FEATURE_COUNT, Camera, RegionHead
from model_export.contract.anchors import moment_of
from tests.calibration.synthetic_wearer import calibration_takes, own_head, universal

HEAD = universal()
OWN = own_head(HEAD, gain=1.4, offset=0.1)
QUICK = FitConfig(pull=1.0)
ANCHOR_FEATURES = (1 + np.random.default_rng(3).normal(0, 0.5, (600, FEATURE_COUNT))).astype(np.float32)
MOMENT = moment_of(ANCHOR_FEATURES)


@pytest.fixture(scope="module")
def mouth() -> Material:
    return material_of(Camera.MOUTH, HEAD.mouth, calibration_takes(HEAD, OWN))


def error(region: RegionHead, material: Material) -> float:
    out_TO = region.apply(material.features_TF).clip(0, 1)
    return float(np.sqrt(((out_TO - material.targets_TO)[:, material.asked_O] ** 2).mean()))


def moved(region: RegionHead, features_TF: NDArray[np.float32]) -> float:
    return float(np.abs(region.apply(features_TF) - HEAD.mouth.apply(features_TF)).mean())


@pytest.mark.parametrize("moment_GG", [None, MOMENT], ids=["no anchors", "anchors"])
def test_a_wearers_own_gain_and_offset_are_learned(mouth: Material, moment_GG: NDArray[np.float32] | None) -> None:
    fitted = fit_region(HEAD.mouth, mouth, moment_GG, replace(QUICK, anchors=10.0))
    assert error(fitted.region, mouth) < 0.8 * error(HEAD.mouth, mouth)


def test_one_output_is_the_solution_of_its_equations_written_out(mouth: Material) -> None:
    config = FitConfig(anchors=200.0, pull=5.0)
    found = fit_region(HEAD.mouth, mouth, MOMENT, config).region
    jaw = EU_INDEX["jawOpen"] - 24
    # the same least squares with the anchors' own frames as rows, each weighing anchors / frames, target 0
    mean_F = ANCHOR_FEATURES.astype(np.float64).mean(0)
    spread = np.sqrt(((ANCHOR_FEATURES - mean_F) ** 2).mean())
    rows = [np.c_[(part - mean_F) / spread, np.ones(len(part))] for part in (mouth.features_TF, ANCHOR_FEATURES)]
    out_T = HEAD.mouth.apply(mouth.features_TF)[:, jaw]
    target_T = mouth.targets_TO[:, jaw]
    left_T = np.where((target_T <= 0) & (out_T < 0) | (target_T >= 1) & (out_T > 1), 0, target_T - out_T)
    weights_T = mouth.weights_TO[:, jaw].astype(np.float64) / mouth.weights_TO[:, jaw].max()
    weights_T *= 45 * len(np.unique(mouth.unit_T)) / len(mouth)
    held_G = 5.0 + 1e-6 * len(mouth)
    stacked = np.r_[
        rows[0] * np.sqrt(weights_T)[:, None],
        rows[1] * np.sqrt(200 / len(ANCHOR_FEATURES)),
        np.eye(FEATURE_COUNT + 1) * np.sqrt(held_G),
    ]
    right = np.r_[left_T * np.sqrt(weights_T), np.zeros(len(ANCHOR_FEATURES) + FEATURE_COUNT + 1)]
    correction_G = np.linalg.lstsq(stacked, right, rcond=None)[0]
    expected_T = out_T + rows[0] @ correction_G
    np.testing.assert_allclose(found.apply(mouth.features_TF)[:, jaw], expected_T, atol=2e-3)


def test_anchors_keep_the_answers_to_free_movement(mouth: Material) -> None:
    heads = [fit_region(HEAD.mouth, mouth, MOMENT, replace(QUICK, anchors=held)).region for held in (0.0, 1e3, 1e6)]
    away = [moved(head, ANCHOR_FEATURES) for head in heads]
    assert away[0] > 2 * away[1] > 4 * away[2]
    assert error(heads[1], mouth) < error(HEAD.mouth, mouth)


def test_an_infinite_pull_gives_the_universal_head_itself(mouth: Material) -> None:
    assert fit_region(HEAD.mouth, mouth, MOMENT, replace(QUICK, pull=np.inf)).region is HEAD.mouth


def test_a_stronger_pull_stays_nearer(mouth: Material) -> None:
    fits = [fit_region(HEAD.mouth, mouth, None, replace(QUICK, pull=pull)).region for pull in (1.0, 100.0, 1e4)]
    away = [float(np.abs(fit.weight_FO - HEAD.mouth.weight_FO).sum()) for fit in fits]
    assert away[0] > away[1] > away[2] > 0


def test_twice_the_camera_rate_gives_the_same_head(mouth: Material) -> None:
    doubled = replace(
        mouth,
        features_TF=mouth.features_TF.repeat(2, axis=0),
        targets_TO=mouth.targets_TO.repeat(2, axis=0),
        weights_TO=(mouth.weights_TO.repeat(2, axis=0) / 2).astype(np.float32),
        known_TO=mouth.known_TO.repeat(2, axis=0),
        unit_T=mouth.unit_T.repeat(2),
        fold_T=mouth.fold_T.repeat(2),
    )
    one, other = (fit_region(HEAD.mouth, material, MOMENT, QUICK).region for material in (mouth, doubled))
    np.testing.assert_allclose(one.weight_FO, other.weight_FO, atol=1e-4)


def test_a_wearer_for_whom_the_head_is_right_keeps_its_answers() -> None:
    material = material_of(Camera.MOUTH, HEAD.mouth, calibration_takes(HEAD, HEAD))
    fitted = fit_region(HEAD.mouth, material, MOMENT)
    assert error(fitted.region, material) < 0.04  # the noise of the targets is 0.03, half of it clipped away


def test_held_out_answers_come_from_fits_that_did_not_see_the_frame(mouth: Material) -> None:
    before = fit_region(HEAD.mouth, mouth, None, QUICK).held_out_TO
    wrong_TO = mouth.targets_TO.copy()
    wrong_TO[mouth.fold_T == 0] = 1.0  # only what one side is told changes
    after = fit_region(HEAD.mouth, replace(mouth, targets_TO=wrong_TO), None, QUICK).held_out_TO
    np.testing.assert_array_equal(after[mouth.fold_T == 0], before[mouth.fold_T == 0])
    assert not np.array_equal(after[mouth.fold_T == 1], before[mouth.fold_T == 1])
    assert np.isnan(before[mouth.fold_T == EVERY_FIT]).all()
    assert np.isfinite(before[mouth.fold_T != EVERY_FIT]).all()


def test_outputs_that_nothing_is_known_of_answer_as_before(mouth: Material) -> None:
    fitted = fit_region(HEAD.mouth, mouth, MOMENT, QUICK).region
    quiet_O = ~mouth.weights_TO.any(axis=0)
    assert quiet_O.any()
    before_TO, after_TO = (head.apply(mouth.features_TF)[:, quiet_O] for head in (HEAD.mouth, fitted))
    np.testing.assert_allclose(after_TO, before_TO, atol=2e-4)


def test_the_same_material_gives_the_same_head(mouth: Material) -> None:
    one, other = (fit_region(HEAD.mouth, mouth, MOMENT, QUICK) for _ in range(2))
    np.testing.assert_array_equal(one.region.weight_FO, other.region.weight_FO)


@pytest.mark.parametrize(("name", "value"), [("anchors", -1.0), ("pull", -1.0), ("pull", np.nan)])
def test_a_configuration_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="should be 0 or more"):
        replace(FitConfig(), **{name: value})
