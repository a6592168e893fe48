import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from model_export.contract import Camera, Head, HeadError, RegionHead, read_head, write_head
from model_export.contract.head import OUTPUT_COUNT
from model_export.contract.safetensors_header import pack_metadata, read_metadata


def region(camera: Camera, seed: int = 0, adapter: int = 4) -> RegionHead:
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.1, shape).astype(np.float32)

    outputs = OUTPUT_COUNT[camera]
    return RegionHead(draw(256, adapter), draw(adapter), draw(adapter, 256), draw(256, outputs), draw(outputs))


def head(**changes: object) -> Head:
    fields = {"backbone_digest": "ab" * 32, "head_version": 3, "parent": 2, "report": {"rmse": 0.1}} | changes
    return Head(*(region(camera, camera) for camera in Camera), **fields)  # type: ignore[arg-type]


def test_outputs_are_the_adapter_then_one_linear_layer_by_hand() -> None:
    down, up = np.zeros((256, 2), np.float32), np.zeros((2, 256), np.float32)
    weight, bias = np.zeros((256, 1), np.float32), np.array([0.5], np.float32)
    down[0] = [2, -2]  # hidden of feature 0 = 3: relu([2 * 3 + 1, -2 * 3 + 1]) = [7, 0]
    up[0, 1], up[1, 1] = 10, 1000  # adapted feature 1 = 4 + 7 * 10 = 74
    weight[1] = 2
    features = np.zeros((1, 256), np.float32)
    features[0, :2] = 3, 4
    out = RegionHead(down, np.ones(2, np.float32), up, weight, bias).apply(features)
    assert out.tolist() == [[148.5]]


def test_a_head_that_reads_the_map_adds_its_columns_by_hand() -> None:
    empty = np.zeros((256, 0), np.float32)
    last_FO, map_MO = np.zeros((256, 2), np.float32), np.zeros((1024, 2), np.float32)
    last_FO[3, 0], map_MO[0, 0], map_MO[1023, 1] = 2, 10, 100
    region = RegionHead(empty, empty[0], empty.T.copy(), last_FO, np.array([0.5, 0.25], np.float32), map_MO)
    features = np.zeros((1, 1280), np.float32)
    features[0, [3, 256, 1279]] = 1, 2, 3  # of the last layer; the map's first and last
    assert region.apply(features).tolist() == [[0.5 + 2 + 20, 0.25 + 300]]
    with pytest.raises(HeadError, match=r"`map_MO` should be float32 \[1024, 2\]"):
        replace(region, map_MO=map_MO[:-1])


def test_what_is_read_of_the_map_survives_the_file_and_only_then_it_is_of_version_3() -> None:
    before = head()
    map_MO = np.random.default_rng(4).normal(0, 1, (1024, 33)).astype(np.float32)
    reading = replace(before, mouth=replace(before.mouth, map_MO=map_MO))
    data = write_head(reading)
    after = read_head(data)
    assert after.mouth.map_MO is not None
    np.testing.assert_array_equal(after.mouth.map_MO, map_MO)
    assert after.left_eye.map_MO is None
    versions = [read_metadata(one, HeadError)["version"] for one in (data, write_head(before))]
    assert versions == [3, 1]


def test_a_head_survives_its_file() -> None:
    before = head()
    after = read_head(write_head(before))
    assert (after.head_version, after.parent, after.report) == (3, 2, {"rmse": 0.1})
    assert after.backbone_digest == before.backbone_digest
    for camera in Camera:
        for part in ("down_FA", "down_bias_A", "up_AF", "weight_FO", "bias_O"):
            np.testing.assert_array_equal(getattr(after[camera], part), getattr(before[camera], part))


def test_equal_heads_give_equal_bytes() -> None:
    assert write_head(head()) == write_head(head())


def test_a_head_of_the_wrong_region_is_refused() -> None:
    mouth = region(Camera.MOUTH)
    with pytest.raises(HeadError, match="head of left_eye should give 15 outputs. Found 33"):
        Head(mouth, mouth, mouth, "")


def test_numbers_that_are_not_finite_are_refused() -> None:
    good = region(Camera.MOUTH)
    with pytest.raises(HeadError, match="finite"):
        RegionHead(good.down_FA, good.down_bias_A, good.up_AF, good.weight_FO, good.bias_O * np.float32(np.nan))


@pytest.mark.parametrize(("key", "value"), [("format", "other"), ("version", 5), ("eu_set", 9)])
def test_an_unknown_format_version_or_eu_set_is_refused_by_name(key: str, value: object) -> None:
    tensors = {"x": np.zeros(1, np.float32)}
    metadata = {"format": "mien-head", "version": 1, "eu_set": 1} | {key: value}
    with pytest.raises(HeadError, match=f"`{key}`.*{value}"):
        read_head(save(tensors, pack_metadata(metadata)))


def test_a_missing_tensor_is_named() -> None:
    metadata = {"format": "mien-head", "version": 1, "eu_set": 1}
    with pytest.raises(HeadError, match=r"left_eye\.down_FA"):
        read_head(save({"x": np.zeros(1, np.float32)}, pack_metadata(metadata)))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(HeadError):
        read_head(data)


@given(st.integers(0, 399), st.integers(1, 255))
def test_a_changed_header_byte_never_crashes(at: int, change: int) -> None:
    data = bytearray(write_head(head()))
    data[at] ^= change
    try:
        read_head(bytes(data))
    except HeadError as error:
        assert str(error)


@given(st.text(max_size=30))
def test_a_header_that_is_any_json_never_crashes(text: str) -> None:
    header = json.dumps({"__metadata__": {"mien": text}}).encode()
    with pytest.raises(HeadError):
        read_head(len(header).to_bytes(8, "little") + header)
