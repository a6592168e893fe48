"""Export: averaged weights to a bundle, and nothing at all when onnxruntime and torch disagree.

Axes: B batch, H W image, F feature, O head output.
"""

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_export.checkpoint import code_revision, load_finished, read_record
from model_export.contract import CROP_SIZE_PX, EU_NAMES, LAST_COUNT, Bundle, Golden, write_bundle
from model_export.contract.bundle import GOLDEN_TOLERANCE, golden_neutral
from model_export.errors import ExportError
from model_export.network import (
    Backbone,
    BackboneConfig,
    ExpressionNetwork,
    convolution_flops,
    deployed,
    folded,
    uncompared,
)
from model_export.onnx_features import onnx_features
from model_export.runtime import INPUT_NAME, NEUTRAL_NAME, OUTPUT_NAME

_GOLDEN_GAINS: Final = (1.0, 2.0, 0.04)
"""One for each golden picture of a backbone: as cameras expose, bright, dark."""


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A finished run: the averaged network and its record."""

    network: ExpressionNetwork
    record: Mapping[str, Any]
    """training.json."""


def read_run(folder: Path) -> TrainedRun:
    """The network and the record in a run folder; raises CheckpointError."""
    config = read_record(folder)[0]["config"]
    network = ExpressionNetwork(BackboneConfig(**config["eye"]), BackboneConfig(**config["mouth"]))
    return TrainedRun(network.eval(), load_finished(folder, network))


def to_onnx(backbone: Backbone) -> bytes:
    """The backbone as one ONNX file with its weights inside.

    "pixels" uint8 [batch, 128, 128], "neutral" float32 [batch, 1024] -> "features" float32 [batch, 1280].
    """
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # they list optional libraries that are not installed
        logging.getLogger(name).setLevel(logging.ERROR)
    example = torch.zeros(2, CROP_SIZE_PX, CROP_SIZE_PX, dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        # torch's exporter still calls what torch's pytrees deprecate; neither is ours to mend
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        program = torch.onnx.export(
            folded(backbone).to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
            (example, uncompared(example)),
            dynamo=True,
            input_names=[INPUT_NAME, NEUTRAL_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: batch}, {0: torch.export.Dim.AUTO}),
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export should give a program. Found none.")
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # the Python stack of every node; a tenth of the file
        node.ClearField("doc_string")
    del model.metadata_props[:]
    _store_halves(model.graph)
    onnx.helper.set_model_props(model, {"blendshape_names": json.dumps(EU_NAMES)})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _store_halves(graph: onnx.GraphProto) -> None:
    """Stores the weights that are exact in half precision in half the bytes; onnxruntime widens them once, when it loads."""
    for tensor in list(graph.initializer):
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 1024:
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if (halves.astype(np.float32) != values).any():
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(halves, f"{name}.half"))
        graph.node.insert(0, onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))


def golden_pixels(seed: int) -> NDArray[np.uint8]:
    """uint8 [3, 128, 128]: pictures of edges, slopes and noise, the same on every machine.

    Not faces: numbers must agree on any input, and a bundle should carry no picture of anyone.
    """
    rng = np.random.default_rng(seed)
    rows_HW, columns_HW = np.mgrid[0:CROP_SIZE_PX, 0:CROP_SIZE_PX] / CROP_SIZE_PX
    pictures = []
    for gain in _GOLDEN_GAINS:
        x, y, radius = rng.uniform(0.3, 0.7, 3)
        disc_HW = (np.hypot(columns_HW - x, rows_HW - y) < radius / 3) * -70.0
        slope_HW = 110 + 60 * columns_HW * rng.uniform(-1, 1) + 60 * rows_HW * rng.uniform(-1, 1)
        pictures.append(gain * (disc_HW + slope_HW + rng.normal(0, 6, disc_HW.shape)))
    return np.asarray(np.clip(np.stack(pictures), 0, 255), np.uint8)


def make_golden(network: ExpressionNetwork) -> Golden:
    """Golden pictures with what torch makes of them."""
    eye_BHW, mouth_BHW = golden_pixels(1), golden_pixels(2)
    network = network.cpu().eval()
    with torch.no_grad():
        eye_BF, mouth_BF = _golden_features(network.eye, eye_BHW), _golden_features(network.mouth, mouth_BHW)
        eye_BO, mouth_BO = network.eye_head(eye_BF[:, :LAST_COUNT]), network.mouth_head(mouth_BF[:, :LAST_COUNT])
    return Golden(eye_BHW, mouth_BHW, *(part.numpy() for part in (eye_BF, mouth_BF, eye_BO, mouth_BO)))


def _golden_features(backbone: Backbone, pixels_BHW: NDArray[np.uint8]) -> Tensor:
    pixels = torch.from_numpy(pixels_BHW)
    plain_BF = backbone(pixels, uncompared(pixels)).numpy()
    features_BF: Tensor = backbone(pixels, torch.from_numpy(golden_neutral(plain_BF)))
    return features_BF


def require_agreement(network: ExpressionNetwork, eye_onnx: bytes, mouth_onnx: bytes, golden: Golden) -> float:
    """The largest difference between onnxruntime with the numpy head and the golden vectors, at batch 1 and 2.

    Raises ExportError when it is above 1e-4.
    """
    head, worst = network.to_head(), 0.0
    for part, model, region, pixels_BHW, features_BF, out_BO in (
        ("eye", eye_onnx, head.left_eye, golden.eye_pixels_BHW, golden.eye_features_BF, golden.eye_out_BO),
        ("mouth", mouth_onnx, head.mouth, golden.mouth_pixels_BHW, golden.mouth_features_BF, golden.mouth_out_BO),
    ):
        for batch in (1, 2):
            found_BF = onnx_features(model, pixels_BHW, batch, golden_neutral(features_BF))
            for what, found, expected in (
                ("features", found_BF, features_BF),
                ("outputs", region.apply(found_BF), out_BO),
            ):
                difference = float(np.abs(found - expected).max())
                if not difference <= GOLDEN_TOLERANCE:
                    raise ExportError(
                        f"{part} {what} of onnxruntime at batch {batch} should be within {GOLDEN_TOLERANCE:g} of "
                        f"torch's. Found {difference:g} off. Nothing was written."
                    )
                worst = max(worst, difference)
    return worst


def write_checked(
    folder: Path,
    *,
    name: str,
    network: ExpressionNetwork,
    backbones: Sequence[bytes],
    golden: Golden,
    training: Mapping[str, Any],
) -> Bundle:
    """Writes the bundle when `backbones` (eye, mouth; ONNX) agree with the network; raises ExportError when not."""
    eye_onnx, mouth_onnx = backbones
    difference = require_agreement(network, eye_onnx, mouth_onnx, golden)
    record = {**training, "largest_difference": difference}
    return write_bundle(folder, Bundle(name, eye_onnx, mouth_onnx, network.to_head(), golden, record))


def export(run: Path, out: Path, name: str, evaluation: Mapping[str, Any] | None = None) -> Bundle:
    """A bundle in `out` from a finished run, replaced as a whole; `evaluation` joins the training record."""
    trained = read_run(run)
    config = trained.record["config"]
    training = {
        **trained.record,
        "export_code_revision": code_revision(),
        "flops": {part: convolution_flops(BackboneConfig(**config[part])) for part in ("eye", "mouth")},
        "evaluation": evaluation,
        "caveat": "No images from inside a real headset were available.",
    }
    network = deployed(trained.network)
    backbones = (to_onnx(network.eye), to_onnx(network.mouth))
    return write_checked(
        out, name=name, network=network, backbones=backbones, golden=make_golden(network), training=training
    )
