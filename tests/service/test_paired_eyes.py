"""Eyes that read each other on the live path: as the contract says, when both were seen at about the same time, and only then."""

import queue
import time
from collections.abc import Mapping, Sequence
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
from service.face import Face
from service.filters import FilterConfig
from service.heads import FoldedHead, Heads
from service.paired_eyes import PairedEyes
from service.signals import HIGHEST_S, LOWEST_S
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
        left, right = random.uniform(0, 1, 2).tolist()
        found_P = paired.read(signals_S[:28], left, right)
        turned_S = signals_S[14:28].copy()
        turned_S[12] *= -1  # towards the temple
        expected = pair.both(signals_S[None, :14], turned_S[None], np.array([[left, right]], np.float32))
        expected[1][0, 12] *= -1
        np.testing.assert_allclose(found_P[:14], expected[0][0], atol=1e-4)
        np.testing.assert_allclose(found_P[14:], expected[1][0], atol=1e-4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small")


def answered(bundle: Bundle, sets: Sequence[Mapping[Camera, int]], crops_CHW: NDArray[np.uint8]) -> Reply:
    """The last answer of a new connection to frame sets of these cameras, each with its capture time in milliseconds."""
    answers: queue.SimpleQueue[Reply | WireError] = queue.SimpleQueue()
    engine = Engine(Runtime(bundle, "cpu", 1), Heads(bundle.head), eye_pair=bundle.eye_pair)
    engine.start()
    try:
        connection = engine.connect("ada", None, answers.put)
        for sequence, cameras in enumerate(sets):
            frames = (
                EncodedFrame(camera, Encoding.GRAY8, 128, 128, t_ms * 1_000_000, crops_CHW[camera].tobytes())
                for camera, t_ms in cameras.items()
            )
            connection.offer(FrameMessage(sequence, tuple(frames)), time.perf_counter_ns())
            reply = answers.get(timeout=10)
    finally:
        engine.stop()
    assert isinstance(reply, Reply)
    return reply


def of_region(estimates: Estimates, camera: Camera) -> NDArray[np.float32]:
    return estimates.values_TE[0, 12 * camera : 12 * camera + 12 if camera is not Camera.MOUTH else None]


LEFT, RIGHT, MOUTH = Camera


@pytest.mark.parametrize("cameras", [{LEFT: 5, RIGHT: 5, MOUTH: 5}, {RIGHT: 12, LEFT: 5}])
def test_eyes_of_one_frame_set_read_each_other(bundle: Bundle, cameras: dict[Camera, int]) -> None:
    crops_CHW, paired = make_crops(3, 4), replace(bundle, eye_pair=make_eye_pair(1))
    reply = answered(paired, [cameras], crops_CHW)
    expected = estimate(paired, *(crop_HW[None] for crop_HW in crops_CHW))
    for camera in cameras:
        found_E = reply.values.values_E[12 * camera : 12 * camera + 12 if camera is not MOUTH else None]
        np.testing.assert_allclose(found_E, of_region(expected, camera), atol=1e-3)
    np.testing.assert_allclose(reply.values.gaze_deg, expected.gaze_T4[0], atol=1e-2)
    alone = estimate(bundle, *(crop_HW[None] for crop_HW in crops_CHW))
    assert np.abs(of_region(expected, RIGHT) - of_region(alone, RIGHT)).max() > 0.05


def test_an_eye_reads_the_other_that_came_a_moment_before(bundle: Bundle) -> None:
    crops_CHW, paired = make_crops(3, 4), replace(bundle, eye_pair=make_eye_pair(1))
    expected, alone = (estimate(one, *(crop_HW[None] for crop_HW in crops_CHW)) for one in (paired, bundle))
    reply = answered(paired, [{LEFT: 5}, {RIGHT: 25}], crops_CHW)
    np.testing.assert_allclose(reply.values.values_E[12:24], of_region(expected, RIGHT), atol=1e-3)
    np.testing.assert_allclose(reply.values.values_E[:12], of_region(alone, LEFT), atol=1e-3)


@pytest.mark.parametrize(
    "sets", [[{RIGHT: 5}], [{RIGHT: 5, MOUTH: 5}], [{LEFT: 5}, {RIGHT: 60}], [{LEFT: 60}, {RIGHT: 5}]]
)
def test_an_eye_whose_other_is_not_seen_answers_for_itself(bundle: Bundle, sets: list[dict[Camera, int]]) -> None:
    crops_CHW, paired = make_crops(3, 4), replace(bundle, eye_pair=make_eye_pair(1))
    alone = estimate(bundle, *(crop_HW[None] for crop_HW in crops_CHW))
    reply = answered(paired, sets, crops_CHW)
    np.testing.assert_allclose(reply.values.values_E[12:24], of_region(alone, RIGHT), atol=1e-3)


def test_what_is_no_number_is_not_read_by_the_other_eye(bundle: Bundle) -> None:
    runtime, head = Runtime(bundle, "cpu", 1), FoldedHead(bundle.head)
    face = Face(FilterConfig(), "ada", None, PairedEyes(make_eye_pair(1)))
    left, right = (EncodedFrame(camera, Encoding.GRAY8, 1, 1, 5, b"0") for camera in (LEFT, RIGHT))
    runtime.eye_features_BF[:] = 1
    face.apply(head, [left, right], runtime)
    face.smooth([left, right])
    runtime.eye_features_BF[0] = np.nan
    with pytest.raises(WireError, match="finite numbers"):
        face.apply(head, [left], runtime)
    face.apply(head, [right], runtime)


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
