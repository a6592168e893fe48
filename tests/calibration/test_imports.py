"""Calibrating loads neither torch nor onnx: it works where only serving is installed, in the container image for one."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    ["learner", "live_gauge", "rest_learner", "worker_process", "calibrate", "profiles", "commands", "evaluate"],
)
def test_neither_torch_nor_onnx_is_loaded(module: str) -> None:
    code = f"import sys, calibration.{module}; assert not {{'torch', 'onnx', 'numba'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
