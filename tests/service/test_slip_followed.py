"""A head that says how far the face has slipped, or a face seen to move elsewhere: the engine cuts its crops where it is."""

import queue
import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract import LAST_COUNT, MAP_COUNT, Bundle, Camera, Slip
from model_export.contract.take import Encoding
from model_export.onnx_features import onnx_features
from model_export.placing import seen_through
from model_export.runtime import Runtime
from service.calibrating import crops_of
from service.engine import Engine, EngineConfig
from service.errors import WireError
from service.heads import Heads
from service.placer import EVERY_NS, FIRST_LOOKS
from service.wire_messages import EncodedFrame, FrameMessage, Reply
from tests.bundles import make_bundle, make_crops, make_resting

SLIPS = {
    Camera.LEFT_EYE: Slip(5.0, -3.0, 4.0),
    Camera.RIGHT_EYE: Slip(-2.0, 6.0, 0.0),
    Camera.MOUTH: Slip(0.0, 4.0, -3.0),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small")


def message(crops_CHW: NDArray[np.uint8], sequence: int = 0) -> FrameMessage:
    t_ns = 5 + sequence * (EVERY_NS + 1)
    frames = (EncodedFrame(camera, Encoding.GRAY8, 128, 128, t_ns, crops_CHW[camera].tobytes()) for camera in Camera)
    return FrameMessage(sequence, tuple(frames))


def answer(engine: Engine, wearer: str, sent: FrameMessage) -> Reply:
    """The first answer of a connection: nothing is filtered yet."""
    answers: queue.SimpleQueue[Reply | WireError] = queue.SimpleQueue()
    connection = engine.connect(wearer, None, answers.put)
    connection.offer(sent, time.perf_counter_ns())
    found = answers.get(timeout=10)
    connection.close()
    assert isinstance(found, Reply)
    return found


def expected_values(bundle: Bundle, crops_CHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the universal head says of these upright crops."""
    values = []
    for camera in Camera:
        crop_HW = crops_CHW[camera][:, ::-1] if camera is Camera.RIGHT_EYE else crops_CHW[camera]
        model = bundle.mouth_onnx if camera is Camera.MOUTH else bundle.eye_onnx
        out_O = bundle.head[camera].apply(onnx_features(model, np.ascontiguousarray(crop_HW)[None], 1))[0]
        values.append(out_O[: 32 if camera is Camera.MOUTH else 12].clip(0, 1))
    return np.concatenate(values)


def test_the_engine_cuts_the_crops_of_that_wearer_where_the_face_is_now(bundle: Bundle) -> None:
    heads = Heads(bundle.head)
    heads.swap("ada", replace(bundle.head, head_version=1, slip=SLIPS))
    crops_CHW = make_crops(3, 4)
    moved_CHW = np.stack([seen_through(SLIPS[camera], crops_CHW[camera]) for camera in Camera])
    engine = Engine(Runtime(bundle, "cpu", 1), heads)
    engine.start()
    try:
        others, adas = (answer(engine, wearer, message(crops_CHW)) for wearer in ("bo", "ada"))
        np.testing.assert_allclose(others.values.values_E, expected_values(bundle, crops_CHW), atol=1e-3)
        # cv2 rounds the two ways to the same matrix to 1/32 px: single pixels at edges may differ
        np.testing.assert_allclose(adas.values.values_E, expected_values(bundle, moved_CHW), atol=0.05)
        assert np.abs(adas.values.values_E - others.values.values_E).max() > 0.2
        heads.swap("ada", replace(bundle.head, head_version=2))  # going back one head
        back = answer(engine, "ada", message(crops_CHW))
        np.testing.assert_array_equal(back.values.values_E, others.values.values_E)
    finally:
        engine.stop()


def test_a_calibration_records_the_crops_of_the_rig() -> None:
    """Where the face is in them is found anew, from all of its takes alike."""
    crops_CHW = make_crops(3, 4)
    found = crops_of((message(crops_CHW), {}))
    assert found is not None
    for camera in Camera:
        np.testing.assert_array_equal(found.crops[camera], crops_CHW[camera])


@pytest.mark.parametrize("placed", [True, False])
def test_the_crops_of_a_face_that_nobody_calibrated_follow_it(bundle: Bundle, placed: bool) -> None:
    crops_CHW = make_crops(3, 4)
    ten_px_M4 = np.zeros((MAP_COUNT, 4), np.float32)
    ten_px_M4[:, 0] = 10 / MAP_COUNT
    now_M = onnx_features(bundle.mouth_onnx, crops_CHW[Camera.MOUTH][None], 1)[0, LAST_COUNT:]
    resting = make_resting(mouth_slip_M4=ten_px_M4, mouth_moving_M=now_M - 1)
    engine = Engine(Runtime(bundle, "cpu", 1), Heads(bundle.head), EngineConfig(place_faces=placed), resting)
    answers: queue.SimpleQueue[Reply | WireError] = queue.SimpleQueue()
    engine.start()
    try:
        connection = engine.connect("default", None, answers.put)
        found = []
        for sequence in range(FIRST_LOOKS + 40):
            connection.offer(message(crops_CHW, sequence), time.perf_counter_ns())
            reply = answers.get(timeout=10)
            assert isinstance(reply, Reply)
            found.append(reply.values.values_E)
        assert connection.places == ({Camera.MOUTH: Slip(8.0, 0.0, 0.0)} if placed else {})
    finally:
        engine.stop()
    np.testing.assert_allclose(found[FIRST_LOOKS - 1], expected_values(bundle, crops_CHW), atol=1e-3)
    if placed:
        crops_CHW[Camera.MOUTH] = seen_through(Slip(8.0, 0.0, 0.0), crops_CHW[Camera.MOUTH])
        assert np.abs(found[-1] - found[0]).max() > 0.05
    np.testing.assert_allclose(found[-1], expected_values(bundle, crops_CHW), atol=0.03)
