"""What a training begins with: a bundle says the same before and after its batch norms are put back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.augment import NO_AUGMENTATION
from model_export.batches import BatchSource
from model_export.begin import begin_with
from model_export.contract import MAP_COUNT, read_bundle
from model_export.data import list_shards, open_shard
from model_export.errors import CheckpointError
from model_export.export import read_run
from model_export.losses import points_loss
from model_export.network import ConvBlock, ExpressionNetwork, Neutral
from model_export.onnx_features import onnx_features
from model_export.train import train
from model_export.wearer_names import names_in
from tests.model_export.train_tiny import TINY, tiny_config

COMPARED = Neutral(torch.zeros(8, 8), torch.rand(8, MAP_COUNT, generator=torch.Generator().manual_seed(0)))


def test_a_network_begun_with_a_bundle_says_what_the_bundle_says(disc_bundle: Path, disc_data: Path) -> None:
    network, bundle, entries = ExpressionNetwork(TINY, TINY), read_bundle(disc_bundle), list_shards(disc_data)
    begin_with(disc_bundle, network, entries)
    shard = open_shard(entries[0])
    eyes_BHW, mouths_BHW = shard.left_eye_THW[:8], shard.mouth_THW[:8]
    with torch.no_grad():
        pixels = torch.from_numpy(np.array(eyes_BHW)), torch.from_numpy(np.array(mouths_BHW))
        found = network.eval()(*pixels, COMPARED, COMPARED)
    neutral_BM = COMPARED.of_rests_BM.numpy()
    expected_BO = bundle.head.left_eye.apply(onnx_features(bundle.eye_onnx, eyes_BHW, 8, neutral_BM))
    np.testing.assert_allclose(found.eye_BO.numpy(), expected_BO, atol=2e-3)
    expected_BO = bundle.head.mouth.apply(onnx_features(bundle.mouth_onnx, mouths_BHW, 8, neutral_BM))
    np.testing.assert_allclose(found.mouth_BO.numpy(), expected_BO, atol=2e-3)


def test_its_norms_have_the_statistics_of_the_crops(disc_bundle: Path, disc_data: Path) -> None:
    network, entries = ExpressionNetwork(TINY, TINY), list_shards(disc_data)
    begin_with(disc_bundle, network, entries)
    batch = BatchSource(entries, 64, NO_AUGMENTATION, seed=0)[0]
    with torch.no_grad():
        nothing = [Neutral(torch.zeros(count, count), torch.zeros(count, MAP_COUNT)) for count in (128, 64)]
        calm = network.eval()(batch.eye_pixels_BHW, batch.mouth_pixels_BHW, *nothing)
        busy = network.train()(batch.eye_pixels_BHW, batch.mouth_pixels_BHW, *nothing)
    assert (calm.mouth_BO - busy.mouth_BO).abs().mean() < 0.1 * calm.mouth_BO.std()
    assert float(points_loss(calm, batch)) < 1.0  # the points' layers are fitted, not drawn


def test_its_kernels_are_as_large_as_a_training_makes_them(disc_bundle: Path, disc_data: Path) -> None:
    network = ExpressionNetwork(TINY, TINY)
    begin_with(disc_bundle, network, list_shards(disc_data))
    for backbone in (network.eye, network.mouth):
        blocks = [block for block in backbone.blocks if isinstance(block, ConvBlock)]
        assert len(blocks) == len(backbone.blocks)
        for kernel in [*(block.conv.weight for block in blocks), backbone.linear.weight]:
            size_C = kernel.detach().flatten(1).square().mean(1).sqrt()
            # a row that has died stays near 0
            np.testing.assert_allclose(size_C[size_C > 1e-3], 0.1, rtol=1e-3)
            assert (size_C > 1e-3).float().mean() > 0.5


def test_a_run_goes_on_from_a_bundle_and_its_record_tells_of_it(
    disc_bundle: Path, disc_run: Path, disc_data: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    result = train(replace(tiny_config(disc_data, tmp_path, epochs=1), start_from=disc_bundle, learning_rate=1e-3))
    before = read_run(disc_run).record["result"]
    assert result is not None
    assert result.unseen_r is not None
    assert result.unseen_r > before["unseen_r"] - 0.1
    record = read_run(tmp_path).record
    assert record["parent"]["bundle"]["digest"] == read_bundle(disc_bundle).digest
    assert record["config"]["start_from"] == before["weights_sha256"]
    trained_before = names_in(read_bundle(disc_bundle).training["data"]["trained_wearers"])
    assert trained_before
    assert trained_before <= names_in(record["data"]["trained_wearers"])  # named once, with ours
    assert "trained_wearers" not in record["parent"]["data"]


def test_a_bundle_of_other_widths_is_refused_by_name(disc_bundle: Path, disc_data: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"blocks.0.conv.weight .* should be \[32, 1, 8, 8\]. Found \[8, 1, 8, 8\]"
    ):
        begin_with(disc_bundle, ExpressionNetwork(), list_shards(disc_data))


def test_a_folder_that_holds_neither_is_refused(disc_data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="training.json"):
        begin_with(tmp_path, ExpressionNetwork(TINY, TINY), list_shards(disc_data))
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(CheckpointError, match="should be a bundle to begin with"):
        begin_with(tmp_path, ExpressionNetwork(TINY, TINY), list_shards(disc_data))
