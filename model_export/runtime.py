"""An opened bundle: crops in, features out. onnxruntime lives in this module alone.

Axes: B batch, H W image, F feature, M feature of the map.

    Runtime          owns the crops of one headset's frame set, the maps that they are compared with and their features, and the
                     sessions that fill the last from the others
    ProviderError    (a ContractError) the hardware that was asked for does not run here

One thread, static shapes: an eye session for one eye, one for both, a mouth session, all from the same bytes. Static shapes are
as fast as dynamic ones on a CPU and cost 1.5 MB; CUDA and TensorRT need them to search and build only once, before ready.
Input and output are bound once to arrays that live as long as the runtime: 8 us a run less than session.run on a CPU.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

# onnxruntime's own builds send usage events to their maker and leave a device identifier on the disk (seen with 1.31.1), unless
# this is set before they are loaded. mien promises that nothing leaves the machine; whoever wants otherwise sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from model_export.contract.bundle import GOLDEN_TOLERANCE, Bundle, golden_neutral
from model_export.contract.errors import BundleError, ContractError
from model_export.contract.frames import CROP_SIZE_PX
from model_export.contract.head import FEATURE_COUNT, MAP_COUNT

INPUT_NAME: Final = "pixels"
NEUTRAL_NAME: Final = "neutral"
OUTPUT_NAME: Final = "features"
PROVIDERS: Final = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""What can be asked for, fastest first, and what onnxruntime calls it."""
GPU_TOLERANCE: Final = 2e-2
"""Largest difference to golden features on a GPU: cuDNN and TensorRT add in another order and may round products to TF32, which
keeps 10 bits (2**-11 = 5e-4 a product) of features of size 1 to 10. A damaged file or a wrong layout is off by far more."""

_log = logging.getLogger("mien.runtime")

_RUN_ERRORS: Final = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.DeviceReset,
    ort_errors.Fail,
    ort_errors.RuntimeException,
    ort_errors.NotImplemented,
    RuntimeError,
)
"""What a session raises when a provider fails at work: lost device, memory, an operator without a kernel."""
_LOAD_ERRORS: Final = (
    *_RUN_ERRORS,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.ModelRequiresCompilation,
    ort_errors.NoModel,
    ort_errors.NotFound,
    ValueError,
)


class ProviderError(ContractError):
    """The provider that was asked for is not active: this machine cannot keep what was promised, so nothing starts."""

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"The provider should be {expected}. Found {found}. {remedy}")
        self.expected = expected
        self.found = found
        self.remedy = remedy


class Eyes(Enum):
    """Which eyes of a frame set go through the backbone; the value is their rows of `eye_crops_BHW`."""

    BOTH = (0, 2)
    LEFT = (0, 1)
    RIGHT = (1, 2)


class Session(Protocol):
    """What is used of an onnxruntime.InferenceSession."""

    def get_providers(self) -> list[str]:
        """The providers that are active, the first one preferred."""

    def get_inputs(self) -> list[Any]:
        """Name, shape and type of each input."""

    def get_outputs(self) -> list[Any]:
        """Name, shape and type of each output."""

    def io_binding(self) -> Any:
        """An empty binding of inputs and outputs to memory."""

    def run_with_iobinding(self, iobinding: Any) -> None:
        """Fills the bound output; releases the interpreter lock meanwhile."""


OpenSession = Callable[[bytes, str, int, int], Session]
"""(model, provider, batch, threads) -> a session of static batch; raises ProviderError when the provider cannot be had."""


