"""Export: torch and onnxruntime agree, or nothing is written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from model_export.checkpoint import WEIGHTS_FILE
from model_export.contract import EU_NAMES, MAP_COUNT, read_bundle
from model_export.errors import CheckpointError, ExportError
from model_export.export import TrainedRun, export, make_golden, read_run, require_agreement, to_onnx, write_checked
from model_export.network import deployed, uncompared
from model_export.onnx_features import onnx_features


@pytest.fixture(scope="module")
def trained(disc_run: Path) -> TrainedRun:
    return read_run(disc_run)


@pytest.fixture(scope="module")
def backbones(trained: TrainedRun) -> tuple[bytes, bytes]:
    return to_onnx(trained.network.eye), to_onnx(trained.network.mouth)


def test_onnxruntime_gives_the_features_of_torch_for_any_batch(
    trained: TrainedRun, backbones: tuple[bytes, bytes]
) -> None:
    pixels_BHW = np.random.default_rng(0).integers(0, 256, (5, 128, 128), dtype=np.uint8)
    neutral_BM = np.random.default_rng(1).random((5, MAP_COUNT)).astype(np.float32)
    neutral_BM[2] = 0.0
    with torch.no_grad():
        expected_BF = trained.network.eye(torch.from_numpy(pixels_BHW), torch.from_numpy(neutral_BM)).numpy()
    for batch in (1, 2, 5):
        np.testing.assert_allclose(onnx_features(backbones[0], pixels_BHW, batch, neutral_BM), expected_BF, atol=1e-4)
    plain_F = onnx_features(backbones[0], pixels_BHW[2:3], 1)[0]
    np.testing.assert_allclose(plain_F, expected_BF[2], atol=1e-4)


def test_the_graph_has_the_promised_ends(backbones: tuple[bytes, bytes]) -> None:
    model = onnx.load_from_string(backbones[1])
    (pixels, neutral), (features,) = model.graph.input, model.graph.output
    assert (pixels.name, neutral.name, features.name) == ("pixels", "neutral", "features")
    batch, count = neutral.type.tensor_type.shape.dim
    assert (batch.dim_param, count.dim_value) == ("batch", MAP_COUNT)
    shape = pixels.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value, shape[2].dim_value) == ("batch", 128, 128)
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    names = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(names["blendshape_names"]) == list(EU_NAMES)


def test_shipped_weights_take_two_bytes_each_and_compute_the_same(trained: TrainedRun) -> None:
    network = deployed(trained.network)
    halves, whole = to_onnx(network.eye), to_onnx(trained.network.eye)
    assert len(halves) < 0.7 * len(whole)
    pixels_BHW = np.random.default_rng(5).integers(0, 256, (2, 128, 128), dtype=np.uint8)
    with torch.no_grad():
        pixels = torch.from_numpy(pixels_BHW)
        expected_BF = network.eye(pixels, uncompared(pixels)).numpy()
    np.testing.assert_allclose(onnx_features(halves, pixels_BHW, 2), expected_BF, atol=1e-4)


def test_a_bundle_reads_back_with_its_training_record(disc_bundle: Path) -> None:
    bundle = read_bundle(disc_bundle)
    assert bundle.training["largest_difference"] <= 1e-4
    assert bundle.training["config"]["balancer"] == "equal"
    assert bundle.training["data"]["trained_wearers"]
    assert bundle.training["code_revision"]


def test_a_backbone_of_other_weights_writes_nothing(
    trained: TrainedRun, backbones: tuple[bytes, bytes], tmp_path: Path
) -> None:
    model = onnx.load_from_string(backbones[0])
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = np.frombuffer(weights.raw_data, np.float32).copy()
    values[::7] += 1e-3
    weights.raw_data = values.tobytes()
    with pytest.raises(ExportError, match="eye features of onnxruntime at batch 1"):
        write_checked(
            tmp_path / "bundle",
            name="wrong",
            network=trained.network,
            backbones=(model.SerializeToString(), backbones[1]),
            golden=make_golden(trained.network),
            training={},
        )
    assert list(tmp_path.iterdir()) == []


def test_golden_outputs_that_are_slightly_off_are_found(trained: TrainedRun, backbones: tuple[bytes, bytes]) -> None:
    golden = make_golden(trained.network)
    assert require_agreement(trained.network, *backbones, golden) <= 1e-4
    out_BO = golden.mouth_out_BO.copy()
    out_BO[2, 5] += 3e-4
    with pytest.raises(ExportError, match="mouth outputs"):
        require_agreement(trained.network, *backbones, replace(golden, mouth_out_BO=out_BO))


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Let the training finish"):
        export(tmp_path, tmp_path / "bundle", "x")


def test_weights_that_are_not_the_recorded_ones_are_refused(disc_run: Path, tmp_path: Path) -> None:
    for file in disc_run.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = bytearray((tmp_path / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (tmp_path / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match="sha256"):
        read_run(tmp_path)
