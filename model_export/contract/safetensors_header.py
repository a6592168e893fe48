"""Our own metadata in the header of a safetensors file: one JSON object under the key "mien".

One key, because the library writes several in random order, and equal heads must give equal bytes. Reading works on bytes in
memory, for which the library offers nothing. Format (safetensors 0.x): 8 bytes little-endian length N, then N bytes of JSON
whose "__metadata__" maps text to text.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from model_export.contract.errors import ContractError

MAX_HEADER_BYTES: Final = 1 << 20
"""A header of ours has a few kilobytes; a forged length must not make us parse megabytes."""


def pack_metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    """The metadata argument of safetensors' save for these JSON values."""
    return {"mien": json.dumps(fields, sort_keys=True)}


def read_metadata(data: bytes | memoryview, error: type[ContractError]) -> dict[str, Any]:
    """The JSON object that pack_metadata stored, {} where there is none; raises `error` when the header is not whole."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 2 <= size <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise error(
            f"Expected a safetensors file, whose first 8 bytes give a header length within its {len(data)} bytes. "
            f"Found {size}. The file is cut off or of another kind."
        )
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
        return dict(json.loads(header.get("__metadata__", {}).get("mien", "{}")))
    except (ValueError, TypeError, AttributeError, RecursionError) as reason:
        raise error(f"Expected a safetensors header of JSON. Found one that cannot be parsed: {reason}.") from None
