"""The crops in a take: decoded as the live path does, and never from half a picture."""

import cv2
import numpy as np
import pytest

from calibration.crops import crops_of
from model_export.contract import CROP_SIZE_PX, Camera, Take, TakeError
from model_export.contract.take import Encoding
from service.decode import decode_image
from service.wire_messages import EncodedFrame
from tests.conftest import REPOSITORY
from tests.service.wire_material import jpeg_of, smooth_image

JPEG = jpeg_of(smooth_image(CROP_SIZE_PX, CROP_SIZE_PX))


def take_of(*images: bytes) -> Take:
    return Take("rest", Encoding.JPEG, np.arange(len(images), dtype=np.int64), {Camera.MOUTH: images})


def test_a_recorded_picture_is_the_one_that_the_live_path_sees() -> None:
    crops_THW, seen_T = crops_of(take_of(JPEG, b""))[Camera.MOUTH]
    live_HW = decode_image(EncodedFrame(Camera.MOUTH, Encoding.JPEG, CROP_SIZE_PX, CROP_SIZE_PX, 0, JPEG))
    np.testing.assert_array_equal(crops_THW[0], live_HW)
    assert seen_T.tolist() == [True, False]
    assert not crops_THW[1].any()


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_recorded_jpeg_that_is_cut_off_is_refused(kept: float) -> None:
    with pytest.raises(TakeError, match="Image 1 of mouth should end with FF D9. Found a JPEG that is cut off"):
        crops_of(take_of(JPEG, JPEG[: int(len(JPEG) * kept)]))


def test_a_recorded_header_without_a_picture_is_refused() -> None:
    with pytest.raises(TakeError, match="Image 0 of mouth should have a body"):
        crops_of(take_of(JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9"))


def test_a_wide_picture_is_cut_to_its_middle() -> None:
    wide_HW = np.zeros((100, 200), np.uint8)
    wide_HW[:, 50:150] = 200
    done, data = cv2.imencode(".jpg", wide_HW)
    assert done
    crops_THW, _ = crops_of(take_of(data.tobytes()))[Camera.MOUTH]
    assert crops_THW[0][:, 8:-8].min() > 180


def test_service_and_calibration_decode_in_one_place() -> None:
    rooms = [REPOSITORY / room for room in ("service", "calibration")]
    decoding = [path.name for room in rooms for path in room.rglob("*.py") if "imdecode(" in path.read_text()]
    assert decoding == []
