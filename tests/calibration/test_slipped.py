"""A slipped recording: the meter finds the slip that was put in, and nothing else of the take changes."""

import cv2
import numpy as np
import pytest

from calibration.movement import MovementMeter
from calibration.slipped import slipped
from model_export.contract import EU_COUNT, Camera, Take
from model_export.contract.take import Encoding


def skin(seed: int = 0) -> np.ndarray:
    """A picture with texture of every size."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(n, n)).astype(np.float32), (128, 128), interpolation=cv2.INTER_CUBIC)
        for n in (8, 16, 40)
    ]
    return np.clip(128 + 25 * sum(layers), 0, 255).astype(np.uint8)


def recording(picture_HW: np.ndarray) -> Take:
    values_TE = np.full((2, EU_COUNT), 0.25, np.float32)
    images = {Camera.MOUTH: (picture_HW.tobytes(), picture_HW.tobytes()), Camera.LEFT_EYE: (picture_HW.tobytes(), b"")}
    return Take("free", Encoding.GRAY8, np.array([0, 10], np.int64), images, (128, 128), values_TE)


@pytest.mark.parametrize(("right_px", "down_px", "turn_deg"), [(6.0, 0.0, 0.0), (0.0, -5.0, 0.0), (2.0, 3.0, 3.0)])
def test_the_meter_finds_the_slip(right_px: float, down_px: float, turn_deg: float) -> None:
    moved = slipped(recording(skin()), right_px, down_px, turn_deg)
    frame_HW = np.frombuffer(moved.images[Camera.MOUTH][1], np.uint8).reshape(128, 128)
    slip = MovementMeter(Camera.MOUTH, skin()).measure(frame_HW).slip
    assert slip.right_px == pytest.approx(right_px, abs=0.7)
    assert slip.down_px == pytest.approx(down_px, abs=0.7)
    assert slip.turn_deg == pytest.approx(turn_deg, abs=0.7)


def test_times_truth_and_missing_frames_stay() -> None:
    before = recording(skin())
    after = slipped(before, 4.0, 1.0, -2.0)
    assert after.images[Camera.LEFT_EYE][1] == b""
    assert after.images[Camera.LEFT_EYE][0] != before.images[Camera.LEFT_EYE][0]
    assert (after.cue, after.t_ns, after.values_TE) == (before.cue, before.t_ns, before.values_TE)
    assert slipped(before, 0.0, 0.0, 0.0).images[Camera.MOUTH] == before.images[Camera.MOUTH]
