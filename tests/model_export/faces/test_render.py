"""Datasets: determinism, workers, resuming, formats. The tiny rig stands in for the real one, which is not in the repository."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.numpy import load_file

from model_export.contract.expression_units import EU_COUNT
from model_export.faces.command import render
from model_export.faces.errors import ConfigError, DatasetError
from model_export.faces.render import RenderConfig, Stage, render_dataset, render_wearer, shard_name
from model_export.faces.rig import FaceRig
from model_export.faces.sample import render_sample
from model_export.faces.wearer import gaze_degrees

CONFIG = RenderConfig(wearers=3, frames=6, seed=11, fittings=2)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def dataset(tiny_rig_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    render_dataset(tiny_rig_path, CONFIG, folder)
    return folder


def test_shards_hold_what_the_format_promises(dataset: Path) -> None:
    document = json.loads((dataset / "dataset.json").read_text())
    assert (document["format"], document["version"]) == ("mien-dataset", 1)
    assert [shard["wearer_seed"] for shard in document["shards"]] == [11, 12, 13]
    for shard in document["shards"]:
        path = dataset / shard["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        tensors = load_file(path)
        for camera in ("left_eye", "right_eye", "mouth"):
            assert tensors[camera].shape == (6, 128, 128)
            assert tensors[camera].dtype == np.uint8
            assert tensors[camera].std() > 3
        assert tensors["values_TE"].shape == (6, EU_COUNT)
        assert tensors["values_TE"].dtype == np.float32
        assert tensors["values_TE"].min() >= 0.0
        assert tensors["values_TE"].max() <= 1.0
        assert tensors["gaze_T4"].shape == (6, 4)
        assert tensors["gaze_T4"].dtype == np.float32
        assert tensors["t_ns"].dtype == np.int64
        assert (np.diff(tensors["t_ns"]) > 0).all()
        np.testing.assert_array_equal(tensors["fitting_T"], np.array([0, 0, 0, 1, 1, 1], np.int32))
        with safe_open(path, "numpy") as opened:
            metadata = opened.metadata()
        assert (metadata["format"], metadata["version"]) == ("mien-shard", "2")
        assert json.loads(metadata["config"])["seed"] == 11
        assert len(json.loads(metadata["wearer"])["gain_E"]) == EU_COUNT
        assert metadata["rig_sha256"] == document["rig_sha256"]


def test_labels_are_those_of_the_wearer(tiny_rig: FaceRig) -> None:
    wearer, rendered, _ = render_wearer(Stage(tiny_rig), CONFIG, 1)
    assert wearer.seed == 12
    for values_E, gaze_4 in zip(rendered.values_TE, rendered.gaze_T4, strict=True):
        np.testing.assert_array_equal(gaze_4, gaze_degrees(wearer, values_E))


def test_the_number_of_workers_changes_no_byte(dataset: Path, tiny_rig_path: Path, tmp_path: Path) -> None:
    render_dataset(tiny_rig_path, CONFIG, tmp_path / "two", workers=2)
    assert digests(tmp_path / "two") == digests(dataset)


def test_a_killed_run_resumes_to_the_same_bytes(dataset: Path, tiny_rig_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "resumed"
    render_dataset(tiny_rig_path, CONFIG, folder)
    # as after a kill: no dataset.json, one shard missing, a temporary file left
    (folder / "dataset.json").unlink()
    (folder / shard_name(1)).unlink()
    left = folder / f".{shard_name(1)}.123.tmp"
    left.write_bytes(b"half")
    kept = (folder / shard_name(0)).stat().st_mtime_ns
    result = render_dataset(tiny_rig_path, CONFIG, folder)
    assert (result.rendered, result.kept) == (1, 2)
    assert (folder / shard_name(0)).stat().st_mtime_ns == kept
    left.unlink()
    assert digests(folder) == digests(dataset)


def test_more_wearers_extend_a_dataset(dataset: Path, tiny_rig_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grown"
    render_dataset(tiny_rig_path, RenderConfig(wearers=2, frames=6, seed=11, fittings=2), folder)
    result = render_dataset(tiny_rig_path, CONFIG, folder)
    assert (result.rendered, result.kept) == (1, 2)
    for index in range(2):  # their metadata names the smaller configuration, their pictures are the same
        old, new = load_file(folder / shard_name(index)), load_file(dataset / shard_name(index))
        np.testing.assert_array_equal(old["mouth"], new["mouth"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RenderConfig(3, 6, 12, "train", 2), "rendered with seed = 12. Found 11"),
        (RenderConfig(3, 6, 11, "near", 2), "look = 'near'. Found 'train'"),
        (RenderConfig(3, 8, 11, "train", 2), "frames = 8. Found 6"),
        (RenderConfig(2, 6, 11, "train", 2), "the shards of 2 wearers. Found also wearer_00002"),
    ],
)
def test_another_configuration_is_refused_by_name(
    dataset: Path, tiny_rig_path: Path, config: RenderConfig, message: str
) -> None:
    before = digests(dataset)
    with pytest.raises(DatasetError, match=message):
        render_dataset(tiny_rig_path, config, dataset)
    assert digests(dataset) == before


def test_a_damaged_shard_is_named(tiny_rig_path: Path, tmp_path: Path) -> None:
    config = RenderConfig(wearers=1, frames=2, fittings=1)
    render_dataset(tiny_rig_path, config, tmp_path)
    path = tmp_path / shard_name(0)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="wearer_00000.safetensors should have"):
        render_dataset(tiny_rig_path, config, tmp_path)
    path.write_bytes(b"nothing of ours")
    with pytest.raises(DatasetError, match="should be a shard"):
        render_dataset(tiny_rig_path, config, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wearers": 0}, "wearers"),
        ({"frames": 4, "fittings": 5}, "fittings"),
        ({"look": "odd"}, "look"),
        ({"stride_s": 0}, "stride"),
    ],
)
def test_a_configuration_outside_its_ranges_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RenderConfig(**fields)  # type: ignore[arg-type] # a wrong value is the point


def test_looks_other_than_train_draw_other_wearers(tiny_rig: FaceRig) -> None:
    stage = Stage(tiny_rig)
    wearers = {
        look: render_wearer(stage, RenderConfig(1, 1, 5, look, 1), 0)[0].summary()
        for look in ("train", "near", "far", "frontal")
    }
    assert wearers["train"] != wearers["near"] != wearers["far"]
    assert wearers["near"] == wearers["frontal"]


def test_the_command_ends_in_one_json_line(tiny_rig_path: Path, tmp_path: Path) -> None:
    arguments = ["--rig", str(tiny_rig_path), "--out", str(tmp_path / "set"), "--wearers", "1", "--frames", "2"]
    result = CliRunner().invoke(render, [*arguments, "--fittings", "1", "--workers", "1"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.strip().splitlines()[-1])
    assert report["frame_sets"] == 2
    again = CliRunner().invoke(render, [*arguments, "--fittings", "1", "--workers", "1"])
    assert json.loads(again.stdout.strip().splitlines()[-1])["kept_wearers"] == 1
    refused = CliRunner().invoke(render, [*arguments, "--fittings", "2", "--workers", "1"])
    assert refused.exit_code == 1
    assert "fittings = 2. Found 1" in refused.stderr


def test_the_sample_loop_has_every_frame_and_moves(tiny_rig: FaceRig) -> None:
    sample = render_sample(Stage(tiny_rig), seed=1, rate_hz=15.0, length_s=2.0)
    assert sample.mouth_THW.shape == (30, 128, 128)
    assert (np.diff(sample.t_ns) > 0).all()
    assert np.abs(np.diff(sample.mouth_THW.astype(float), axis=0)).mean() > 0.3


def test_the_real_rig_renders_pictures_of_faces(stage: Stage) -> None:
    _, rendered, _ = render_wearer(stage, RenderConfig(1, 8, 3, "frontal", 4), 0)
    for pictures in (rendered.left_eye_THW, rendered.right_eye_THW, rendered.mouth_THW):
        assert (pictures.std(axis=(1, 2)) > 2).all()
        assert (pictures.mean(axis=(1, 2)) > 15).all()
        assert (pictures.mean(axis=(1, 2)) < 245).all()
