"""A head that says how far the face has slipped, or a face seen to move elsewhere: the engine cuts its crops where it is.

And compares them with the face at rest that the head knows, or with the mean of what was seen of a face that nobody calibrated.
"""

import queue
import time
from collections.abc import Mapping
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


def expected_values(
    bundle: Bundle, crops_CHW: NDArray[np.uint8], neutral: Mapping[Camera, NDArray[np.float32]] | None = None
) -> NDArray[np.float32]:
    """What the universal head says of these upright crops, compared with these maps."""
    values = []
    for camera in Camera:
        crop_HW = crops_CHW[camera][:, ::-1] if camera is Camera.RIGHT_EYE else crops_CHW[camera]
        model = bundle.mouth_onnx if camera is Camera.MOUTH else bundle.eye_onnx
        compared_M = (neutral or {}).get(camera)
        features_BF = onnx_features(model, np.ascontiguousarray(crop_HW)[None], 1, compared_M)
        out_O = bundle.head[camera].apply(features_BF)[0]
        values.append(out_O[: 32 if camera is Camera.MOUTH else 12].clip(0, 1))
    return np.concatenate(values)


def own_maps(bundle: Bundle, crops_CHW: NDArray[np.uint8]) -> dict[Camera, NDArray[np.float32]]:
    """The maps of these crops, the right eye mirrored."""
    return {
        camera: onnx_features(
            bundle.mouth_onnx if camera is Camera.MOUTH else bundle.eye_onnx,
            np.ascontiguousarray(crops_CHW[camera][:, :: -1 if camera is Camera.RIGHT_EYE else 1])[None],
            1,
        )[0, LAST_COUNT:]
        for camera in Camera
    }


def test_the_engine_compares_the_frames_of_that_wearer_with_what_its_head_holds(bundle: Bundle) -> None:
    neutral = own_maps(bundle, make_crops(3, 9))
    del neutral[Camera.LEFT_EYE]
    heads, crops_CHW = Heads(bundle.head), make_crops(3, 4)
    heads.swap("ada", replace(bundle.head, head_version=1, neutral=neutral))
    engine = Engine(Runtime(bundle, "cpu", 1), heads)
    engine.start()
    try:
        for _ in range(2):  # what one wearer's frames were compared with is not left for the other's
            adas, others = (answer(engine, wearer, message(crops_CHW)).values.values_E for wearer in ("ada", "bo"))
            np.testing.assert_allclose(adas, expected_values(bundle, crops_CHW, neutral), atol=1e-3)
            np.testing.assert_allclose(others, expected_values(bundle, crops_CHW), atol=1e-3)
            assert np.abs(adas - others)[12:].max() > 0.01
    finally:
        engine.stop()


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
def test_the_crops_of_a_face_that_nobody_calibrated_follow_it_and_are_compared_with_its_mean(
    bundle: Bundle, placed: bool
) -> None:
    crops_CHW = make_crops(3, 4)
    ten_px_M4 = np.zeros((MAP_COUNT, 4), np.float32)
    ten_px_M4[:, 0] = 10 / MAP_COUNT
    now_M = onnx_features(bundle.mouth_onnx, crops_CHW[Camera.MOUTH][None], 1)[0, LAST_COUNT:]
    resting = make_resting(mouth_slip_M4=ten_px_M4, mouth_moving_M=now_M - 1, eye_share_2=np.array([1, 0], np.float32))
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
    neutral: dict[Camera, NDArray[np.float32]] = {}
    if placed:
        neutral = own_maps(bundle, crops_CHW)
        del neutral[Camera.MOUTH]  # its crops were moved: what was seen before is of others
        crops_CHW[Camera.MOUTH] = seen_through(Slip(8.0, 0.0, 0.0), crops_CHW[Camera.MOUTH])
        assert np.abs(found[-1] - found[0]).max() > 0.05
    np.testing.assert_allclose(found[-1], expected_values(bundle, crops_CHW, neutral), atol=0.03)
