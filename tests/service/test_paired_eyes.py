"""Eyes that read each other on the live path: as the contract says, when both came together, and only then."""

import queue
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract import Bundle, Camera, write_bundle
from model_export.contract.take import Encoding
from model_export.estimates import Estimates, estimate
from model_export.runtime import Runtime
from service.engine import Engine
from service.errors import WireError
from service.heads import Heads
from service.paired_eyes import PairedEyes
from service.signals import HIGHEST_S, LOWEST_S, SIGNAL_COUNT
from service.wire import encode_frames_json
from service.wire_messages import EncodedFrame, FrameMessage, Reply
from tests.bundles import make_bundle, make_crops, make_eye_pair
from tests.service.conftest import StartService


@pytest.mark.parametrize("seed", range(4))
def test_the_folded_pair_gives_what_the_contract_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    pair, paired = make_eye_pair(seed, hidden=seed), PairedEyes(make_eye_pair(seed, hidden=seed))
    for _ in range(3):  # what one frame set left in its memory changes no other
        signals_S = random.uniform(LOWEST_S / 3, HIGHEST_S / 1.5).astype(np.float32)
        before_S, (left, right) = signals_S.copy(), random.uniform(0, 1, 2).tolist()
        paired.apply(signals_S, left, right)
        turned_S = before_S[14:28].copy()
        turned_S[12] *= -1  # towards the temple
        expected = pair.both(before_S[None, :14], turned_S[None], np.array([[left, right]], np.float32))
        expected[1][0, 12] *= -1
        np.testing.assert_allclose(signals_S[:14], expected[0][0], atol=1e-4)
        np.testing.assert_allclose(signals_S[14:28], expected[1][0], atol=1e-4)
        np.testing.assert_array_equal(signals_S[28:], before_S[28:])
        assert signals_S.shape == (SIGNAL_COUNT,)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small")


def answered(bundle: Bundle, crops_CHW: NDArray[np.uint8], cameras: tuple[Camera, ...]) -> Reply:
    """The first answer of a connection, unfiltered, to one frame set of these cameras."""
    answers: queue.SimpleQueue[Reply | WireError] = queue.SimpleQueue()
    frames = (EncodedFrame(camera, Encoding.GRAY8, 128, 128, 5, crops_CHW[camera].tobytes()) for camera in cameras)
    engine = Engine(Runtime(bundle, "cpu", 1), Heads(bundle.head), eye_pair=bundle.eye_pair)
    engine.start()
    try:
        engine.connect("ada", None, answers.put).offer(FrameMessage(0, tuple(frames)), time.perf_counter_ns())
        reply = answers.get(timeout=10)
    finally:
        engine.stop()
    assert isinstance(reply, Reply)
    return reply


def of_region(estimates: Estimates, camera: Camera) -> NDArray[np.float32]:
    return estimates.values_TE[0, 12 * camera : 12 * camera + 12 if camera is not Camera.MOUTH else None]


@pytest.mark.parametrize("cameras", [tuple(Camera), (Camera.LEFT_EYE, Camera.RIGHT_EYE)])
def test_eyes_of_one_frame_set_read_each_other(bundle: Bundle, cameras: tuple[Camera, ...]) -> None:
    crops_CHW, paired = make_crops(3, 4), replace(bundle, eye_pair=make_eye_pair(1))
    reply = answered(paired, crops_CHW, cameras)
    expected = estimate(paired, *(crop_HW[None] for crop_HW in crops_CHW))
    for camera in cameras:
        found_E = reply.values.values_E[12 * camera : 12 * camera + 12 if camera is not Camera.MOUTH else None]
        np.testing.assert_allclose(found_E, of_region(expected, camera), atol=1e-3)
    np.testing.assert_allclose(reply.values.gaze_deg, expected.gaze_T4[0], atol=1e-2)
    alone = estimate(bundle, *(crop_HW[None] for crop_HW in crops_CHW))
    assert np.abs(of_region(expected, Camera.RIGHT_EYE) - of_region(alone, Camera.RIGHT_EYE)).max() > 0.05


@pytest.mark.parametrize("cameras", [(Camera.RIGHT_EYE,), (Camera.RIGHT_EYE, Camera.MOUTH)])
def test_an_eye_that_came_alone_answers_for_itself(bundle: Bundle, cameras: tuple[Camera, ...]) -> None:
    crops_CHW, paired = make_crops(3, 4), replace(bundle, eye_pair=make_eye_pair(1))
    reply = answered(paired, crops_CHW, cameras)
    alone = estimate(bundle, *(crop_HW[None] for crop_HW in crops_CHW))
    np.testing.assert_allclose(reply.values.values_E[12:24], of_region(alone, Camera.RIGHT_EYE), atol=1e-3)


def test_a_running_service_reads_both_eyes(start_service: StartService, bundle: Bundle, tmp_path: Path) -> None:
    paired = write_bundle(tmp_path / "paired", replace(bundle, eye_pair=make_eye_pair(1)))
    crops_CHW = make_crops(3, 4)
    frames = (EncodedFrame(camera, Encoding.GRAY8, 128, 128, 5, crops_CHW[camera].tobytes()) for camera in Camera)
    response = httpx.post(
        start_service(bundle=tmp_path / "paired").http_url + "/v1/expressions",
        content=encode_frames_json(FrameMessage(1, tuple(frames))),
        headers={"content-type": "application/json"},
        trust_env=False,
    )
    found_E = list(response.json()["values"].values())
    expected = estimate(paired, *(crop_HW[None] for crop_HW in crops_CHW))
    np.testing.assert_allclose(found_E, expected.values_TE[0], atol=1e-3)
