"""Anchors: their arithmetic, their file, and what is refused."""

import numpy as np
import pytest

from model_export.contract import Anchors, BundleError, Camera, ContractError, read_bundle, write_bundle
from model_export.contract.anchors import moment_of, read_anchors, write_anchors
from tests.bundles import make_bundle

FEATURES = np.random.default_rng(0).normal(1, 1, (300, 256)).astype(np.float32)
ANCHORS = Anchors(moment_of(FEATURES), moment_of(FEATURES[:100]), 300)


def test_the_moment_of_a_correction_is_the_mean_square_of_what_it_changes() -> None:
    correction_G = np.random.default_rng(1).normal(0, 1, 257)
    changes_B = FEATURES @ correction_G[:-1] + correction_G[-1]
    assert correction_G @ moment_of(FEATURES) @ correction_G == pytest.approx(np.mean(changes_B**2), rel=1e-5)


def test_anchors_survive_their_file() -> None:
    data = write_anchors(ANCHORS)
    again = read_anchors(data)
    for camera in Camera:
        np.testing.assert_allclose(again[camera], ANCHORS[camera], rtol=1e-3, atol=1e-4)
    assert len(data) < 140_000
    assert again.frames == 300
    assert again[Camera.RIGHT_EYE] is again[Camera.LEFT_EYE]


def test_what_is_no_moment_is_refused() -> None:
    lopsided = moment_of(FEATURES)
    lopsided[0, 1] += 1
    with pytest.raises(ContractError, match="symmetric"):
        Anchors(lopsided, moment_of(FEATURES), 1)
    with pytest.raises(ContractError, match="should be float32"):
        Anchors(moment_of(FEATURES)[:-1], moment_of(FEATURES), 1)


def test_features_too_large_for_the_file_are_refused() -> None:
    wild = moment_of(300 * FEATURES)
    with pytest.raises(ContractError, match="vary by less"):
        write_anchors(Anchors(wild, wild, 1))


def test_a_file_of_something_else_is_refused() -> None:
    data = write_anchors(ANCHORS)
    for wrong in (b"", data[:200], data.replace(b"mien-anchors", b"mien-ankhors")):
        with pytest.raises(ContractError):
            read_anchors(wrong)


def test_a_bundle_carries_anchors_and_one_without_has_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bundles") / "one"
    without = make_bundle(folder)
    assert without.anchors is None
    parts = {name: getattr(without, name) for name in ("name", "eye_onnx", "mouth_onnx", "head", "golden", "training")}
    write_bundle(folder, **parts, anchors=ANCHORS)
    found = read_bundle(folder)
    assert found.anchors is not None
    np.testing.assert_allclose(found.anchors.mouth_moment_GG, ANCHORS.mouth_moment_GG, rtol=1e-3, atol=1e-4)
    assert found.backbone_digest == without.backbone_digest  # heads of wearers stay valid
    path = folder / "anchors.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="damaged") as caught:
        read_bundle(folder)
    assert caught.value.file == "anchors.safetensors"
