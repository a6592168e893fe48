"""Backbones and one head in one ONNX file, for whoever runs the model without this service. Never imports torch.

    left_eye, right_eye, mouth    uint8 [N, 128, 128]: crops as the service cuts them, upright and not mirrored
    values        float32 [N, 56] in 0..1, in the order of `blendshape_names`
    gaze          float32 [N, 4] degrees: left yaw, left pitch, right yaw, right pitch; towards the wearer's left and up
    confidence    float32 [N, 3] in 0..1: left eye, right eye, mouth

The numbers are those that the service gives before its filter: the right eye is mirrored inside, frames are compared with the
face at rest that the head knows (the universal head knows none), the eyes read each other, EUs are clipped, the right eye's yaw
is turned to the wearer's left. What the service adds (filter, hold and fade of unseen cameras) is not in the file.

File versions (metadata "format": "mien-standalone")
    1   the inputs and outputs above; metadata format, version, eu_set, blendshape_names, gaze_names, confidence_names, crops
        (JSON), bundle, bundle_digest, backbone_digest, head_digest (sha256 of the head file), head_version.
    2   also slip (JSON): for cameras in whose crops the face has slipped, right_px, down_px, turn_deg and scale of
        model_export.contract.slip; whoever cuts the crops takes it out.
    3   eyes read each other (model_export.contract.eye_pair), where the bundle knows how.
    4   frames are compared with the maps that the head holds (model_export.contract.head), which are in the file.

Run as a program, `python -m model_export.standalone --bundle FOLDER --digest SHA256`, it reads a head file from stdin (nothing:
the universal head) and writes the ONNX file to stdout: the service's way to it, which keeps the onnx package out of the service.
Axes: N frame set, H W image, F feature, M feature of the map, A adapter, O head output.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from model_export.contract import (
    CROP_SIZE_PX,
    CROP_SPAN_CM,
    EU_COUNT,
    EU_NAMES,
    EU_SET_VERSION,
    EYE_MOVEMENTS,
    LAST_COUNT,
    MAP_COUNT,
    Bundle,
    Camera,
    ContractError,
    EyePair,
    Head,
    RegionHead,
    read_bundle,
    read_head,
    write_head,
)
from model_export.contract.bundle import GOLDEN_TOLERANCE
from model_export.contract.eye_pair import SIGNAL_RANGE_2S, in_range
from model_export.contract.head import OUTPUT_COUNT
from model_export.errors import ExportError
from model_export.estimates import confidences, model_of
from model_export.onnx_features import onnx_features
from model_export.runtime import INPUT_NAME, NEUTRAL_NAME, OUTPUT_NAME, open_session

STANDALONE_FORMAT: Final = "mien-standalone"
STANDALONE_VERSION: Final = 4
GAZE_NAMES: Final = ("leftYaw", "leftPitch", "rightYaw", "rightPitch")
OUTPUTS: Final = {"values": EU_COUNT, "gaze": len(GAZE_NAMES), "confidence": len(Camera)}
_EUS: Final = len(EYE_MOVEMENTS)
_BATCH: Final = "batch"


def standalone_onnx(bundle: Bundle, head: Head) -> bytes:
    """The bundle's backbones with this head as one ONNX file, checked with onnxruntime on the golden crops; a second.

    Raises ExportError for a head of other backbones, and where the file does not give what is served: then there is no file.
    """
    if head.backbone_digest != bundle.backbone_digest:
        raise ExportError(
            f"The head should be fitted for backbones {bundle.backbone_digest[:12]}. Found {head.backbone_digest[:12]}. "
            "Export it with the bundle that it was calibrated with."
        )
    model = bytes(_assembled(bundle, head).SerializeToString(deterministic=True))
    _require_agreement(model, bundle, head)
    return model


def served(
    head: Head, features: Iterable[NDArray[np.float32]], eye_pair: EyePair | None = None
) -> dict[str, NDArray[np.float32]]:
    """What the service gives for the features of each camera, [N, 1280], before its filter: the outputs of the file."""
    left_NO, right_NO, mouth_NO = (
        head[camera].apply(features_NF) for camera, features_NF in zip(Camera, features, strict=True)
    )
    confidence_N3 = confidences(np.stack([left_NO[:, -1], right_NO[:, -1], mouth_NO[:, -1]], axis=1))
    left_NS, right_NS = in_range(left_NO[:, :-1]), in_range(right_NO[:, :-1])
    if eye_pair is not None:
        left_NS, right_NS = eye_pair.both(left_NS, right_NS, confidence_N3[:, :2])
    towards_left = np.array([-1, 1], np.float32)
    return {
        "values": np.concatenate([left_NS[:, :_EUS], right_NS[:, :_EUS], mouth_NO[:, :-1].clip(0, 1)], axis=1),
        "gaze": np.concatenate([left_NS[:, _EUS:], right_NS[:, _EUS:] * towards_left], axis=1),
        "confidence": confidence_N3,
    }


def _assembled(bundle: Bundle, head: Head) -> onnx.ModelProto:
    eye, mouth = (
        compose.add_prefix(_without_shapes(data), prefix)
        for data, prefix in ((bundle.eye_onnx, "eye/"), (bundle.mouth_onnx, "mouth/"))
    )
    graph = _Graph()
    # Both eyes are one batch, the right one mirrored, as in the service.
    mirrored = graph.add(
        "Slice",
        Camera.RIGHT_EYE.label,
        *graph.numbers(mirror_from=[-1], mirror_to=[-(2**31)], mirror_axis=[2], mirror_step=[-1]),
    )
    graph.add("Concat", Camera.LEFT_EYE.label, mirrored, to=f"eye/{INPUT_NAME}", axis=0)
    graph.add("Identity", Camera.MOUTH.label, to=f"mouth/{INPUT_NAME}")
    left, right, mouth_neutral = (_neutral(graph, camera, head) for camera in Camera)
    graph.add("Concat", left, right, to=f"eye/{NEUTRAL_NAME}", axis=0)
    graph.add("Identity", mouth_neutral, to=f"mouth/{NEUTRAL_NAME}")
    graph.take(eye.graph)
    graph.take(mouth.graph)
    both = graph.halve(f"eye/{OUTPUT_NAME}")
    left_eye, right_eye, mouth_out = (
        _region(graph, camera, head[camera], features)
        for camera, features in zip(Camera, (*both, f"mouth/{OUTPUT_NAME}"), strict=True)
    )
    graph.add("Sigmoid", graph.add("Concat", left_eye[1], right_eye[1], mouth_out[1], axis=1), to="confidence")
    eyes = [_in_range(graph, signals) for signals in (left_eye[0], right_eye[0])]
    if bundle.eye_pair is not None:
        eyes = _paired(graph, eyes, bundle.eye_pair)
    parts = [graph.columns(signals, [_EUS, 2]) for signals in eyes]
    bounds = graph.numbers(np.float32, least=0.0, most=1.0)
    mouth_values = graph.add("Clip", mouth_out[0], *bounds)
    graph.add("Concat", parts[0][0], parts[1][0], mouth_values, to="values", axis=1)
    towards_left = graph.add("Mul", parts[1][1], *graph.numbers(np.float32, towards_left=[-1.0, 1.0]))
    graph.add("Concat", parts[0][1], towards_left, to="gaze", axis=1)
    model = helper.make_model(
        graph.made(),
        producer_name="mien",
        opset_imports=_opsets(eye, mouth),
        ir_version=max(eye.ir_version, mouth.ir_version),
        functions=[*eye.functions, *mouth.functions],
    )
    helper.set_model_props(model, _metadata(bundle, head))
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """A graph under construction: steps in the order in which they are added, constants beside them."""

    def __init__(self) -> None:
        self._steps: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """A step with one output; gives its name."""
        name = to or f"step{len(self._steps)}"
        self._steps.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def halve(self, what: str) -> list[str]:
        """The two halves of a batch; gives their names."""
        return self._split(what, [what], 2, axis=0, num_outputs=2)

    def columns(self, what: str, sizes: list[int]) -> list[str]:
        """A matrix cut into columns of these counts; gives their names."""
        return self._split(what, [what, *self.numbers(**{f"{what}/sizes": sizes})], len(sizes), axis=1)

    def _split(self, what: str, inputs: list[str], parts: int, **attributes: Any) -> list[str]:
        names = [f"{what}/part{number}" for number in range(parts)]
        self._steps.append(helper.make_node("Split", inputs, names, **attributes))
        return names

    def numbers(self, dtype: Any = np.int64, **constants: object) -> list[str]:
        """Constants by name; gives their names."""
        for name, value in constants.items():
            self._constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return list(constants)

    def take(self, other: onnx.GraphProto) -> None:
        """All steps and constants of another graph."""
        self._steps += other.node
        self._constants += other.initializer

    def made(self) -> onnx.GraphProto:
        """The graph with the inputs and outputs of the file."""
        side = CROP_SIZE_PX
        return helper.make_graph(
            self._steps,
            "mien",
            [helper.make_tensor_value_info(camera.label, TensorProto.UINT8, [_BATCH, side, side]) for camera in Camera],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [_BATCH, count])
                for name, count in OUTPUTS.items()
            ],
            self._constants,
        )


def _neutral(graph: _Graph, camera: Camera, head: Head) -> str:
    """The map that a camera's frames are compared with, once for each; zeros where the head knows none."""
    name = f"{camera.label}/{NEUTRAL_NAME}"
    map_M = head.neutral.get(camera, np.zeros(MAP_COUNT, np.float32))
    count = graph.add("Shape", camera.label, start=0, end=1)
    shape = graph.add("Concat", count, *graph.numbers(**{f"{name}/count": [MAP_COUNT]}), axis=0)
    return graph.add("Expand", *graph.numbers(np.float32, **{f"{name}/map_M": map_M}), shape)


