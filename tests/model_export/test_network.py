"""The network: exposure, mirrored arithmetic, folding, budget."""

import numpy as np
import pytest
import torch

from model_export.contract import FEATURE_COUNT, LAST_COUNT, MAP_COUNT
from model_export.network import (
    EYE_BACKBONE,
    MOUTH_BACKBONE,
    Backbone,
    BackboneConfig,
    ExpressionNetwork,
    HeadModule,
    Neutral,
    convolution_flops,
    deployed,
    folded,
    uncompared,
)
from model_export.standardise import LocalStandardisation

TINY = BackboneConfig(stem=4, middle=4, middle_blocks=1, top=8, top_blocks=1)


def picture(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    coarse_HW = rng.uniform(60, 120, (16, 16)).repeat(8, 0).repeat(8, 1)
    return torch.from_numpy(coarse_HW[None].round())


@pytest.mark.parametrize(("gain", "offset"), [(1.6, 0), (0.7, 0), (1.0, 60), (0.8, 30)])
def test_gain_and_offset_of_the_exposure_hardly_change_what_is_seen(gain: float, offset: float) -> None:
    standardise = LocalStandardisation()
    before = standardise(picture().to(torch.uint8))
    after = standardise((picture() * gain + offset).round().to(torch.uint8))
    assert (before - after).abs().mean() < 0.06
    assert before.std() == pytest.approx(1.0, abs=0.25)


def test_gamma_changes_little_of_what_is_seen() -> None:
    standardise = LocalStandardisation()
    before = standardise(picture().to(torch.uint8))
    after = standardise((255 * (picture() / 255) ** 0.6).round().to(torch.uint8))
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.99


def test_a_flat_picture_gives_finite_values() -> None:
    assert (LocalStandardisation()(torch.full((1, 128, 128), 200, dtype=torch.uint8)) == 0).all()


def test_folding_batch_norms_keeps_the_features() -> None:
    torch.manual_seed(1)
    backbone = Backbone(TINY)
    pixels_BHW = torch.randint(0, 256, (6, 128, 128), dtype=torch.uint8)
    for _ in range(3):
        backbone(pixels_BHW, uncompared(pixels_BHW))  # moves the running statistics away from 0 and 1
    backbone.eval()
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        inputs = pixels_BHW, torch.rand(6, MAP_COUNT)
        torch.testing.assert_close(folded(backbone)(*inputs), backbone(*inputs), atol=2e-5, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded(backbone).modules())


@pytest.mark.parametrize("outputs", [15, 33])
def test_numpy_head_agrees_with_torch_head(outputs: int) -> None:
    torch.manual_seed(outputs)
    head = HeadModule(outputs)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(0, 0.1)
        features_BF = torch.rand(7, LAST_COUNT)
        expected = head(features_BF).numpy()
    np.testing.assert_allclose(head.to_region_head().apply(features_BF.numpy()), expected, atol=1e-5, rtol=1e-5)


def test_gaze_comes_out_in_degrees() -> None:
    head = HeadModule(15)
    with torch.no_grad():
        head.weight_FO.zero_()
        head.bias_O.fill_(1.0)
    out_BO = head(torch.zeros(1, LAST_COUNT))
    assert out_BO[0].tolist() == [1.0] * 12 + [10.0, 10.0, 1.0]


def test_both_eyes_carry_the_same_universal_head() -> None:
    head = ExpressionNetwork(TINY, TINY).to_head()
    assert head.left_eye is head.right_eye


def test_shipped_sizes_keep_the_budget() -> None:
    network = ExpressionNetwork()
    assert 2 * convolution_flops(EYE_BACKBONE) + convolution_flops(MOUTH_BACKBONE) < 185e6
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_400_000


def test_what_is_shipped_is_exact_in_half_precision_and_hardly_moves_the_values() -> None:
    torch.manual_seed(3)
    network = ExpressionNetwork(TINY, TINY).eval()
    shipped = deployed(network)
    for parameter in (*shipped.eye.parameters(), *shipped.mouth.parameters()):
        assert parameter.ndim == 1 or torch.equal(parameter, parameter.half().float())
    pixels_BHW = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        neutral_BM = torch.rand(3, MAP_COUNT)
        before_BF, after_BF = network.eye(pixels_BHW, neutral_BM), shipped.eye(pixels_BHW, neutral_BM)
    assert (after_BF - before_BF).abs().max() < 5e-3 * before_BF.max()


def test_mixed_precision_stays_near_full_precision_and_its_heads_are_full() -> None:
    torch.manual_seed(4)
    network = ExpressionNetwork(TINY, TINY).eval()
    eyes_BHW = torch.randint(0, 256, (2, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        inputs = (eyes_BHW, eyes_BHW, *[Neutral(torch.eye(2).flip(0), torch.zeros(2, MAP_COUNT))] * 2)
        full_BO, *_ = network(*inputs)
        network.precision = torch.bfloat16
        mixed_BO, *_ = network(*inputs)
    assert mixed_BO.dtype == torch.float32
    assert 0 < (mixed_BO - full_BO).abs().max() < 0.05 * full_BO.abs().max()


def test_features_are_the_last_layers_and_the_map_that_it_reads() -> None:
    torch.manual_seed(5)
    backbone = Backbone(TINY).eval()
    pixels_BHW = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        features_BF = backbone(pixels_BHW, uncompared(pixels_BHW))
        map_BM = backbone.map(backbone.standardise(pixels_BHW))
        again_BF = torch.relu(backbone.norm(backbone.linear(backbone.comparison(map_BM, torch.zeros_like(map_BM)))))
    assert features_BF.shape == (3, FEATURE_COUNT)
    torch.testing.assert_close(features_BF[:, LAST_COUNT:], map_BM)
    torch.testing.assert_close(features_BF[:, :LAST_COUNT], again_BF)


def test_only_the_last_layer_sees_what_a_face_is_compared_with_and_each_place_for_itself() -> None:
    torch.manual_seed(5)
    backbone = Backbone(TINY).eval()
    pixels_BHW = torch.randint(0, 256, (2, 128, 128), dtype=torch.uint8)
    neutral_BM = torch.rand(2, MAP_COUNT)
    with torch.no_grad():
        plain_BF = backbone(pixels_BHW, uncompared(pixels_BHW))
        torch.testing.assert_close(backbone(pixels_BHW, neutral_BM), plain_BF)  # a new comparison says nothing
        backbone.comparison.out.weight.normal_()
        compared_BF = backbone(pixels_BHW, neutral_BM)
        map_BM = plain_BF[:, LAST_COUNT:]
        whole_BM = backbone.comparison(map_BM, neutral_BM)
        neutral_BM.view(2, -1, 8, 8)[:, :, 3, 5] += 1.0
        moved_BCGG = (backbone.comparison(map_BM, neutral_BM) - whole_BM).view(2, -1, 8, 8).abs().sum(1)
    torch.testing.assert_close(compared_BF[:, LAST_COUNT:], map_BM)
    assert (compared_BF[:, :LAST_COUNT] - plain_BF[:, :LAST_COUNT]).abs().max() > 0.01
    assert moved_BCGG[:, 3, 5].min() > 0.01
    moved_BCGG[:, 3, 5] = 0.0
    assert moved_BCGG.max() == 0.0


def test_crops_are_compared_with_each_other_and_with_rests_by_their_shares() -> None:
    torch.manual_seed(6)
    network = ExpressionNetwork(TINY, TINY).eval()
    for backbone in (network.eye, network.mouth):
        torch.nn.init.normal_(backbone.comparison.out.weight)
    eyes_BHW, mouths_BHW = (torch.randint(0, 256, (count, 128, 128), dtype=torch.uint8) for count in (4, 2))
    of_crops_BB = torch.tensor([[0, 0.3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0.5], [0, -0.2, 0, 0]])
    of_rests_BM = torch.rand(4, MAP_COUNT) * torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    nothing = Neutral(torch.zeros(2, 2), torch.zeros(2, MAP_COUNT))
    with torch.no_grad():
        found = network(eyes_BHW, mouths_BHW, Neutral(of_crops_BB, of_rests_BM), nothing)
        map_BM = network.eye.map(network.eye.standardise(eyes_BHW))
        # the last one would be below 0, which no map is
        neutral_BM = of_rests_BM + torch.stack([0.3 * map_BM[1], 0 * map_BM[0], 0.5 * map_BM[3], 0 * map_BM[0]])
        expected_BO = network.eye_head(network.eye(eyes_BHW, neutral_BM)[:, :LAST_COUNT])
        plain_BO = network.mouth_head(network.mouth(mouths_BHW, uncompared(mouths_BHW))[:, :LAST_COUNT])
    torch.testing.assert_close(found.eye_BO, expected_BO)
    torch.testing.assert_close(found.mouth_BO, plain_BO)


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="`flat` should be 16. Found 4"):
        BackboneConfig(flat=4)


def test_flops_are_those_of_the_layers() -> None:
    backbone, counted = Backbone(TINY), 0

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        places = output[0, 0].numel() if output.ndim == 4 else 1
        counted += 2 * places * module.weight.numel()

    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    pixels_BHW = torch.zeros(2, 128, 128, dtype=torch.uint8)
    backbone(pixels_BHW, uncompared(pixels_BHW))
    assert convolution_flops(TINY) == counted


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        BackboneConfig(stem=0)
