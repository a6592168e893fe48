"""The picture in an encoded frame, decoded only after its frame set won the connection's slot.

Axes: H W image. The header was checked when the message was parsed (service.jpeg): its size is bounded and the one declared.
"""

import numpy as np
from numpy.typing import NDArray

from model_export.contract.take import Encoding
from model_export.decode import PictureError, decode_jpeg
from service.errors import ErrorCode, WireError
from service.wire_messages import EncodedFrame


def decode_image(frame: EncodedFrame) -> NDArray[np.uint8]:
    """uint8 [height, width] grey: a view of a gray8 payload, a new array for a JPEG (about 35 us at 128 x 128).

    Raises WireError (jpeg, size) for a body that does not keep what its header says.
    """
    if frame.encoding is Encoding.GRAY8:
        return np.frombuffer(frame.payload, np.uint8).reshape(frame.height, frame.width)
    try:
        pixels_HW = decode_jpeg(frame.payload)
    except PictureError as error:
        raise WireError(
            ErrorCode.JPEG,
            f"The JPEG of {frame.camera.label} should {error.expected}.",
            error.found,
            "Send a whole baseline or progressive JPEG of 8 bits, as cv2.imencode writes it.",
        ) from None
    if pixels_HW.shape != (frame.height, frame.width):
        found = " x ".join(map(str, pixels_HW.shape[1::-1]))
        raise WireError(
            ErrorCode.SIZE,
            f"The JPEG of {frame.camera.label} should be {frame.width} x {frame.height} px, as its header says.",
            f"{found} when decoded",
            "Send one image in each JPEG.",
        )
    return pixels_HW
