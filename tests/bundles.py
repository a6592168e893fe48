"""Small real bundles for tests: a few convolutions instead of a trained network, everything else as in a shipped bundle.

Axes: B batch, H W image, F feature, A adapter, O output.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model_export.contract import (
    CROP_SIZE_PX,
    EU_NAMES,
    EYE_MOVEMENTS,
    EYE_SIGNALS,
    FEATURE_COUNT,
    LAST_COUNT,
    MAP_COUNT,
    Bundle,
    Camera,
    EyePair,
    Golden,
    Head,
    RegionHead,
    Resting,
    write_bundle,
)
from model_export.contract.bundle import golden_neutral
from model_export.contract.eye_pair import PAIR_INPUTS
from model_export.contract.head import OUTPUT_COUNT
from model_export.runtime import NEUTRAL_NAME

OPSET = 18
MAP_CHANNELS = MAP_COUNT // 8**2


def make_backbone(seed: int = 0, *, input_name: str = "pixels", output_name: str = "features") -> bytes:
    """A backbone of two convolutions as ONNX: normalisation in the graph, 0.4 MMAC, its last layer's features about 0 +- 1.

    A tenth of the neutral map is taken off the map before the last layer.
    """
    random = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {
        "scale": np.array(1 / 64, np.float32),
        "middle": np.array(2, np.float32),
        "image_shape": np.array([-1, 1, CROP_SIZE_PX, CROP_SIZE_PX], np.int64),
        "first": (random.standard_normal((6, 1, 4, 4)) / 2).astype(np.float32),
        "second": (random.standard_normal((MAP_CHANNELS, 6, 4, 4)) / 6).astype(np.float32),
        "tenth": np.array(0.1, np.float32),
        "last_MF": (random.standard_normal((MAP_COUNT, LAST_COUNT)) / 70).astype(np.float32),
    }
    steps = [
        helper.make_node("Cast", [input_name], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "middle"], ["centred"]),
        helper.make_node("Reshape", ["centred", "image_shape"], ["image"]),
        helper.make_node("Conv", ["image", "first"], ["first_out"], strides=[4, 4]),
        helper.make_node("Relu", ["first_out"], ["first_relu"]),
        helper.make_node("Conv", ["first_relu", "second"], ["second_out"], strides=[4, 4]),
        helper.make_node("Relu", ["second_out"], ["second_relu"]),
        helper.make_node("Flatten", ["second_relu"], ["flat"]),
        helper.make_node("Mul", [NEUTRAL_NAME, "tenth"], ["taken_off"]),
        helper.make_node("Sub", ["flat", "taken_off"], ["compared"]),
        helper.make_node("Gemm", ["compared", "last_MF"], ["last"]),
        helper.make_node("Concat", ["last", "flat"], [output_name], axis=1),
    ]
    graph = helper.make_graph(
        steps,
        "backbone",
        [
            helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["batch", CROP_SIZE_PX, CROP_SIZE_PX]),
            helper.make_tensor_value_info(NEUTRAL_NAME, TensorProto.FLOAT, ["batch", MAP_COUNT]),
        ],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["batch", FEATURE_COUNT])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    helper.set_model_props(model, {"blendshape_names": json.dumps(list(EU_NAMES))})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def make_region_head(camera: Camera, seed: int = 0, adapter: int = 8, *, reads_map: bool = False) -> RegionHead:
    """A head whose EU values spread over [0, 1], whose gaze spreads over some degrees and whose confidence is high."""
    random = np.random.default_rng([seed, int(camera is Camera.MOUTH)])
    outputs = OUTPUT_COUNT[camera]
    spread_O = np.full(outputs, 0.01)
    middle_O = np.full(outputs, 0.5)
    middle_O[-1] = 3.0
    if camera is not Camera.MOUTH:
        spread_O[-3:-1], middle_O[-3:-1] = 0.5, 0.0
    return RegionHead(
        down_FA=(random.standard_normal((LAST_COUNT, adapter)) / 16).astype(np.float32),
        down_bias_A=(random.standard_normal(adapter) / 16).astype(np.float32),
        up_AF=(random.standard_normal((adapter, LAST_COUNT)) / 16).astype(np.float32),
        weight_FO=(random.standard_normal((LAST_COUNT, outputs)) * spread_O).astype(np.float32),
        bias_O=middle_O.astype(np.float32),
        map_MO=(random.standard_normal((MAP_COUNT, outputs)) * spread_O / 8).astype(np.float32) if reads_map else None,
    )


def make_head(seed: int = 0, *, backbone_digest: str = "", head_version: int = 0) -> Head:
    """A head; both eyes carry the same numbers, as in a universal head."""
    eye = make_region_head(Camera.LEFT_EYE, seed)
    mouth = make_region_head(Camera.MOUTH, seed)
    return Head(eye, eye, mouth, backbone_digest, head_version, parent=None if head_version == 0 else head_version - 1)


def make_resting(**changes: Any) -> Resting:
    """What a face at rest tells: nothing but what is given."""
    zeros: dict[str, Any] = {}
    for part, camera in (("eye", Camera.LEFT_EYE), ("mouth", Camera.MOUTH)):
        zeros[f"{part}_mean_F"] = np.zeros(LAST_COUNT, np.float32)
        zeros[f"{part}_shift_FO"] = np.zeros((LAST_COUNT, OUTPUT_COUNT[camera]), np.float32)
        zeros[f"{part}_slip_M4"] = np.zeros((MAP_COUNT, 4), np.float32)
        zeros[f"{part}_place_M"] = np.zeros(MAP_COUNT, np.float32)
        zeros[f"{part}_moving_M"] = np.zeros(MAP_COUNT, np.float32)
        zeros[f"{part}_share_2"] = np.zeros(2, np.float32)
    return Resting(**{**zeros, "fittings": 8, **changes})


def make_eye_pair(seed: int = 0, hidden: int = 6) -> EyePair:
    """Random numbers that move the EUs of sure eyes by some tenths and their gaze by some degrees."""
    random = np.random.default_rng(seed)
    size_S = np.array([0.05] * len(EYE_MOVEMENTS) + [2.0] * 2)
    into_X1 = np.ones((PAIR_INPUTS, 1))
    into_X1[[12, 13, 26, 27]] = 0.05  # degrees
    return EyePair(
        direct_XS=(
            np.eye(PAIR_INPUTS, EYE_SIGNALS) + random.standard_normal((PAIR_INPUTS, EYE_SIGNALS)) * into_X1 * size_S
        ).astype(np.float32),
        down_XA=(random.standard_normal((PAIR_INPUTS, hidden)) * into_X1).astype(np.float32),
        down_bias_A=random.standard_normal(hidden).astype(np.float32),
        up_AS=(random.standard_normal((hidden, EYE_SIGNALS)) * size_S).astype(np.float32),
        bias_S=(random.standard_normal(EYE_SIGNALS) * size_S).astype(np.float32),
        frame_sets=100,
    )


def make_crops(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth grey crops uint8 [count, 128, 128]: blobs of light, each image different."""
    random = np.random.default_rng(seed)
    coarse_BHW = random.uniform(20, 230, (count, 8, 8))
    return np.kron(coarse_BHW, np.ones((1, CROP_SIZE_PX // 8, CROP_SIZE_PX // 8))).astype(np.uint8)


def run_backbone(
    model: bytes, pixels_BHW: NDArray[np.uint8], neutral_BM: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Features float32 [B, 1280] of a backbone, by a plain session of its own; compared with nothing by default."""
    if neutral_BM is None:
        neutral_BM = np.zeros((len(pixels_BHW), MAP_COUNT), np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    features_BF: NDArray[np.float32] = session.run(
        None, {session.get_inputs()[0].name: pixels_BHW, NEUTRAL_NAME: neutral_BM}
    )[0]
    return features_BF


def make_golden(eye_onnx: bytes, mouth_onnx: bytes, head: Head, count: int = 3) -> Golden:
    """Golden vectors as the exporter would write them."""
    eye_pixels_BHW, mouth_pixels_BHW = make_crops(count, 1), make_crops(count, 2)
    eye_features_BF, mouth_features_BF = (
        run_backbone(model, pixels_BHW, golden_neutral(run_backbone(model, pixels_BHW)))
        for model, pixels_BHW in ((eye_onnx, eye_pixels_BHW), (mouth_onnx, mouth_pixels_BHW))
    )
    return Golden(
        eye_pixels_BHW,
        mouth_pixels_BHW,
        eye_features_BF,
        mouth_features_BF,
        head.left_eye.apply(eye_features_BF),
        head.mouth.apply(mouth_features_BF),
    )


def make_bundle(folder: Path, seed: int = 0) -> Bundle:
    """Writes a small bundle to `folder` and gives it as read back; equal seeds give equal bytes. Costs about 50 ms."""
    eye_onnx, mouth_onnx, head = make_backbone(seed), make_backbone(seed + 1000), make_head(seed)
    golden, training = make_golden(eye_onnx, mouth_onnx, head), {"note": "random weights for tests", "seed": seed}
    return write_bundle(folder, Bundle(f"test-{seed}", eye_onnx, mouth_onnx, head, golden, training))
