import subprocess
import sys

import pytest
from click.testing import CliRunner

from service.command import main

SUBCOMMANDS = (
    "serve",
    "demo",
    "stream",
    "render",
    "train",
    "evaluate",
    "calibrate",
    "evaluate-calibration",
    "export",
    "profiles",
)


def test_help_lists_every_subcommand_and_imports_none() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from service.command import main\n"
        "result = CliRunner().invoke(main, ['--help']); print(result.output)\n"
        "heavy = {'torch', 'cv2', 'onnxruntime', 'numba', 'fastapi', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_unknown_subcommand_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["frobnicate"]).exit_code == 2
