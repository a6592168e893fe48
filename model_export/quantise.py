"""A bundle in 8-bit integers: half the time and a little less than half the size, for a little accuracy.

Static quantisation (QDQ, weights per channel, activations by their range over rendered crops) of convolutions and the linear
layer. Standardisation, the stem and the comparison with the neutral map stay in float32: the stem's input is the largest array of
the network, and rounding it costs more time than its integer convolution saves; the comparison is small. The head stays as it is.

Integer arithmetic is not the same on every processor: without VNNI, products of 8-bit numbers saturate, and a bundle made
elsewhere may then miss its golden vectors and is refused. Make it on the machine that serves it.
Axes: B crops, H W image, T frame set, M feature of the map.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from model_export.contract import LAST_COUNT, Bundle, Golden, write_bundle
from model_export.contract.bundle import golden_neutral
from model_export.data import ShardEntry, data_digest, list_shards, open_shard
from model_export.errors import ExportError
from model_export.onnx_features import onnx_features
from model_export.runtime import INPUT_NAME, NEUTRAL_NAME
from model_export.wearer_names import names_in, ranges_of

FRAMES_PER_WEARER: Final = 4
MOST_WEARERS: Final = 64
_COMPARING: Final = 2
"""Convolutions of the comparison, the last ones before the linear layer."""
_BATCH: Final = 8


def quantise(bundle: Bundle, data: Path, out: Path, name: str) -> Bundle:
    """The same bundle in 8-bit integers, written to `out`; ranges come from up to 64 wearers in `data`.

    Raises ExportError when the bundle holds integers already, DataError for data that cannot be read.
    """
    entries = list_shards(data)[:MOST_WEARERS]
    eyes, mouths = _crops(entries)
    eye_onnx, mouth_onnx = _quantised(bundle.eye_onnx, *eyes), _quantised(bundle.mouth_onnx, *mouths)
    golden, head = bundle.golden, bundle.head
    eye_BF = _golden_features(eye_onnx, golden.eye_pixels_BHW)
    mouth_BF = _golden_features(mouth_onnx, golden.mouth_pixels_BHW)
    seen = Golden(
        golden.eye_pixels_BHW,
        golden.mouth_pixels_BHW,
        eye_BF,
        mouth_BF,
        head.left_eye.apply(eye_BF),
        head.mouth.apply(mouth_BF),
    )
    record = _record(bundle, entries)
    return write_bundle(
        out, replace(bundle, name=name, eye_onnx=eye_onnx, mouth_onnx=mouth_onnx, golden=seen, training=record)
    )


def _record(bundle: Bundle, entries: Sequence[ShardEntry]) -> dict[str, Any]:
    """The training record; wearers that gave the ranges count as trained on."""
    data: Mapping[str, Any] = bundle.training["data"]
    seen = ranges_of(names_in(data["trained_wearers"]) | {entry.wearer for entry in entries})
    return {
        **bundle.training,
        "data": {**data, "trained_wearers": seen},
        "quantised": {
            "from_bundle": bundle.digest,
            "form": "static QDQ, uint8 activations, int8 weights per channel, stem in float32",
            "ranges_data_sha256": data_digest(entries),
        },
    }


def _golden_features(model: bytes, pixels_BHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    return onnx_features(model, pixels_BHW, 1, golden_neutral(onnx_features(model, pixels_BHW, 1)))


_CropsAndRests = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Crops [B, 128, 128], and the same faces at rest, [B, 128, 128]."""


def _crops(entries: Sequence[ShardEntry]) -> tuple[_CropsAndRests, _CropsAndRests]:
    """Of eyes as the backbone sees them (right eyes mirrored) and of mouths."""
    eyes, mouths, eye_rests, mouth_rests = [], [], [], []
    for entry in entries:
        shard = open_shard(entry)
        for t in np.unique(np.linspace(0, len(shard) - 1, FRAMES_PER_WEARER).astype(int)):
            eyes += [shard.left_eye_THW[t], shard.right_eye_THW[t, :, ::-1]]
            mouths.append(shard.mouth_THW[t])
            fitting = shard.fitting_T[t]
            eye_rests += [shard.rest_eyes_2FHW[0, fitting], shard.rest_eyes_2FHW[1, fitting, :, ::-1]]
            mouth_rests.append(shard.rest_mouth_FHW[fitting])
    return (np.stack(eyes), np.stack(eye_rests)), (np.stack(mouths), np.stack(mouth_rests))


def _quantised(model: bytes, crops_BHW: NDArray[np.uint8], rests_BHW: NDArray[np.uint8]) -> bytes:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    whole = _widened(onnx.load_from_string(model))
    kernels = [node.name for node in whole.graph.node if node.op_type in {"Conv", "Gemm"}]
    neutral_BM = onnx_features(model, rests_BHW, _BATCH)[:, LAST_COUNT:]
    if not kernels or any(node.op_type == "QuantizeLinear" for node in whole.graph.node):
        raise ExportError("A bundle to quantise should compute in floating point. Found integers. Take the original.")
    with TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(whole, before)
        logging.disable(
            logging.WARNING
        )  # the quantiser advises its own preprocessing on the root logger; the graph is folded
        quantize_static(
            str(before),
            str(after),
            _Ranges(crops_BHW, neutral_BM),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],
            nodes_to_exclude=[*kernels[:1], *kernels[-1 - _COMPARING : -1]],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        logging.disable(logging.NOTSET)
        result = onnx.load(after)
    del result.metadata_props[:]
    onnx.helper.set_model_props(result, {prop.key: prop.value for prop in whole.metadata_props})
    return bytes(result.SerializeToString())


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights that are stored in half precision as float32 again: the quantiser looks for weights, not for casts of them."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in stored]:
        values = onnx.numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
        graph.initializer.remove(stored[node.input[0]])
        graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    return model


class _Ranges:
    """Batches for the quantiser: what onnxruntime calls a CalibrationDataReader."""

    def __init__(self, crops_BHW: NDArray[np.uint8], neutral_BM: NDArray[np.float32]) -> None:
        count = -(-len(crops_BHW) // _BATCH)
        batches = zip(np.array_split(crops_BHW, count), np.array_split(neutral_BM, count), strict=True)
        self._feeds: Iterator[dict[str, NDArray[Any]]] = iter(
            [{INPUT_NAME: crops, NEUTRAL_NAME: neutral} for crops, neutral in batches]
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch, or None after the last one."""
        return next(self._feeds, None)
