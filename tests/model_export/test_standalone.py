"""A stand-alone file gives what the service serves: any head, any batch, without torch."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from model_export import standalone
from model_export.contract import EU_NAMES, MAP_COUNT, Bundle, Camera, Head, Slip, read_bundle, write_bundle, write_head
from model_export.contract.onnx_header import read_onnx_header
from model_export.errors import ExportError
from model_export.runtime import Eyes, Runtime
from model_export.standalone import OUTPUTS, standalone_onnx
from service.heads import FoldedHead
from service.paired_eyes import PairedEyes
from service.settings import shipped_bundle
from service.signals import EUS_S, GAZE_S, SIGNAL_COUNT
from tests.bundles import make_bundle, make_crops, make_eye_pair, make_head, make_region_head

TOLERANCE = 1e-4
_Crops = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small")


def run(model: bytes, crops: _Crops) -> dict[str, NDArray[np.float32]]:
    """The file as anybody would run it."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["left_eye", "right_eye", "mouth"]
    names = [one.name for one in session.get_outputs()]
    inputs = {camera.label: np.ascontiguousarray(crops_NHW) for camera, crops_NHW in zip(Camera, crops, strict=True)}
    return dict(zip(names, session.run(None, inputs), strict=True))


def served(bundle: Bundle, head: Head, crops: _Crops) -> dict[str, NDArray[np.float32]]:
    """What the live path computes before its filter, one frame set after another."""
    runtime, folded = Runtime(bundle, provider="cpu", threads=1), FoldedHead(head)
    count = len(crops[0])
    found = {name: np.zeros((count, columns), np.float32) for name, columns in OUTPUTS.items()}
    for n in range(count):
        runtime.eye_crops_BHW[Camera.LEFT_EYE] = crops[0][n]
        runtime.eye_crops_BHW[Camera.RIGHT_EYE] = crops[1][n][:, ::-1]  # as the rig's plan cuts it
        runtime.mouth_crop_BHW[0] = crops[2][n]
        for camera, map_M in head.neutral.items():
            (runtime.mouth_neutral_BM[0] if camera is Camera.MOUTH else runtime.eye_neutral_BM[camera])[:] = map_M
        runtime.run_eyes(Eyes.BOTH)
        runtime.run_mouth()
        signals_S = np.zeros(SIGNAL_COUNT, np.float32)
        features = (*runtime.eye_features_BF, runtime.mouth_features_BF[0])
        found["confidence"][n] = [
            folded.apply(camera, features_F, signals_S) for camera, features_F in zip(Camera, features, strict=True)
        ]
        if bundle.eye_pair is not None:
            signals_S[:28] = PairedEyes(bundle.eye_pair).read(signals_S[:28], *found["confidence"][n][:2].tolist())
        found["values"][n], found["gaze"][n] = signals_S[EUS_S], signals_S[GAZE_S]
    return found


def golden_crops(bundle: Bundle) -> _Crops:
    """Golden pictures as cameras see them, another one for each eye."""
    eye_BHW, mouth_BHW = bundle.golden.eye_pixels_BHW, bundle.golden.mouth_pixels_BHW
    return eye_BHW, np.roll(eye_BHW, 1, axis=0)[:, :, ::-1], mouth_BHW


def same(found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, atol=TOLERANCE, rtol=0, err_msg=name)


def a_head(bundle: Bundle, widths: tuple[int, int, int], seed: int = 5) -> Head:
    """A wearer's head: each region its own, adapters of these widths; the right eye and the mouth read the map."""
    regions = [
        make_region_head(camera, seed + camera, adapter, reads_map=camera is not Camera.LEFT_EYE)
        for camera, adapter in zip(Camera, widths, strict=True)
    ]
    return Head(regions[0], regions[1], regions[2], bundle.backbone_digest, head_version=3, parent=2)


def test_the_shipped_bundle_gives_what_is_served() -> None:
    bundle = read_bundle(shipped_bundle())
    crops = golden_crops(bundle)
    found = run(standalone_onnx(bundle, bundle.head), crops)
    same(found, served(bundle, bundle.head, crops))
    assert found["values"].std() > 0.01, "pictures that say something"


@pytest.mark.parametrize("widths", [(8, 8, 8), (0, 0, 0), (1, 64, 0), (96, 3, 300)])
def test_heads_of_any_adapter_width_give_what_is_served(small: Bundle, widths: tuple[int, int, int]) -> None:
    head = a_head(small, widths)
    crops = golden_crops(small)
    same(run(standalone_onnx(small, head), crops), served(small, head, crops))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_is_as_long_as_one_likes(small: Bundle, count: int) -> None:
    crops = (make_crops(count, 1), make_crops(count, 2), make_crops(count, 3))
    head = a_head(small, (8, 8, 8))
    same(run(standalone_onnx(small, head), crops), served(small, head, crops))


