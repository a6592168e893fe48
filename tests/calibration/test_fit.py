"""The fit: what it learns, what the pull keeps, and that held-out frames stay unseen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration.fit import FitConfig, _Batch, _weights, fit_region
from calibration.material import EVERY_FIT, Material, material_of
from model_export.balancing import BALANCER_NAMES, balancer_by_name
from model_export.contract import EU_INDEX, FEATURE_COUNT, Camera, RegionHead
from tests.calibration.synthetic_wearer import calibration_takes, own_head, universal

HEAD = universal()
OWN = own_head(HEAD, gain=1.4, offset=0.1)
QUICK = FitConfig(steps=8, pull=0.01)


@pytest.fixture(scope="module")
def mouth() -> Material:
    return material_of(Camera.MOUTH, HEAD.mouth, calibration_takes(HEAD, OWN))


def error(region: RegionHead, material: Material) -> float:
    out_TO = region.apply(material.features_TF).clip(0, 1)
    return float(np.sqrt(((out_TO - material.targets_TO)[:, material.asked_O] ** 2).mean()))


@pytest.mark.parametrize("balancer", BALANCER_NAMES)
def test_a_wearers_own_gain_and_offset_are_learned_with_every_balancer(mouth: Material, balancer: str) -> None:
    fitted = fit_region(HEAD.mouth, mouth, replace(QUICK, balancer=balancer))
    assert fitted.steps > 0
    assert error(fitted.region, mouth) < 0.8 * error(HEAD.mouth, mouth)


def test_an_infinite_pull_gives_the_universal_head_exactly(mouth: Material) -> None:
    fitted = fit_region(HEAD.mouth, mouth, replace(QUICK, pull=np.inf))
    for part in ("down_FA", "down_bias_A", "up_AF", "weight_FO", "bias_O"):
        np.testing.assert_array_equal(getattr(fitted.region, part), getattr(HEAD.mouth, part))


@pytest.mark.parametrize("balancer", BALANCER_NAMES)
def test_one_pull_means_the_same_to_every_balancer(balancer: str) -> None:
    for scale in (1.0, 25.0):
        memory, losses_O = balancer_by_name(balancer), scale * torch.tensor([0.01, 0.4])
        memory.update(losses_O)
        weights_O = _weights(memory, losses_O)
        assert float((weights_O * losses_O).sum()) == pytest.approx(1.0, rel=1e-3)
        assert (weights_O > 0).all()


def test_a_stronger_pull_stays_nearer(mouth: Material) -> None:
    away = [
        float(
            np.abs(
                fit_region(HEAD.mouth, mouth, replace(QUICK, pull=pull)).region.weight_FO - HEAD.mouth.weight_FO
            ).sum()
        )
        for pull in (0.01, 1.0, 100.0)
    ]
    assert away[0] > away[1] > away[2] > 0


def test_a_wearer_for_whom_the_head_is_right_keeps_it() -> None:
    material = material_of(Camera.MOUTH, HEAD.mouth, calibration_takes(HEAD, HEAD))
    fitted = fit_region(HEAD.mouth, material, QUICK)
    assert error(fitted.region, material) < 0.04  # the noise of the targets is 0.03, half of it clipped away


def test_held_out_answers_come_from_fits_that_did_not_see_the_frame(mouth: Material) -> None:
    before = fit_region(HEAD.mouth, mouth, QUICK).held_out_TO
    wrong_TO = mouth.targets_TO.copy()
    wrong_TO[mouth.fold_T == 0] = 1.0  # only what one side is told changes
    after = fit_region(HEAD.mouth, replace(mouth, targets_TO=wrong_TO), replace(QUICK, steps=4, stop_early=False))
    steady = fit_region(HEAD.mouth, mouth, replace(QUICK, steps=4, stop_early=False))
    assert after.steps == steady.steps == 4
    np.testing.assert_array_equal(after.held_out_TO[mouth.fold_T == 0], steady.held_out_TO[mouth.fold_T == 0])
    assert not np.array_equal(after.held_out_TO[mouth.fold_T == 1], steady.held_out_TO[mouth.fold_T == 1])
    assert np.isnan(before[mouth.fold_T == EVERY_FIT]).all()
    assert np.isfinite(before[mouth.fold_T != EVERY_FIT]).all()


def test_a_fit_that_helps_no_held_out_frame_takes_no_step(mouth: Material) -> None:
    said_TO = HEAD.mouth.apply(mouth.features_TF).clip(0, 1)
    shifted_TO = np.where(mouth.fold_T[:, None] == 0, said_TO + 0.2, said_TO).clip(0, 1).astype(np.float32)
    fitted = fit_region(HEAD.mouth, replace(mouth, targets_TO=shifted_TO), QUICK)
    assert fitted.steps == 0
    assert fitted.region is HEAD.mouth


def test_the_same_material_gives_the_same_head(mouth: Material) -> None:
    one, other = (fit_region(HEAD.mouth, mouth, replace(QUICK, steps=4)) for _ in range(2))
    np.testing.assert_array_equal(one.region.weight_FO, other.region.weight_FO)


def test_the_linear_layer_alone_can_be_fitted(mouth: Material) -> None:
    fitted = fit_region(HEAD.mouth, mouth, replace(QUICK, adapter=False))
    np.testing.assert_array_equal(fitted.region.down_FA, HEAD.mouth.down_FA)
    assert error(fitted.region, mouth) < error(HEAD.mouth, mouth)


def two_frames(targets: tuple[float, float], corner: float = 0.2, ranking: float = 0.0) -> _Batch:
    jaw = EU_INDEX["jawOpen"] - 24
    targets_TO, weights_TO = np.zeros((2, 33), np.float32), np.zeros((2, 33), np.float32)
    targets_TO[:, jaw], weights_TO[:, jaw] = targets, 0.5
    zeros_T = np.zeros(2, np.int32)
    material = Material(
        Camera.MOUTH,
        np.zeros((2, FEATURE_COUNT), np.float32),
        targets_TO,
        weights_TO,
        weights_TO * 2,
        np.ones(33, bool),
        zeros_T,
        zeros_T,
    )
    return _Batch(material, np.ones(2, bool), FitConfig(corner=corner, ranking=ranking))


def outputs(*jaw: float) -> torch.Tensor:
    out_TO = torch.zeros(2, 33)
    out_TO[:, EU_INDEX["jawOpen"] - 24] = torch.tensor(jaw)
    return out_TO


def test_the_loss_is_hubers_and_errors_beyond_the_ends_cost_nothing() -> None:
    # errors 0.1 and 0.5, corner 0.2: (0.1^2 / 2 + 0.2 (0.5 - 0.1)) / 2
    assert two_frames((0.5, 0.5)).losses(outputs(0.6, 0.0)).item() == pytest.approx(0.0425)
    # 0 and 1 are ends: -0.7 and 1.4 are clipped to them when served
    assert two_frames((0.0, 1.0)).losses(outputs(-0.7, 1.4)).item() == 0.0


def test_ranking_asks_for_half_of_the_targets_rise() -> None:
    batch = two_frames((0.2, 0.8), ranking=1.0)
    plain = two_frames((0.2, 0.8))
    for jaw, missing in (((0.2, 0.8), 0.0), ((0.4, 0.7), 0.0), ((0.4, 0.6), 0.1), ((0.6, 0.4), 0.5)):
        found = batch.losses(outputs(*jaw)) - plain.losses(outputs(*jaw))
        assert found.item() == pytest.approx(missing, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("pull", -1.0), ("corner", 0.0), ("relaxation", 0.5), ("balancer", "none")]
)
def test_a_configuration_that_cannot_be_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="should"):
        replace(FitConfig(), **{name: value})  # type: ignore[arg-type]  # the wrong values are the point