def open_session(model: bytes, provider: str, batch: int, threads: int) -> Session:
    """A session of onnxruntime: everything optimised, no spinning threads, batch fixed, weights from the bytes alone."""
    if provider != "cpu":
        _check_driver(provider)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_free_dimension_override_by_name("batch", batch)
    options.log_severity_level = 3
    wanted = [PROVIDERS[provider]]
    if provider != "cpu":
        wanted += [PROVIDERS["cpu"]] if provider == "cuda" else [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    session: Session = onnxruntime.InferenceSession(model, options, providers=wanted, enable_fallback=0)
    return session


def _check_driver(provider: str) -> None:
    # get_available_providers() tells what was compiled in. Without the driver, loading a provider costs seconds and ends
    # in a page of messages on stderr; the driver's own library is the quick question.
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        raise ProviderError(provider, "an onnxruntime built without it", "Install onnxruntime-gpu, or ask for cpu.")
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        raise ProviderError(provider, f"no NVIDIA driver ({library})", "Install the driver, or ask for cpu.") from None
    onnxruntime.preload_dlls()


class Runtime:
    """The backbones of a bundle, warm; fill the crops, run, read the features. For one thread at a time."""

    def __init__(
        self, bundle: Bundle, provider: str = "cpu", threads: int = 1, *, open_session: OpenSession = open_session
    ) -> None:
        """Opens, checks and warms the sessions: about 50 ms on a CPU.

        `provider`: cpu, cuda or tensorrt, of which nothing else is taken; or auto, the first of tensorrt, cuda and cpu that
        is active. Raises ProviderError, or BundleError naming the file whose graph or golden vectors do not agree.
        """
        if provider != "auto" and provider not in PROVIDERS:
            raise ProviderError(f"one of auto, {', '.join(PROVIDERS)}", repr(provider), "Name one of them.")
        self.bundle_name = bundle.name
        self.bundle_digest = bundle.digest
        self.backbone_digest = bundle.backbone_digest
        self.provider = provider
        """The provider in use: cpu, cuda or tensorrt; becomes cpu when a GPU fails at work."""
        self.eye_crops_BHW: NDArray[np.uint8] = np.zeros((2, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
        """uint8 [2, 128, 128], to be filled: the left eye; the right eye, mirrored."""
        self.mouth_crop_BHW: NDArray[np.uint8] = np.zeros((1, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
        """uint8 [1, 128, 128], to be filled."""
        self.eye_neutral_BM: NDArray[np.float32] = np.zeros((2, MAP_COUNT), np.float32)
        """float32 [2, 1024], to be filled: the maps that the eyes are compared with, zeros for none."""
        self.mouth_neutral_BM: NDArray[np.float32] = np.zeros((1, MAP_COUNT), np.float32)
        """float32 [1, 1024], to be filled."""
        self.eye_features_BF: NDArray[np.float32] = np.zeros((2, FEATURE_COUNT), np.float32)
        """float32 [2, 1280], rows as in `eye_crops_BHW`; overwritten by `run_eyes`."""
        self.mouth_features_BF: NDArray[np.float32] = np.zeros((1, FEATURE_COUNT), np.float32)
        """float32 [1, 1280]; overwritten by `run_mouth`."""
        self._models = (bundle.eye_onnx, bundle.mouth_onnx)
        self._threads = threads
        self._open_session = open_session
        self._eye_runs: dict[Eyes, BoundRun] = {}
        self._mouth_run: BoundRun
        self._open(provider)
        self._check_golden(bundle)

    def run_eyes(self, eyes: Eyes) -> NDArray[np.float32]:
        """Features float32 [1 or 2, 1280] of the crops of these eyes: a view of `eye_features_BF`."""
        try:
            self._eye_runs[eyes]()
        except _RUN_ERRORS as error:
            self._fall_back(error)
            self._eye_runs[eyes]()
        return self.eye_features_BF[slice(*eyes.value)]

    def run_mouth(self) -> NDArray[np.float32]:
        """Features float32 [1, 1280] of the mouth crop: `mouth_features_BF`."""
        try:
            self._mouth_run()
        except _RUN_ERRORS as error:
            self._fall_back(error)
            self._mouth_run()
        return self.mouth_features_BF

    def _fall_back(self, error: Exception) -> None:
        """Sessions on the CPU in place of a provider that failed at work; takes some 50 ms, once."""
        if self.provider == "cpu":
            raise error
        _log.error("provider %s failed at work, going on with cpu: %s", self.provider, error)
        self._bind("cpu")

    def _open(self, provider: str) -> None:
        if provider != "auto":
            self._bind(provider)
            return
        for candidate in PROVIDERS:
            try:
                self._bind(candidate)
            except ProviderError as error:
                _log.info("provider %s is not used: %s", candidate, error.found)
            else:
                return

    def _bind(self, provider: str) -> None:
        eye_onnx, mouth_onnx = self._models
        one = self._checked_session("eye.onnx", eye_onnx, provider, 1)
        two = self._checked_session("eye.onnx", eye_onnx, provider, 2)
        mouth = self._checked_session("mouth.onnx", mouth_onnx, provider, 1)
        crops, neutral, features = self.eye_crops_BHW, self.eye_neutral_BM, self.eye_features_BF
        self._eye_runs = {}
        for eyes in Eyes:
            session, rows = two if eyes is Eyes.BOTH else one, slice(*eyes.value)
            self._eye_runs[eyes] = BoundRun(session, crops[rows], neutral[rows], features[rows])
        self._mouth_run = BoundRun(mouth, self.mouth_crop_BHW, self.mouth_neutral_BM, self.mouth_features_BF)
        self.provider = provider

    def _checked_session(self, file: str, model: bytes, provider: str, batch: int) -> Session:
        try:
            session = self._open_session(model, provider, batch, self._threads)
        except ProviderError:
            raise
        except _LOAD_ERRORS as error:
            if provider != "cpu":
                _refuse_provider(provider, f"a failure to open it: {error}")
            raise BundleError(file, f"should be a model that onnxruntime loads. Found: {error}.") from None
        active = session.get_providers()
        if not active or active[0] != PROVIDERS[provider]:
            _refuse_provider(provider, f"only {', '.join(active) or 'none'} active")
        for kind, ports, expected in (
            (
                "inputs",
                session.get_inputs(),
                [_pixels_port(batch), (NEUTRAL_NAME, [batch, MAP_COUNT], "tensor(float)")],
            ),
            ("output", session.get_outputs(), [(OUTPUT_NAME, [batch, FEATURE_COUNT], "tensor(float)")]),
        ):
            found = [(port.name, list(port.shape), port.type) for port in ports]
            if found != expected:
                raise BundleError(
                    file,
                    f"should have the {kind} {expected} at batch {batch}. Found {found}. "
                    'Export it again with a first dimension named "batch".',
                )
        return session

    def _check_golden(self, bundle: Bundle) -> None:
        """Each golden crop through each session that may see it; this warms them too."""
        tolerance = GOLDEN_TOLERANCE if self.provider == "cpu" else GPU_TOLERANCE
        golden = bundle.golden
        eye_neutral_BM, mouth_neutral_BM = map(golden_neutral, (golden.eye_features_BF, golden.mouth_features_BF))
        for index, pixels_HW in enumerate(golden.eye_pixels_BHW):
            other = (index + 1) % len(golden.eye_pixels_BHW)
            self.eye_crops_BHW[0] = pixels_HW
            self.eye_crops_BHW[1] = golden.eye_pixels_BHW[other]
            self.eye_neutral_BM[:] = eye_neutral_BM[[index, other]]
            expected_BF = golden.eye_features_BF[[index, other]]
            for eyes in Eyes:
                self.eye_features_BF.fill(np.nan)
                _check_features("eye.onnx", self.run_eyes(eyes), expected_BF[slice(*eyes.value)], tolerance)
        mouths = zip(golden.mouth_pixels_BHW, mouth_neutral_BM, golden.mouth_features_BF, strict=True)
        for pixels_HW, neutral_M, expected_F in mouths:
            self.mouth_crop_BHW[0], self.mouth_neutral_BM[0] = pixels_HW, neutral_M
            self.mouth_features_BF.fill(np.nan)
            _check_features("mouth.onnx", self.run_mouth(), expected_F[None], tolerance)
        self.eye_neutral_BM.fill(0.0)
        self.mouth_neutral_BM.fill(0.0)


class BoundRun:
    """A session with its inputs and output bound to arrays in ordinary memory; a GPU provider copies to and fro."""

    def __init__(
        self,
        session: Session,
        pixels_BHW: NDArray[np.uint8],
        neutral_BM: NDArray[np.float32],
        features_BF: NDArray[np.float32],
    ) -> None:
        binding = session.io_binding()
        binding.bind_input(INPUT_NAME, "cpu", 0, np.uint8, pixels_BHW.shape, pixels_BHW.ctypes.data)
        binding.bind_input(NEUTRAL_NAME, "cpu", 0, np.float32, neutral_BM.shape, neutral_BM.ctypes.data)
        binding.bind_output(OUTPUT_NAME, "cpu", 0, np.float32, features_BF.shape, features_BF.ctypes.data)
        self._binding = binding
        self._run = session.run_with_iobinding
        self._arrays = (pixels_BHW, neutral_BM, features_BF)  # the binding knows only their addresses

    def __call__(self) -> None:
        """Fills the features; releases the interpreter lock meanwhile."""
        self._run(self._binding)


def _pixels_port(batch: int) -> tuple[str, list[int], str]:
    return INPUT_NAME, [batch, CROP_SIZE_PX, CROP_SIZE_PX], "tensor(uint8)"


def _check_features(
    file: str, found_BF: NDArray[np.float32], expected_BF: NDArray[np.float32], tolerance: float
) -> None:
    difference = float(np.abs(found_BF - expected_BF).max())
    if not difference <= tolerance:  # a NaN is a difference too
        raise BundleError(
            file,
            f"should give the golden features within {tolerance:g}. Found {difference:g} off. "
            "The file and golden.safetensors are not of one export, or this machine computes wrongly.",
        )


def _refuse_provider(provider: str, found: str) -> NoReturn:
    raise ProviderError(
        f"{provider} ({PROVIDERS[provider]})",
        found,
        "Install onnxruntime-gpu with CUDA 13 and cuDNN 9, or ask for cpu.",
    )
