"""The picture in an encoded frame, decoded only after its frame set won the connection's slot.

Axes: H W image. The header was checked when the message was parsed (service.jpeg): its size is bounded and the one declared.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract.take import Encoding
from service.errors import ErrorCode, WireError
from service.wire_messages import EncodedFrame

_END: Final = b"\xff\xd9"
_MAX_PADDING: Final = 64
"""Cameras fill their buffers with so many zero bytes after the end of a JPEG."""
_FLAGS: Final = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
"""Orientation in EXIF is ignored: how the camera sits is told by its placement, once."""


def decode_image(frame: EncodedFrame) -> NDArray[np.uint8]:
    """uint8 [height, width] grey: a view of a gray8 payload, a new array for a JPEG (about 35 us at 128 x 128).

    Raises WireError (jpeg, size) for a body that does not keep what its header says.
    """
    bytes_N = np.frombuffer(frame.payload, np.uint8)
    if frame.encoding is Encoding.GRAY8:
        return bytes_N.reshape(frame.height, frame.width)
    # The decoder fills what is missing with grey and only warns: a JPEG that was cut off must not pass as a face.
    if not bytes(frame.payload[-_MAX_PADDING:]).rstrip(b"\0").endswith(_END):
        raise WireError(
            ErrorCode.JPEG,
            f"The JPEG of {frame.camera.label} should end with FF D9.",
            "a JPEG that is cut off",
            "Send whole images.",
        )
    try:
        pixels_HW = cv2.imdecode(bytes_N, _FLAGS)
    except cv2.error:
        pixels_HW = None
    if pixels_HW is None:
        raise WireError(
            ErrorCode.JPEG,
            f"The JPEG of {frame.camera.label} should have a body that can be decoded.",
            "a damaged one",
            "Send a whole baseline or progressive JPEG of 8 bits, as cv2.imencode writes it.",
        )
    if pixels_HW.shape != (frame.height, frame.width) or pixels_HW.dtype != np.uint8:
        found = " x ".join(map(str, pixels_HW.shape[1::-1]))
        raise WireError(
            ErrorCode.SIZE,
            f"The JPEG of {frame.camera.label} should be {frame.width} x {frame.height} px, as its header says.",
            f"{found} when decoded",
            "Send one image in each JPEG.",
        )
    return np.asarray(pixels_HW, np.uint8)
