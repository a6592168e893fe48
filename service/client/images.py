"""Frame sets of arrays into frame messages: raw without a copy, or JPEG.

Axes: H height, W width.
"""

import numpy as np
from numpy.typing import NDArray

from model_export.contract.frames import Camera, Frame, FrameSet
from model_export.contract.take import Encoding
from service.wire_messages import EncodedFrame, FrameMessage


def encode_frame_set(frame_set: FrameSet, jpeg_quality: int | None = None) -> FrameMessage:
    """The frame set as it travels: gray8 views of the pixels, or JPEG of a quality of 1 to 100.

    Only JPEG needs OpenCV, which is imported at the first one. Costs 3 us raw, about 200 us as JPEG for three 128 px images.
    """
    if jpeg_quality is None:
        return FrameMessage(frame_set.sequence, tuple(_raw(frame) for frame in frame_set))
    return FrameMessage(
        frame_set.sequence,
        tuple(encode_jpeg(frame.camera, frame.t_ns, frame.pixels_HW, jpeg_quality) for frame in frame_set),
    )


def encode_jpeg(camera: Camera, t_ns: int, pixels_HW: NDArray[np.uint8], quality: int) -> EncodedFrame:
    """One grey image as JPEG of a quality of 1 to 100."""
    import cv2  # raw frames must not pay 40 MB and 100 ms for it

    done, data = cv2.imencode(".jpg", pixels_HW, (cv2.IMWRITE_JPEG_QUALITY, quality))
    assert done, "cv2 encodes every uint8 image of these sizes"
    height, width = pixels_HW.shape
    return EncodedFrame(camera, Encoding.JPEG, width, height, t_ns, data.tobytes())


def _raw(frame: Frame) -> EncodedFrame:
    height, width = frame.pixels_HW.shape
    pixels = np.ascontiguousarray(frame.pixels_HW).reshape(-1).data
    return EncodedFrame(frame.camera, Encoding.GRAY8, width, height, frame.t_ns, pixels)
