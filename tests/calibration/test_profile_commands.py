"""`mien profiles export-onnx`: whose head is written, and what is refused."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from calibration.profile_commands import profiles
from calibration.profiles import Profiles
from model_export.contract import read_bundle
from tests.bundles import make_bundle, make_head


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle, and the profiles of `zoe`, who has three heads: the second is live, the third is of other backbones."""
    digest = make_bundle(tmp_path / "bundle").backbone_digest
    store = Profiles(tmp_path / "profiles")
    store.create("zoe")
    store.give_consent("zoe", "1")
    store.add_head("zoe", make_head(1, backbone_digest=digest))
    store.add_head("zoe", make_head(2, backbone_digest=digest), live=True)
    store.add_head("zoe", make_head(3, backbone_digest="cd" * 32))
    store.close()
    return tmp_path


def export(folder: Path, *words: str) -> Result:
    options = (
        "--bundle",
        str(folder / "bundle"),
        "--profiles",
        str(folder / "profiles"),
        "--out",
        str(folder / "a.onnx"),
    )
    return CliRunner().invoke(profiles, ["export-onnx", *words, *options])


@pytest.mark.parametrize(
    ("words", "version"), [(("zoe",), 2), (("zoe", "--version", "1"), 1), (("zoe", "--version", "0"), 0), ((), 0)]
)
def test_the_head_that_was_asked_for_is_written(folder: Path, words: tuple[str, ...], version: int) -> None:
    result = export(folder, *words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    data = (folder / "a.onnx").read_bytes()
    assert (told["head_version"], told["bytes"]) == (version, len(data))
    metadata = {entry.key: entry.value for entry in onnx.load_model_from_string(data).metadata_props}
    assert metadata["head_version"] == str(version)
    assert metadata["bundle_digest"] == read_bundle(folder / "bundle").digest
    if version:
        record = Profiles(folder / "profiles").profile("zoe").heads[version - 1]
        assert metadata["head_digest"] == record.digest, "as the profile has it"
    assert not any("zoe" in value for value in metadata.values()), "nobody's name is in it"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("bo",), 3, "bo"),
        (("zoe", "--version", "9"), 3, "9"),
        (("zoe", "--version", "3"), 1, "fitted for backbones"),
        (("--version", "1"), 2, "Found no WEARER"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    result = export(folder, *words)
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert list(folder.glob("a.onnx*")) == []