def _region(graph: _Graph, camera: Camera, region: RegionHead, features: str) -> list[str]:
    """The arithmetic of one camera's head; gives the names of its signals and its confidence logit."""
    name = f"{camera.label}/head"
    last, map_ = graph.columns(features, [LAST_COUNT, MAP_COUNT])
    parts = {"weight_FO": region.weight_FO, "bias_O": region.bias_O}
    if region.down_bias_A.size:  # a head without an adapter has nothing to add
        parts |= {"down_FA": region.down_FA, "down_bias_A": region.down_bias_A, "up_AF": region.up_AF}
    made = graph.numbers(np.float32, **{f"{name}/{part}": array for part, array in parts.items()})
    adapted = last
    if len(made) > 2:
        hidden = graph.add("Relu", graph.add("Gemm", last, made[2], made[3]))
        adapted = graph.add("Add", last, graph.add("MatMul", hidden, made[4]))
    if region.map_MO is None:
        out = graph.add("Gemm", adapted, made[0], made[1], to=name)
    else:
        read = graph.add("MatMul", map_, *graph.numbers(np.float32, **{f"{name}/map_MO": region.map_MO}))
        out = graph.add("Add", graph.add("Gemm", adapted, made[0], made[1]), read, to=name)
    return graph.columns(out, [OUTPUT_COUNT[camera] - 1, 1])


