import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from model_export.contract.onnx_header import read_onnx_header


def model(opset: int = 18, external: str = "") -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32), "w")
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [2.0])
    node = helper.make_node("Constant", [], ["two"], value=constant)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    if external == "initializer":
        _point_outside(weight)
    if external == "attribute":
        _point_outside(node.attribute[0].t)
    graph = helper.make_graph(
        [node, add],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6])],
        [weight],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", opset)]
    )
    helper.set_model_props(made, {"blendshape_names": '["jawOpen"]', "other": "ü"})
    return made


def _point_outside(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"


@pytest.mark.parametrize("opset", [17, 18, 20])
def test_opset_and_metadata_agree_with_the_onnx_package(opset: int) -> None:
    header = read_onnx_header(model(opset).SerializeToString())
    assert header.opset == opset
    assert header.metadata == {"blendshape_names": '["jawOpen"]', "other": "ü"}
    assert not header.has_external_data


@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_a_tensor_in_another_file_is_seen(where: str) -> None:
    assert read_onnx_header(model(external=where).SerializeToString()).has_external_data


def test_a_tensor_in_another_file_is_seen_inside_a_subgraph() -> None:
    inner = model(external="initializer").graph
    branch = helper.make_node("If", ["cond"], ["z"], then_branch=inner, else_branch=model().graph)
    graph = helper.make_graph([branch], "outer", [], [])
    assert read_onnx_header(helper.make_model(graph).SerializeToString()).has_external_data


@given(st.data())
def test_a_damaged_model_is_read_or_refused_with_a_value_error(data: st.DataObject) -> None:
    whole = bytearray(model().SerializeToString())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        read_onnx_header(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except ValueError as error:
        assert str(error)
