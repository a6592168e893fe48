import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract import Camera, Frame, FrameError, FrameSet


def frame(camera: Camera = Camera.MOUTH, t_ns: int = 5) -> Frame:
    return Frame(camera, t_ns, np.zeros((4, 6), np.uint8))


def test_the_time_of_a_frame_set_is_that_of_its_newest_frame() -> None:
    frames = FrameSet(1, (frame(Camera.LEFT_EYE, 10), frame(Camera.MOUTH, 12), frame(Camera.RIGHT_EYE, 11)))
    assert frames.t_ns == 12
    assert [each.camera for each in frames] == [Camera.LEFT_EYE, Camera.MOUTH, Camera.RIGHT_EYE]


@pytest.mark.parametrize("pixels", [np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6)), np.zeros((0, 6), np.uint8)])
def test_a_frame_is_one_grey_image(pixels: NDArray[np.generic]) -> None:
    with pytest.raises(FrameError, match=r"should be uint8 \[H, W\].*Found"):
        Frame(Camera.MOUTH, 0, pixels)  # type: ignore[arg-type]


def test_a_frame_has_a_time_of_its_clock() -> None:
    with pytest.raises(FrameError, match="Found -1"):
        frame(t_ns=-1)


@pytest.mark.parametrize("cameras", [(), (Camera.MOUTH, Camera.MOUTH)])
def test_a_frame_set_holds_different_cameras(cameras: tuple[Camera, ...]) -> None:
    with pytest.raises(FrameError, match="one to three cameras"):
        FrameSet(0, tuple(frame(camera) for camera in cameras))


@pytest.mark.parametrize("sequence", [-1, 2**32])
def test_a_sequence_fits_the_wire(sequence: int) -> None:
    with pytest.raises(FrameError, match="unsigned 32 bit"):
        FrameSet(sequence, (frame(),))


def test_camera_numbers_and_names_are_those_of_the_wire() -> None:
    assert [(camera.value, camera.label) for camera in Camera] == [(0, "left_eye"), (1, "right_eye"), (2, "mouth")]