def _in_range(graph: _Graph, signals: str) -> str:
    """An eye's signals within what they can be."""
    lowest, highest = graph.numbers(
        np.float32, **{f"{signals}/lowest": SIGNAL_RANGE_2S[0], f"{signals}/highest": SIGNAL_RANGE_2S[1]}
    )
    return graph.add("Max", graph.add("Min", signals, highest), lowest)


def _paired(graph: _Graph, eyes: list[str], pair: EyePair) -> list[str]:
    """Both eyes' signals after they read each other."""
    confidence = graph.columns("confidence", [1] * len(Camera))
    arrays = {field.name: getattr(pair, field.name) for field in fields(pair)[:-1]}
    direct, down, down_bias, up, bias = graph.numbers(
        np.float32, **{f"eye_pair/{name}": array for name, array in arrays.items()}
    )
    read = []
    for own, other in ((0, 1), (1, 0)):
        said = [graph.add("Mul", eyes[eye], confidence[eye]) for eye in (own, other)]
        x = graph.add("Concat", *said, confidence[own], confidence[other], axis=1)
        hidden = graph.add("Relu", graph.add("Gemm", x, down, down_bias))
        out = graph.add("Add", graph.add("Gemm", x, direct, bias), graph.add("MatMul", hidden, up))
        read.append(_in_range(graph, out))
    return read


