import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import WireError
from service.jpeg import MAX_SCANS, read_jpeg_size
from tests.service.wire_material import jpeg_of, smooth_image

_PROGRESSIVE = (2, 1)  # cv2.IMWRITE_JPEG_PROGRESSIVE
_JPEG = jpeg_of(smooth_image(48, 64))


def _frame_header(width: int, height: int, marker: int = 0xC0, bits: int = 8, components: int = 1) -> bytes:
    length = 8 + 3 * components
    start = bytes([0xFF, marker, 0, length, bits])
    return start + height.to_bytes(2) + width.to_bytes(2) + bytes([components]) + b"\x01\x11\x00" * components


@pytest.mark.parametrize("options", [(), _PROGRESSIVE])
@pytest.mark.parametrize("size", [(1, 1), (128, 128), (200, 313), (2048, 2048)])
def test_size_is_the_one_that_was_encoded(size: tuple[int, int], options: tuple[int, ...]) -> None:
    height, width = size
    assert read_jpeg_size(jpeg_of(np.zeros(size, np.uint8), *options)) == (width, height)


def test_colour_jpeg_is_read() -> None:
    assert read_jpeg_size(jpeg_of(np.zeros((20, 30, 3), np.uint8))) == (30, 20)


def test_fill_bytes_and_comments_before_the_frame_header_are_passed_over() -> None:
    assert read_jpeg_size(_JPEG[:2] + b"\xff\xff\xff\xfe\x00\x06text" + _JPEG[2:]) == (64, 48)


def test_a_header_of_32000_by_32000_px_is_refused_with_its_size() -> None:
    forged = b"\xff\xd8" + _frame_header(32000, 32000) + bytes(500)
    with pytest.raises(WireError, match="Found 32000 x 32000") as refused:
        read_jpeg_size(forged)
    assert refused.value.code == "size"


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (4097, 1), (1, 4097), (4096, 1025)])
def test_sizes_out_of_bounds_are_refused(width: int, height: int) -> None:
    with pytest.raises(WireError, match=f"Found {width} x {height}"):
        read_jpeg_size(b"\xff\xd8" + _frame_header(width, height))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "Found nothing"),
        (b"\x89PNG\r\n\x1a\n", "Found 89 50"),
        (b"\xff\xd8\x00\x00\x00\x00", "Found 00"),
        (b"\xff\xd8" + _frame_header(8, 8, marker=0xC1), "Found frame header FF C1"),
        (b"\xff\xd8" + _frame_header(8, 8, marker=0xC9), "Found frame header FF C9"),
        (b"\xff\xd8" + _frame_header(8, 8, bits=12), "Found 12"),
        (b"\xff\xd8" + _frame_header(8, 8, components=4), "Found 4"),
        (b"\xff\xd8\xff\xda\x00\x08", "marker FF DA"),
        (b"\xff\xd8\xff\xe0\x00\x01aa", "Found 1 at byte 2"),
        (b"\xff\xd8\xff\xe0\x00\x08aa", "its end after 8 bytes"),
        (b"\xff\xd8" + _frame_header(8, 8)[:-4], "its end"),
        (b"\xff\xd8" + b"\xff" * 300, "segments before it"),
    ],
)
def test_what_is_no_plain_jpeg_is_refused_and_named(data: bytes, found: str) -> None:
    with pytest.raises(WireError, match=found) as refused:
        read_jpeg_size(data)
    assert refused.value.code == "jpeg"


def test_a_progressive_jpeg_of_thousands_of_scans_is_refused() -> None:
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00"
    with pytest.raises(WireError, match=f"at most {MAX_SCANS} scans. Found 5000"):
        read_jpeg_size(b"\xff\xd8" + _frame_header(2048, 2048, marker=0xC2) + scan * 5000)


def test_a_mebibyte_of_empty_segments_costs_under_a_millisecond() -> None:
    forged = b"\xff\xd8" + b"\xff\xe0\x00\x02" * (1 << 18)
    start_ns = time.perf_counter_ns()
    with pytest.raises(WireError, match="segments before it"):
        read_jpeg_size(forged)
    assert time.perf_counter_ns() - start_ns < 1_000_000


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_sized(data: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", _JPEG[:20]):
        _refused_or_in_bounds(start + data)


@given(st.integers(0, len(_JPEG) - 1), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_sized(position: int, byte: int) -> None:
    _refused_or_in_bounds(_JPEG[:position] + bytes([byte]) + _JPEG[position + 1 :])
    _refused_or_in_bounds(_JPEG[:position])


def _refused_or_in_bounds(data: bytes) -> None:
    try:
        width, height = read_jpeg_size(memoryview(data))
    except WireError:
        return
    assert 1 <= width <= 4096
    assert 1 <= height <= 4096
    assert width * height <= 4 * 1024 * 1024
