"""What judging and re-centring load: numpy, not torch, for they may run where no fit does."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["gate", "material", "recentre", "rest_learner", "worker_process", "features", "take_targets", "prompted"]
)
def test_torch_is_not_loaded(module: str) -> None:
    code = f"import sys, calibration.{module}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
