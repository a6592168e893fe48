"""The service's way to a stand-alone file: one process at a time, and a reason where there is none."""

import asyncio
from pathlib import Path

import pytest

from model_export.contract import read_bundle
from service import standalone
from service.errors import RequestError
from service.standalone import StandaloneExport


async def test_one_export_at_a_time(bundle_dir: Path) -> None:
    export = StandaloneExport(bundle_dir, read_bundle(bundle_dir))
    first = asyncio.create_task(export.make(b""))
    await asyncio.sleep(0)
    with pytest.raises(RequestError) as refused:
        await export.make(b"")
    assert (refused.value.status, refused.value.code) == (503, "busy")
    assert len(await first) > 1000


async def test_an_export_that_is_given_up_leaves_no_process_and_room_for_the_next(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = StandaloneExport(bundle_dir, read_bundle(bundle_dir))
    monkeypatch.setattr(standalone, "LONGEST_S", 0.05)
    for _ in range(2):
        with pytest.raises(RequestError, match="an export within") as refused:
            await export.make(b"")
        assert refused.value.status == 503


async def test_a_failure_is_told_with_its_reason(bundle_dir: Path) -> None:
    export = StandaloneExport(bundle_dir, read_bundle(bundle_dir))
    with pytest.raises(RequestError, match="safetensors") as refused:
        await export.make(b"no head at all")
    assert (refused.value.status, refused.value.code) == (500, "internal")


async def test_without_the_package_it_says_where_else(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "_PACKAGE", "a_package_that_is_absent")
    with pytest.raises(RequestError, match="mien profiles export-onnx") as refused:
        await StandaloneExport(bundle_dir, read_bundle(bundle_dir)).make(b"")
    assert (refused.value.status, refused.value.code) == (404, "not_found")
