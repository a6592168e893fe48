"""Messages that several tests of the wire need."""

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract import EU_COUNT, Camera, ExpressionValues, RegionState, Validity
from model_export.contract.take import Encoding
from service.wire import EncodedFrame, FrameMessage, Reply, StageTimes


def smooth_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (9, 9), 0), np.uint8)


def jpeg_of(pixels_HW: NDArray[np.uint8], *options: int) -> bytes:
    done, data = cv2.imencode(".jpg", pixels_HW, list(options))
    assert done
    return data.tobytes()


def frame_message(encoding: Encoding, height: int = 12, width: int = 16, sequence: int = 7) -> FrameMessage:
    images = [smooth_image(height, width, camera) for camera in Camera]
    payloads = [image.tobytes() if encoding is Encoding.GRAY8 else jpeg_of(image) for image in images]
    return FrameMessage(
        sequence,
        tuple(
            EncodedFrame(camera, encoding, width, height, 1_000_000 + camera, payload)
            for camera, payload in zip(Camera, payloads, strict=True)
        ),
    )


def a_reply(sequence: int = 7, seed: int = 0) -> Reply:
    rng = np.random.default_rng(seed)
    values = ExpressionValues(
        sequence=sequence,
        t_ns=1_000_002,
        values_E=rng.random(EU_COUNT, dtype=np.float32),
        gaze_deg=rng.normal(0, 10, 4).astype(np.float32),
        regions=(
            RegionState(Validity.LIVE, 0.75),
            RegionState(Validity.HELD, 0.5),
            RegionState(Validity.UNSEEN, 0.0),
        ),
        bundle_digest="0123456789abcdef" * 4,
        head_version=3,
    )
    return Reply(values, 2, (8.5, 4.25, 16.0, 12.0), StageTimes(11, 22, 33, 44, 55, 66, 231))
