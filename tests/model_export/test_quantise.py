"""A bundle in 8-bit integers: smaller, near the original, checked by its own golden vectors, and named as what it is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from model_export.commands import quantise as command
from model_export.contract import read_bundle
from model_export.errors import ExportError
from model_export.onnx_features import onnx_features
from model_export.quantise import quantise
from model_export.runtime import Runtime
from model_export.wearer_names import names_in


@pytest.fixture(scope="module")
def integers(disc_bundle: Path, disc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quantised") / "bundle"
    quantise(read_bundle(disc_bundle), disc_data, out, "disc-int8")
    return out


def test_it_serves_and_says_what_it_was_made_from(disc_bundle: Path, integers: Path) -> None:
    before, after = read_bundle(disc_bundle), read_bundle(integers)
    Runtime(after)
    assert after.name == "disc-int8"
    assert after.training["quantised"]["from_bundle"] == before.digest
    seen_before, seen = (names_in(bundle.training["data"]["trained_wearers"]) for bundle in (before, after))
    assert seen_before <= seen
    assert after.backbone_digest != before.backbone_digest


def test_kernels_are_integers_but_the_stem_and_the_comparison(integers: Path) -> None:
    model = onnx.load_from_string(read_bundle(integers).eye_onnx)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    assert [made_by.get(node.input[1]) == "DequantizeLinear" for node in convolutions] == [
        False,
        *[True] * (len(convolutions) - 3),
        *[False] * 2,
    ]


def test_features_stay_near_those_of_the_original(disc_bundle: Path, integers: Path) -> None:
    pixels_BHW = np.random.default_rng(4).integers(0, 256, (8, 128, 128), dtype=np.uint8)
    before_BF, after_BF = (
        onnx_features(read_bundle(folder).mouth_onnx, pixels_BHW, 2) for folder in (disc_bundle, integers)
    )
    assert 0 < np.linalg.norm(after_BF - before_BF) < 0.25 * np.linalg.norm(before_BF)


def test_integers_are_not_quantised_again(integers: Path, disc_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="floating point"):
        quantise(read_bundle(integers), disc_data, tmp_path / "again", "again")
    assert not (tmp_path / "again").exists()


def test_the_command_writes_a_bundle(disc_bundle: Path, disc_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = CliRunner().invoke(
        command, ["--bundle", str(disc_bundle), "--data", str(disc_data), "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert read_bundle(out).name.endswith("-int8")
