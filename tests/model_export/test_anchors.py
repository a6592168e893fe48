"""Anchors of a bundle: what they are means of, and that the bundle stays what it was."""

import shutil
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from model_export.anchors import anchors_of
from model_export.commands import anchors as command
from model_export.contract import Camera, read_bundle
from model_export.data import list_shards, open_shard
from model_export.onnx_features import onnx_features


def test_the_last_column_is_the_mean_features_of_the_wearers_held_out(disc_bundle: Path, disc_data: Path) -> None:
    bundle = read_bundle(disc_bundle)
    found = anchors_of(bundle, disc_data, 1)
    held_out = set(bundle.training["data"]["held_out_wearers"])
    (entry,) = [entry for entry in list_shards(disc_data) if entry.wearer in held_out][:1]
    mouth_BF = onnx_features(bundle.mouth_onnx, open_shard(entry).mouth_THW, 8)
    np.testing.assert_allclose(found[Camera.MOUTH][:-1, -1], mouth_BF.mean(0), atol=1e-4)
    assert found.frames == entry.frames


def test_the_command_adds_anchors_and_changes_nothing_else(disc_bundle: Path, disc_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(disc_bundle, folder)
    before = read_bundle(folder)
    result = CliRunner().invoke(command, ["--bundle", str(folder), "--data", str(disc_data), "--wearers", "2"])
    assert result.exit_code == 0, result.output
    after = read_bundle(folder)
    assert after.anchors is not None
    assert (after.backbone_digest, after.training, after.name) == (before.backbone_digest, before.training, before.name)
    for file in ("eye.onnx", "mouth.onnx", "head.safetensors", "golden.safetensors"):
        assert (folder / file).read_bytes() == (disc_bundle / file).read_bytes()
