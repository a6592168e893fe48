"""A head as a stand-alone ONNX file, made by a process of its own: the service never loads the onnx package.

One at a time: it takes a second of a core, at the lowest priority, and nobody needs two.
"""

import asyncio
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from model_export.contract import Bundle
from service.errors import ErrorCode, RequestError

LONGEST_S: Final = 60.0
"""Of one export; it takes one second on a quiet machine."""
_PACKAGE: Final = "onnx"
_log: Final = logging.getLogger("mien.standalone")


class StandaloneExport:
    """Makes stand-alone files of the bundle that is served. Final; for one event loop."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self._folder = folder
        self._bundle = bundle
        self._under_way = False

    async def make(self, head_file: bytes) -> bytes:
        """The ONNX file of a head of the bundle's backbones, b"" for its own; raises RequestError (busy, not_found, internal)."""
        if find_spec(_PACKAGE) is None:
            remedy = "Install the train extra, or run `mien profiles export-onnx` where it is installed."
            raise RequestError(
                404, ErrorCode.NOT_FOUND, f"a service with the package {_PACKAGE}", "one without", remedy
            )
        if self._under_way:
            raise RequestError(503, ErrorCode.BUSY, "one export at a time", "one under way", "Try again.")
        self._under_way = True
        try:
            return await self._make(head_file)
        finally:
            self._under_way = False

    async def _make(self, head_file: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "model_export.standalone",
            "--bundle",
            str(self._folder),
            "--digest",
            self._bundle.digest,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            async with asyncio.timeout(LONGEST_S):
                model, said = await process.communicate(head_file)
        except TimeoutError:
            raise RequestError(
                503, ErrorCode.BUSY, f"an export within {LONGEST_S:g} s", "none", "Try again when less is to be done."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return model
        reason = said.decode("utf-8", "replace").strip()
        _log.error("export failed code=%d: %s", process.returncode, reason)
        found = ascii(reason.rpartition("\n")[2])[:200]
        raise RequestError(500, ErrorCode.INTERNAL, "an ONNX file", found, "Report it, with the service's log.")
