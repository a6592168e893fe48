"""Pictures of encoded frames: raw ones without a copy, JPEG bodies that keep their header's word or are refused."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.contract import Camera
from model_export.contract.take import Encoding
from service.decode import decode_image
from service.errors import ErrorCode, WireError
from service.wire import EncodedFrame
from tests.service.wire_material import jpeg_of, smooth_image

IMAGE_HW = smooth_image(96, 160)
JPEG = jpeg_of(IMAGE_HW)


def frame(payload: bytes | memoryview, encoding: Encoding = Encoding.JPEG) -> EncodedFrame:
    return EncodedFrame(Camera.LEFT_EYE, encoding, 160, 96, 5, payload)


def test_a_raw_image_is_a_view_of_its_message() -> None:
    message = bytearray(b"head" + IMAGE_HW.tobytes())
    pixels_HW = decode_image(frame(memoryview(message)[4:], Encoding.GRAY8))
    np.testing.assert_array_equal(pixels_HW, IMAGE_HW)
    assert np.shares_memory(pixels_HW, np.frombuffer(message, np.uint8))


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_is_decoded_to_grey(progressive: int) -> None:
    payload = jpeg_of(IMAGE_HW, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_QUALITY, 95)
    pixels_HW = decode_image(frame(memoryview(payload)))
    assert pixels_HW.shape == (96, 160)
    assert pixels_HW.dtype == np.uint8
    assert np.abs(pixels_HW.astype(int) - IMAGE_HW).max() < 12


def test_colours_become_grey() -> None:
    colours = np.zeros((96, 160, 3), np.uint8)
    colours[..., 1] = 200
    done, data = cv2.imencode(".jpg", colours)
    assert done
    assert abs(int(decode_image(frame(data.tobytes()))[48, 80]) - round(0.587 * 200)) <= 2


def test_the_orientation_in_exif_does_not_turn_a_picture() -> None:
    # one IFD entry: tag 0x0112 (orientation), SHORT, 1 value, 6 (turned by 90 degrees)
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    turned = JPEG[:2] + exif + JPEG[2:]
    np.testing.assert_array_equal(decode_image(frame(turned)), decode_image(frame(JPEG)))


def test_zero_bytes_behind_the_end_are_padding() -> None:
    np.testing.assert_array_equal(decode_image(frame(JPEG + bytes(20))), decode_image(frame(JPEG)))


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_jpeg_that_is_cut_off_is_refused(kept: float) -> None:
    with pytest.raises(WireError, match="left_eye should end with FF D9") as caught:
        decode_image(frame(JPEG[: int(len(JPEG) * kept)]))
    assert caught.value.code == ErrorCode.JPEG


def test_a_header_without_a_picture_is_refused() -> None:
    start_of_scan = JPEG.index(b"\xff\xda")
    with pytest.raises(WireError) as caught:
        decode_image(frame(JPEG[:start_of_scan] + b"\xff\xd9"))
    assert caught.value.code == ErrorCode.JPEG


@given(st.integers(20, len(JPEG) - 3), st.binary(min_size=1, max_size=40))
def test_damage_gives_a_picture_of_the_declared_size_or_a_typed_error(at: int, damage: bytes) -> None:
    broken = JPEG[:at] + damage + JPEG[at + len(damage) :]
    try:
        pixels_HW = decode_image(frame(broken))
    except WireError as error:
        assert error.code in {code.value for code in ErrorCode}
    else:
        assert pixels_HW.shape == (96, 160)
