"""The size of a JPEG from its header, before anybody decodes it.

A forged JPEG of 524 bytes that claims 32000 x 32000 px costs cv2.imdecode six seconds and a gigabyte. This reader walks
the segments up to the frame header (ITU-T T.81, annex B), jumps over their contents and allocates nothing that grows.
"""

from typing import Final

from service.errors import ErrorCode, WireError

MAX_SIDE_PX: Final = 4096
MAX_PIXELS: Final = 4 * 1024 * 1024
MAX_STEPS: Final = 96
"""Segments and fill bytes before the frame header; cameras write 2 to 10."""
MAX_SCANS: Final = 24
"""Scans of a progressive JPEG; encoders write 10 or fewer. Each scan walks the whole image, so thousands in a small file cost
seconds (libjpeg-turbo, "Two Issues with the JPEG Standard", 2015)."""

_SOF_BASELINE: Final = 0xC0
_SOF_PROGRESSIVE: Final = 0xC2
_SOF_OTHERS: Final = frozenset((0xC1, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_WITHOUT_LENGTH: Final = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))
_REMEDY: Final = "Send a whole baseline or progressive JPEG of 8 bits, as cv2.imencode writes it."


def read_jpeg_size(payload: bytes | memoryview) -> tuple[int, int]:
    """Width and height in pixels of a baseline or progressive 8 bit JPEG of 1 or 3 components.

    Raises WireError (code jpeg, or size when it is out of bounds). Under 10 us for a camera's JPEG; the body is not read, so
    it may still be broken.
    """
    end = len(payload)
    if end < 4 or payload[0] != 0xFF or payload[1] != 0xD8:
        raise _refusal("A JPEG should begin with FF D8.", bytes(payload[:2]).hex(" ") or "nothing")
    position = 2
    for _ in range(MAX_STEPS):
        if position + 4 > end:
            raise _refusal("A JPEG should hold a frame header.", f"its end after {end} bytes")
        if payload[position] != 0xFF:
            raise _refusal(f"A JPEG marker should begin with FF at byte {position}.", f"{payload[position]:02x}")
        marker = payload[position + 1]
        if marker == 0xFF:  # a fill byte before a marker
            position += 1
            continue
        if marker in (_SOF_BASELINE, _SOF_PROGRESSIVE):
            return _read_frame_header(payload, position, marker)
        if marker in _SOF_OTHERS:
            raise _refusal("A JPEG should be baseline or progressive.", f"frame header FF {marker:02X}")
        if marker in _WITHOUT_LENGTH or marker == 0xDA:
            raise _refusal("The frame header of a JPEG should precede its image.", f"marker FF {marker:02X}")
        length = payload[position + 2] << 8 | payload[position + 3]
        if length < 2:
            raise _refusal("A JPEG segment should count its own length of 2 bytes.", f"{length} at byte {position}")
        position += 2 + length
    raise _refusal("The frame header of a JPEG should come early.", f"{MAX_STEPS} segments before it")


def _read_frame_header(payload: bytes | memoryview, position: int, marker: int) -> tuple[int, int]:
    if position + 10 > len(payload):
        raise _refusal("A JPEG should hold a whole frame header.", f"its end after {len(payload)} bytes")
    length = payload[position + 2] << 8 | payload[position + 3]
    bits = payload[position + 4]
    height = payload[position + 5] << 8 | payload[position + 6]
    width = payload[position + 7] << 8 | payload[position + 8]
    components = payload[position + 9]
    if bits != 8:
        raise _refusal("A JPEG should have 8 bits a sample.", f"{bits}")
    if components not in (1, 3):
        raise _refusal("A JPEG should have 1 component (grey) or 3.", f"{components}")
    if length != 8 + 3 * components:
        raise _refusal(f"The frame header should be {8 + 3 * components} bytes long.", f"{length}")
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX and width * height <= MAX_PIXELS):
        raise WireError(
            ErrorCode.SIZE,
            f"A JPEG should have sides of 1 to {MAX_SIDE_PX} px and at most {MAX_PIXELS} px in all.",
            f"{width} x {height}",
            "Crop or scale the image before sending it.",
        )
    if marker == _SOF_PROGRESSIVE:
        scans = bytes(payload[position:]).count(b"\xff\xda")
        if scans > MAX_SCANS:
            raise _refusal(f"A progressive JPEG should have at most {MAX_SCANS} scans.", f"{scans}")
    return width, height


def _refusal(expected: str, found: str) -> WireError:
    return WireError(ErrorCode.JPEG, expected, found, _REMEDY)
