"""Reads the text metadata of a safetensors file held in memory, which the library gives only for files on disk.

Format (safetensors 0.x): 8 bytes little-endian length N, then N bytes of JSON whose "__metadata__" maps text to text.
"""

import json
from typing import Final

from model_export.contract.errors import ContractError

MAX_HEADER_BYTES: Final = 1 << 20
"""A header of ours has a few kilobytes; a forged length must not make us parse megabytes."""


def read_metadata(data: bytes | memoryview, error: type[ContractError]) -> dict[str, str]:
    """The "__metadata__" of a safetensors file; raises `error` when the header is not whole."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 2 <= size <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise error(
            f"Expected a safetensors file, whose first 8 bytes give a header length within its {len(data)} bytes. "
            f"Found {size}. The file is cut off or of another kind."
        )
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
        metadata = header.get("__metadata__", {})
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("`__metadata__` maps to something other than text")
    except (ValueError, AttributeError, RecursionError) as reason:
        raise error(f"Expected a safetensors header of JSON. Found one that cannot be parsed: {reason}.") from None
    return dict(metadata)
