"""The runtime: golden vectors, graph ports, providers, and a GPU that fails at work."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from model_export.contract import MAP_COUNT, Bundle, BundleError
from model_export.contract.bundle import golden_neutral
from model_export.runtime import GPU_TOLERANCE, PROVIDERS, Eyes, ProviderError, Runtime, Session, open_session
from tests.bundles import make_backbone, make_bundle, make_crops, run_backbone


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small")


class GpuLike:
    """A real CPU session that says it is a GPU's, and fails at work as one does, when told to.

    The one place for a double: a GPU that is lost in the middle of a run cannot be had on order.
    """

    def __init__(self, session: Session, provider: str, failures: list[Exception]) -> None:
        self.session = session
        self.provider = provider
        self.failures = failures
        self.runs = 0

    def get_providers(self) -> list[str]:
        return [PROVIDERS[self.provider], PROVIDERS["cpu"]]

    def get_inputs(self) -> list[Any]:
        return self.session.get_inputs()

    def get_outputs(self) -> list[Any]:
        return self.session.get_outputs()

    def io_binding(self) -> Any:
        return self.session.io_binding()

    def run_with_iobinding(self, iobinding: Any) -> None:
        self.runs += 1
        if self.failures:
            raise self.failures[0]
        self.session.run_with_iobinding(iobinding)


class RecordingOpener:
    """Opens real CPU sessions, GPU-like ones where a GPU is asked for; remembers what it opened."""

    def __init__(self, absent: tuple[str, ...] = ()) -> None:
        self.opened: list[tuple[str, int]] = []
        self.absent = absent
        self.failures: list[Exception] = []

    def __call__(self, model: bytes, provider: str, batch: int, threads: int) -> Session:
        self.opened.append((provider, batch))
        if provider in self.absent:
            raise ProviderError(provider, "no such device", "Ask for cpu.")
        session = open_session(model, "cpu", batch, threads)
        return session if provider == "cpu" else GpuLike(session, provider, self.failures)


def test_features_are_those_of_a_plain_session_whichever_eyes_come(bundle: Bundle) -> None:
    runtime = Runtime(bundle)
    crops_BHW = make_crops(3, seed=5)
    expected_BF = run_backbone(bundle.eye_onnx, crops_BHW)
    for eyes in Eyes:
        runtime.eye_crops_BHW[:] = crops_BHW[:2]
        runtime.eye_features_BF.fill(-1)
        rows = slice(*eyes.value)
        found_BF = runtime.run_eyes(eyes)
        np.testing.assert_allclose(found_BF, expected_BF[:2][rows], atol=1e-5)
        assert np.shares_memory(found_BF, runtime.eye_features_BF)
        untouched = np.delete(runtime.eye_features_BF, np.arange(2)[rows], axis=0)
        assert (untouched == -1).all()
    runtime.mouth_crop_BHW[0] = crops_BHW[2]
    np.testing.assert_allclose(runtime.run_mouth(), run_backbone(bundle.mouth_onnx, crops_BHW[2:]), atol=1e-5)


def test_each_crop_is_compared_with_its_own_map(bundle: Bundle) -> None:
    runtime, crops_BHW = Runtime(bundle), make_crops(3, seed=5)
    neutral_BM = np.random.default_rng(0).random((3, MAP_COUNT)).astype(np.float32)
    runtime.eye_crops_BHW[:], runtime.eye_neutral_BM[:] = crops_BHW[:2], neutral_BM[:2]
    runtime.mouth_crop_BHW[0], runtime.mouth_neutral_BM[0] = crops_BHW[2], neutral_BM[2]
    expected_BF = run_backbone(bundle.eye_onnx, crops_BHW[:2], neutral_BM[:2])
    plain_BF = run_backbone(bundle.eye_onnx, crops_BHW[:2])
    for eyes in Eyes:
        np.testing.assert_allclose(runtime.run_eyes(eyes), expected_BF[slice(*eyes.value)], atol=1e-5)
    assert np.abs(expected_BF - plain_BF).max(axis=1).min() > 0.01
    expected_BF = run_backbone(bundle.mouth_onnx, crops_BHW[2:], neutral_BM[2:])
    np.testing.assert_allclose(runtime.run_mouth(), expected_BF, atol=1e-5)


@pytest.mark.parametrize("part", ["eye", "mouth"])
@pytest.mark.parametrize("wrong", [1.1e-4, np.nan])
def test_features_that_differ_from_the_golden_ones_name_the_file(bundle: Bundle, part: str, wrong: float) -> None:
    features_BF = getattr(bundle.golden, f"{part}_features_BF").copy()
    features_BF[1, 7] += 2 * wrong
    golden = replace(bundle.golden, **{f"{part}_features_BF": features_BF})
    with pytest.raises(BundleError, match="golden features") as caught:
        Runtime(replace(bundle, golden=golden))
    assert caught.value.file == f"{part}.onnx"


def test_a_small_rounding_difference_is_accepted(bundle: Bundle) -> None:
    golden = replace(bundle.golden, eye_features_BF=bundle.golden.eye_features_BF + np.float32(5e-5))
    assert Runtime(replace(bundle, golden=golden)).provider == "cpu"


@pytest.mark.parametrize(
    ("part", "names", "said"),
    [
        ("eye", {"input_name": "picture"}, "should have the inputs"),
        ("mouth", {"output_name": "embedding"}, "should have the output"),
    ],
)
def test_a_graph_with_other_ports_is_refused_by_name(
    bundle: Bundle, part: str, names: dict[str, str], said: str
) -> None:
    altered = {f"{part}_onnx": make_backbone(**names)}  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=said) as caught:
        Runtime(replace(bundle, **altered))  # type: ignore[arg-type]
    assert caught.value.file == f"{part}.onnx"


def test_bytes_that_are_no_model_are_refused_by_name(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="onnxruntime loads") as caught:
        Runtime(replace(bundle, mouth_onnx=b"\x08\x0a not a model"))
    assert caught.value.file == "mouth.onnx"


def test_an_unknown_provider_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match="one of auto, tensorrt, cuda, cpu"):
        Runtime(bundle, "rocm")


def test_auto_takes_the_fastest_that_is_active(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    opener = RecordingOpener(absent=("tensorrt",))
    with caplog.at_level(logging.INFO, "mien.runtime"):
        assert Runtime(bundle, "auto", open_session=opener).provider == "cuda"
    assert opener.opened == [("tensorrt", 1), ("cuda", 1), ("cuda", 2), ("cuda", 1)]
    assert "tensorrt is not used: no such device" in caplog.text


def test_auto_falls_back_to_cpu_with_the_reason_in_the_log(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    opener = RecordingOpener(absent=("tensorrt", "cuda"))
    with caplog.at_level(logging.INFO, "mien.runtime"):
        assert Runtime(bundle, "auto", open_session=opener).provider == "cpu"
    assert caplog.text.count("no such device") == 2


def test_a_provider_that_was_asked_for_and_is_absent_refuses_to_start(bundle: Bundle) -> None:
    with pytest.raises(ProviderError) as caught:
        Runtime(bundle, "cuda", open_session=RecordingOpener(absent=("cuda",)))
    assert (caught.value.expected, caught.value.found, caught.value.remedy) == (
        "cuda",
        "no such device",
        "Ask for cpu.",
    )


def test_a_session_that_quietly_took_another_provider_refuses_to_start(bundle: Bundle) -> None:
    # onnxruntime goes on with the CPU when a provider cannot be loaded, and get_available_providers() names it all the same
    def quiet(model: bytes, provider: str, batch: int, threads: int) -> Session:
        del provider
        return open_session(model, "cpu", batch, threads)

    with pytest.raises(ProviderError, match="only CPUExecutionProvider active"):
        Runtime(bundle, "cuda", open_session=quiet)


def test_a_machine_without_the_driver_says_so(bundle: Bundle) -> None:
    try:
        runtime = Runtime(bundle, "cuda")
    except ProviderError as error:
        assert error.found.startswith(("no NVIDIA driver", "an onnxruntime built without", "only ", "a failure"))
        assert "cpu" in error.remedy
    else:
        assert runtime.provider == "cuda"


@pytest.mark.parametrize(
    "failure",
    [ort_errors.Fail("CUDA failure 700"), ort_errors.RuntimeException("device lost"), RuntimeError("out of memory")],
)
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_that_fails_at_work_gives_way_to_the_cpu_and_the_frame_is_answered(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, failure: Exception, provider: str
) -> None:
    opener = RecordingOpener()
    runtime = Runtime(bundle, provider, open_session=opener)
    crops_BHW = make_crops(3, seed=9)
    runtime.eye_crops_BHW[:] = crops_BHW[:2]
    runtime.mouth_crop_BHW[0] = crops_BHW[2]
    opener.failures.append(failure)
    with caplog.at_level(logging.ERROR, "mien.runtime"):
        eye_features_BF = runtime.run_eyes(Eyes.BOTH)
        mouth_features_BF = runtime.run_mouth()
    np.testing.assert_allclose(eye_features_BF, run_backbone(bundle.eye_onnx, crops_BHW[:2]), atol=1e-5)
    np.testing.assert_allclose(mouth_features_BF, run_backbone(bundle.mouth_onnx, crops_BHW[2:]), atol=1e-5)
    assert runtime.provider == "cpu"
    assert [record.getMessage() for record in caplog.records] == [
        f"provider {provider} failed at work, going on with cpu: {failure}"
    ]


def test_a_failure_of_the_cpu_is_not_hidden(bundle: Bundle) -> None:
    class Broken(GpuLike):
        def get_providers(self) -> list[str]:
            return [PROVIDERS["cpu"]]

    failures: list[Exception] = []

    def broken(model: bytes, provider: str, batch: int, threads: int) -> Session:
        return Broken(open_session(model, provider, batch, threads), provider, failures)

    runtime = Runtime(bundle, open_session=broken)
    failures.append(ort_errors.Fail("no memory"))
    with pytest.raises(ort_errors.Fail, match="no memory"):
        runtime.run_mouth()


def test_golden_vectors_of_a_gpu_have_their_own_tolerance(bundle: Bundle) -> None:
    off = replace(bundle.golden, eye_features_BF=bundle.golden.eye_features_BF + np.float32(GPU_TOLERANCE / 2))
    assert Runtime(replace(bundle, golden=off), "cuda", open_session=RecordingOpener()).provider == "cuda"
    with pytest.raises(BundleError):
        Runtime(replace(bundle, golden=off), "cpu")


def test_sessions_are_static_single_threaded_and_do_not_spin(bundle: Bundle) -> None:
    session = open_session(bundle.eye_onnx, "cpu", 2, 1)
    assert isinstance(session, onnxruntime.InferenceSession)
    assert session.get_inputs()[0].shape == [2, 128, 128]
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_real_gpu_agrees_with_the_golden_vectors(tmp_path: Path, provider: str) -> None:
    bundle = make_bundle(tmp_path / "small")
    try:
        runtime = Runtime(bundle, provider)
    except ProviderError as error:
        pytest.skip(f"{provider}: {error.found}")
    runtime.eye_crops_BHW[:] = bundle.golden.eye_pixels_BHW[:2]
    runtime.eye_neutral_BM[:] = golden_neutral(bundle.golden.eye_features_BF)[:2]
    np.testing.assert_allclose(runtime.run_eyes(Eyes.BOTH), bundle.golden.eye_features_BF[:2], atol=GPU_TOLERANCE)


def test_nothing_is_reported_to_the_maker_of_onnxruntime(tmp_path: Path) -> None:
    """Its telemetry leaves an identifier and an event database behind, which is how it is seen here."""
    code = (
        "import pathlib, sys\n"
        "from model_export.contract import read_bundle\n"
        "from model_export.runtime import Runtime\n"
        "Runtime(read_bundle(pathlib.Path(sys.argv[1])))"
    )
    make_bundle(tmp_path / "bundle")
    home_folder = tmp_path / "home"
    home_folder.mkdir()
    home = {"HOME": str(home_folder), "XDG_CACHE_HOME": str(home_folder / "cache"), "TMPDIR": str(home_folder)}
    kept = {name: text for name, text in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "bundle")], env=kept | home, check=True, timeout=60)
    assert not list(home_folder.rglob("*"))
