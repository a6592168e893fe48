import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from model_export.contract import BundleError, read_bundle, write_bundle
from model_export.contract import bundle as bundle_module
from tests.bundles import make_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_bundle_survives_its_folder(folder: Path) -> None:
    first, again = read_bundle(folder), read_bundle(folder)
    assert first.digest == again.digest
    assert first.head.backbone_digest == first.backbone_digest
    assert sorted(path.name for path in folder.iterdir()) == [
        "bundle.json",
        "eye.onnx",
        "golden.safetensors",
        "head.safetensors",
        "mouth.onnx",
    ]


def test_equal_parts_give_equal_folders(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a", seed=3)
    make_bundle(tmp_path / "b", seed=3)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("file", ["eye.onnx", "mouth.onnx", "head.safetensors", "golden.safetensors"])
def test_one_flipped_byte_is_refused_and_names_the_file(folder: Path, file: str) -> None:
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(BundleError, match="sha256") as caught:
        read_bundle(folder)
    assert caught.value.file == file


@pytest.mark.parametrize("file", ["bundle.json", "eye.onnx", "golden.safetensors"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(BundleError, match="No such file") as caught:
        read_bundle(folder)
    assert caught.value.file == file


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "zip"),
        ("version", 5),
        ("eu_set", 2),
        ("feature_count", 128),
        ("eu_names", ["jawOpen"]),
        ("crops", {}),
    ],
)
def test_a_description_of_something_else_is_refused_by_name(folder: Path, key: str, value: object) -> None:
    edit_manifest(folder, lambda manifest: manifest.update({key: value}))
    with pytest.raises(BundleError, match=f"`{key}` should be"):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"files": 3}', "[" * 100_000])
def test_a_description_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    assert caught.value.file == "bundle.json"


def test_another_opset_than_promised_is_refused(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update({"opset": 17 if manifest["opset"] != 17 else 18}))
    with pytest.raises(BundleError, match="operator set") as caught:
        read_bundle(folder)
    assert caught.value.file == "eye.onnx"


def rewrite(folder: Path, target: Path, **changes: Any) -> None:
    write_bundle(target, replace(read_bundle(folder), **changes))


def test_names_in_another_order_are_refused(folder: Path, tmp_path: Path) -> None:
    model = onnx.load_from_string(read_bundle(folder).mouth_onnx)
    for prop in model.metadata_props:
        if prop.key == "blendshape_names":
            prop.value = json.dumps(json.loads(prop.value)[::-1])
    with pytest.raises(BundleError, match="blendshape_names") as caught:
        rewrite(folder, tmp_path / "other", mouth_onnx=model.SerializeToString())
    assert caught.value.file == "mouth.onnx"


def test_a_head_that_misses_its_golden_outputs_is_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    golden = read_bundle(folder).golden
    off = golden.mouth_out_BO + np.float32(2e-4)
    parts = {name: getattr(golden, name) for name in golden.__slots__} | {"mouth_out_BO": off}
    with pytest.raises(BundleError, match="golden mouth outputs"):
        rewrite(folder, tmp_path / "other", golden=type(golden)(**parts))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_that_is_refused_leaves_the_previous_one(folder: Path) -> None:
    before = read_bundle(folder).digest
    with pytest.raises(BundleError):
        rewrite(folder, folder, mouth_onnx=b"not a model")
    assert read_bundle(folder).digest == before


def test_backbones_of_another_bundle_are_refused(folder: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "other", seed=9)
    for file in ("eye.onnx", "mouth.onnx"):
        (folder / file).write_bytes((tmp_path / "other" / file).read_bytes())
    theirs = json.loads((tmp_path / "other" / "bundle.json").read_text())["files"]
    edit_manifest(
        folder, lambda mine: mine["files"].update({file: theirs[file] for file in ("eye.onnx", "mouth.onnx")})
    )
    with pytest.raises(BundleError, match="fitted for backbones") as caught:
        read_bundle(folder)
    assert caught.value.file == "head.safetensors"


def test_a_file_of_any_size_is_not_read_into_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(BundleError, match="at most 1000 bytes"):
        read_bundle(folder)
