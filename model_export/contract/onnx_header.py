"""Reads opset, metadata and data locations from the bytes of an ONNX model without the onnx package.

The serving process checks a model before onnxruntime sees it. Importing onnx for that would cost it 25 MB of resident memory
for three fields, so this walks the protobuf wire format (protobuf.dev/programming-guides/encoding); the tests hold it against
the onnx package. Field numbers are those of onnx.proto3: ModelProto.graph 7, .opset_import 8, .metadata_props 14;
GraphProto.node 1, .initializer 5; NodeProto.attribute 5; AttributeProto.t 5, .g 6, .tensors 10, .graphs 11;
TensorProto.external_data 13, .data_location 14; OperatorSetIdProto.domain 1, .version 2; StringStringEntryProto.key 1, .value 2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH: Final = 8
"""Graphs inside attributes inside graphs; our models have none, honest ones a few."""


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """The promises of an ONNX model that are visible without running it."""

    opset: int
    """Version of the default operator set; 0 when none is declared."""
    metadata: dict[str, str]
    has_external_data: bool
    """Whether any tensor points to another file, which a model loaded from bytes must not do."""


def read_onnx_header(data: bytes) -> OnnxHeader:
    """Opset, metadata and data locations of a serialised ModelProto; raises ValueError when the bytes are not one."""
    opset, metadata, external = 0, {}, False
    for number, value in _fields(memoryview(data)):
        if number == 7 and isinstance(value, memoryview):
            external = external or _graph_is_external(value, 0)
        elif number == 8 and isinstance(value, memoryview):
            entry = dict(_fields(value))
            if _text(entry.get(1)) in ("", "ai.onnx"):
                version = entry.get(2, 0)
                opset = version if isinstance(version, int) else 0
        elif number == 14 and isinstance(value, memoryview):
            entry = dict(_fields(value))
            metadata[_text(entry.get(1))] = _text(entry.get(2))
    return OnnxHeader(opset, metadata, external)


def _graph_is_external(graph: memoryview, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs are nested more than {_MAX_DEPTH} deep")
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 5 and _tensor_is_external(value):
            return True
        if number == 1:
            for attribute in (part for field, part in _fields(value) if field == 5 and isinstance(part, memoryview)):
                for field, part in _fields(attribute):
                    if not isinstance(part, memoryview):
                        continue
                    if field in (5, 10) and _tensor_is_external(part):
                        return True
                    if field in (6, 11) and _graph_is_external(part, depth + 1):
                        return True
    return False


def _tensor_is_external(tensor: memoryview) -> bool:
    return any(number == 13 or (number == 14 and value != 0) for number, value in _fields(tensor))


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field of a message: its number with an integer (varint) or the bytes it spans."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes at byte {at} runs past the end")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("cut off inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number of more than 10 bytes at byte {at}")