def test_values_and_gaze_are_within_what_is_served(small: Bundle) -> None:
    head = a_head(small, (8, 8, 8))
    wild = replace(head, left_eye=replace(head.left_eye, bias_O=np.full_like(head.left_eye.bias_O, 500)))
    wild = replace(wild, right_eye=replace(head.right_eye, bias_O=np.full_like(head.right_eye.bias_O, 500)))
    crops = golden_crops(small)
    found = run(standalone_onnx(small, wild), crops)
    same(found, served(small, wild, crops))
    assert found["gaze"].tolist() == [[90, 90, -90, 90]] * len(crops[0]), "the right eye's yaw is towards the left, too"
    assert found["values"].max() == 1


def test_eyes_read_each_other_in_the_file_as_in_the_service(small: Bundle, tmp_path: Path) -> None:
    paired = write_bundle(tmp_path / "paired", replace(small, eye_pair=make_eye_pair(2)))
    head = a_head(paired, (8, 8, 8))
    head = replace(head, left_eye=replace(head.left_eye, bias_O=head.left_eye.bias_O - 3))  # less sure, within range
    crops = golden_crops(paired)
    found = run(standalone_onnx(paired, head), crops)
    same(found, served(paired, head, crops))
    alone = run(standalone_onnx(small, head), crops)
    assert np.abs(found["values"][:, :24] - alone["values"][:, :24]).max() > 0.05
    assert np.abs(found["gaze"] - alone["gaze"]).max() > 0.5
    np.testing.assert_array_equal(found["values"][:, 24:], alone["values"][:, 24:])
    np.testing.assert_array_equal(found["confidence"], alone["confidence"])


@pytest.mark.parametrize("known", [(Camera.RIGHT_EYE,), (Camera.LEFT_EYE, Camera.MOUTH), tuple(Camera)])
def test_frames_are_compared_with_what_the_head_holds(small: Bundle, known: tuple[Camera, ...]) -> None:
    rng, head = np.random.default_rng(8), a_head(small, (8, 8, 8))
    neutral = {camera: rng.random(MAP_COUNT).astype(np.float32) for camera in known}
    crops = golden_crops(small)
    found = run(standalone_onnx(small, replace(head, neutral=neutral)), crops)
    same(found, served(small, replace(head, neutral=neutral), crops))
    assert np.abs(found["values"] - served(small, head, crops)["values"]).max() > 0.003


def test_metadata_name_the_outputs_and_where_they_come_from(small: Bundle) -> None:
    slip = Slip(3.0, -2.0, 1.5)
    head = replace(a_head(small, (8, 8, 8)), slip={Camera.MOUTH: slip})
    data = standalone_onnx(small, head)
    assert data == standalone_onnx(small, head), "equal heads give equal bytes"
    model = onnx.load_model_from_string(data)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["blendshape_names"]) == list(EU_NAMES)
    assert json.loads(metadata["gaze_names"]) == ["leftYaw", "leftPitch", "rightYaw", "rightPitch"]
    assert json.loads(metadata["confidence_names"]) == [camera.label for camera in Camera]
    assert Slip(**json.loads(metadata["slip"])["mouth"]) == slip
    assert (metadata["format"], metadata["version"], metadata["head_version"]) == ("mien-standalone", "4", "3")
    digests = (metadata["bundle_digest"], metadata["backbone_digest"], metadata["head_digest"])
    assert digests == (small.digest, small.backbone_digest, hashlib.sha256(write_head(head)).hexdigest())
    assert not read_onnx_header(data).has_external_data


def test_a_head_of_other_backbones_is_refused(small: Bundle) -> None:
    with pytest.raises(ExportError, match="should be fitted for backbones"):
        standalone_onnx(small, make_head(backbone_digest="cd" * 32))


def test_a_file_that_disagrees_is_not_given(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    right = standalone.served
    monkeypatch.setattr(standalone, "served", lambda *given: {k: v + 1e-3 for k, v in right(*given).items()})
    with pytest.raises(ExportError, match=r"Found 0\.00\d* off"):
        standalone_onnx(small, small.head)


def test_backbones_of_two_operator_sets_are_refused(small: Bundle) -> None:
    other = onnx.load_model_from_string(small.mouth_onnx)
    other.opset_import[0].version += 1
    with pytest.raises(ExportError, match=r"one version of the operators 'ai.onnx'. Found 18 and 19"):
        standalone_onnx(replace(small, mouth_onnx=other.SerializeToString()), replace_digest(small, other))


def replace_digest(bundle: Bundle, mouth: onnx.ModelProto) -> Head:
    changed = replace(bundle, mouth_onnx=mouth.SerializeToString())
    return replace(bundle.head, backbone_digest=changed.backbone_digest)


@pytest.mark.parametrize("own", [True, False])
def test_as_a_program_it_reads_a_head_and_writes_the_file_without_torch(
    small: Bundle, tmp_path: Path, *, own: bool
) -> None:
    make_bundle(tmp_path / "small")
    (tmp_path / "torch.py").write_text("raise SystemExit('torch is loaded')")
    head = a_head(small, (4, 4, 4)) if own else small.head
    command = [sys.executable, "-m", "model_export.standalone", "--bundle", str(tmp_path / "small"), "--digest"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    given = write_head(head) if own else b""
    done = subprocess.run([*command, small.digest], input=given, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == standalone_onnx(small, head)
    done = subprocess.run([*command, "00" * 32], input=given, capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"start the service anew" in done.stderr