def _without_shapes(data: bytes) -> onnx.ModelProto:
    model = onnx.load_model_from_string(data)
    del model.graph.value_info[:]  # both eyes are twice the batch, and shapes are inferred anew
    return model


def _opsets(*models: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    found: dict[str, int] = {}
    for model in models:
        for one in model.opset_import:
            if found.setdefault(one.domain, one.version) != one.version:
                raise ExportError(
                    f"Both backbones should use one version of the operators {one.domain or 'ai.onnx'!r}. "
                    f"Found {found[one.domain]} and {one.version}; export the bundle again."
                )
    return [helper.make_opsetid(domain, version) for domain, version in found.items()]


def _metadata(bundle: Bundle, head: Head) -> dict[str, str]:
    crops = {camera.label: {"size_px": CROP_SIZE_PX, "span_cm": CROP_SPAN_CM[camera]} for camera in Camera}
    return {
        "format": STANDALONE_FORMAT,
        "version": str(STANDALONE_VERSION),
        "eu_set": str(EU_SET_VERSION),
        "blendshape_names": json.dumps(EU_NAMES),
        "gaze_names": json.dumps(GAZE_NAMES),
        "confidence_names": json.dumps([camera.label for camera in Camera]),
        "crops": json.dumps(crops),
        "slip": json.dumps({camera.label: asdict(slip) for camera, slip in head.slip.items()}),
        "bundle": bundle.name,
        "bundle_digest": bundle.digest,
        "backbone_digest": bundle.backbone_digest,
        "head_digest": hashlib.sha256(write_head(head)).hexdigest(),
        "head_version": str(head.head_version),
    }


def _require_agreement(model: bytes, bundle: Bundle, head: Head) -> None:
    golden = bundle.golden
    count = min(len(golden.eye_pixels_BHW), len(golden.mouth_pixels_BHW))
    eye_NHW, mouth_NHW = golden.eye_pixels_BHW[:count], golden.mouth_pixels_BHW[:count]
    # golden pictures of eyes are mirrored already: the right eye of the wearer sees them the other way round
    found = run_standalone(model, (eye_NHW, eye_NHW[:, :, ::-1], mouth_NHW))
    seen = zip(Camera, (eye_NHW, eye_NHW, mouth_NHW), strict=True)
    features = [onnx_features(model_of(bundle, camera), crops, 1, head.neutral.get(camera)) for camera, crops in seen]
    for name, expected in served(head, features, bundle.eye_pair).items():
        difference = float(np.abs(found[name] - expected).max())
        if not difference <= GOLDEN_TOLERANCE:
            raise ExportError(
                f"`{name}` of the file should be within {GOLDEN_TOLERANCE:g} of what is served. Found {difference:g} off. "
                "Nothing was written."
            )


def run_standalone(model: bytes, crops: Iterable[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    """The outputs of a file for uint8 [N, 128, 128] of each camera, all frame sets at once, on the CPU."""
    pixels = [np.ascontiguousarray(crops_NHW) for crops_NHW in crops]
    count = len(pixels[0])
    outputs = {name: np.zeros((count, columns), np.float32) for name, columns in OUTPUTS.items()}
    session = open_session(model, "cpu", count, 1)
    binding = session.io_binding()
    for camera, crops_NHW in zip(Camera, pixels, strict=True):
        binding.bind_input(camera.label, "cpu", 0, np.uint8, crops_NHW.shape, crops_NHW.ctypes.data)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    session.run_with_iobinding(binding)
    return outputs


def main() -> None:
    """A head file on stdin to an ONNX file on stdout, at the lowest priority; exit code 1 with the reason on stderr."""
    if hasattr(os, "nice"):
        os.nice(19)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--digest", required=True, help="Of the bundle that is meant.")
    options = parser.parse_args()
    data = sys.stdin.buffer.read()
    try:
        bundle = read_bundle(options.bundle)
        if bundle.digest != options.digest:
            raise ExportError("The bundle should be the one that is served. Found another; start the service anew.")
        model = standalone_onnx(bundle, read_head(data) if data else bundle.head)
    except (ContractError, ExportError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(model)


if __name__ == "__main__":
    main()
