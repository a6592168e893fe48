"""Slip in use: told of faces that seem to rest long enough, forgotten with another head."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract import FEATURE_COUNT, LAST_COUNT, MAP_COUNT, Camera, Head
from service.signals import REGION_SIGNALS, SIGNAL_COUNT, SIGNALS
from service.slip_watch import EVERY_NS, LEAST_LOOKS, LOOKS, SlipWatch
from tests.bundles import make_head, make_resting

STILL_S = np.zeros(SIGNAL_COUNT, np.float32)
READ = np.zeros((MAP_COUNT, 4), np.float32)
READ[:, 0] = 1 / MAP_COUNT  # one px to the right for a map that is 1 higher everywhere
RESTING = make_resting(eye_slip_M4=READ, mouth_slip_M4=READ)


@pytest.fixture
def head() -> Head:
    reference = {camera: np.ones(MAP_COUNT, np.float32) for camera in Camera}
    return replace(make_head(), head_version=1, reference=reference)


def features(map_level: float) -> NDArray[np.float32]:
    features_F = np.full(FEATURE_COUNT, 9.0, np.float32)
    features_F[LAST_COUNT:] = map_level
    return features_F


def look(
    watch: SlipWatch,
    head: Head,
    level: float,
    count: int = LEAST_LOOKS,
    *,
    raw_S: NDArray[np.float32] = STILL_S,
    camera: Camera = Camera.MOUTH,
    begin_ns: int = 0,
) -> None:
    for number in range(count):
        watch.look(camera, begin_ns + number * (EVERY_NS + 1), head, features(level), raw_S)


def test_a_face_that_rests_where_it_was_is_not_slipped(head: Head) -> None:
    watch = SlipWatch(RESTING)
    look(watch, head, 1.0)
    assert watch.slips[Camera.MOUTH].length_px == pytest.approx(0, abs=1e-5)


def test_a_slip_is_told_after_enough_looks_of_each_camera_alone(head: Head) -> None:
    watch = SlipWatch(RESTING)
    look(watch, head, 5.0, LEAST_LOOKS - 1)
    assert not watch.slips
    look(watch, head, 5.0, 1, begin_ns=10**12)
    assert watch.slips[Camera.MOUTH].right_px == pytest.approx(4.0)
    assert watch.slips.keys() == {Camera.MOUTH}
    look(watch, head, 3.0, camera=Camera.RIGHT_EYE)
    assert watch.slips[Camera.RIGHT_EYE].right_px == pytest.approx(-2.0), "a right eye's picture is mirrored"


def test_frames_in_which_the_face_moves_or_looks_aside_do_not_count(head: Head) -> None:
    watch = SlipWatch(RESTING)
    for name, value in (("jawOpen", 0.5), ("gazeYawLeft", -20.0), ("eyeBlinkLeft", 0.9)):
        moving_S = STILL_S.copy()
        moving_S[SIGNALS.index(name)] = value
        camera = Camera.MOUTH if name == "jawOpen" else Camera.LEFT_EYE
        look(watch, head, 5.0, 2 * LEAST_LOOKS, raw_S=moving_S, camera=camera)
    assert not watch.slips
    wide_S = STILL_S.copy()
    wide_S[SIGNALS.index("pupilDilateLeft")] = 1.0  # pupils have no rest
    look(watch, head, 5.0, raw_S=wide_S, camera=Camera.LEFT_EYE, begin_ns=10**12)
    assert watch.slips.keys() == {Camera.LEFT_EYE}
    assert REGION_SIGNALS[Camera.LEFT_EYE].start == 0


def test_frames_between_two_looks_are_passed_over(head: Head) -> None:
    watch = SlipWatch(RESTING)
    for number in range(5 * LEAST_LOOKS):
        watch.look(Camera.MOUTH, number * EVERY_NS // 10, head, features(5.0), STILL_S)
    assert not watch.slips


def test_a_clock_that_began_again_is_looked_at(head: Head) -> None:
    watch = SlipWatch(RESTING)
    look(watch, head, 5.0, LEAST_LOOKS - 1, begin_ns=10**15)
    look(watch, head, 5.0, 1)
    assert watch.slips


def test_what_is_told_follows_in_ten_seconds_of_rest(head: Head) -> None:
    watch = SlipWatch(RESTING)
    look(watch, head, 1.0, 3 * LOOKS)
    look(watch, head, 7.0, 3 * LOOKS, begin_ns=10**12)
    assert watch.slips[Camera.MOUTH].right_px == pytest.approx(6.0, abs=0.5)


def test_another_head_begins_anew(head: Head) -> None:
    watch = SlipWatch(RESTING)
    look(watch, head, 5.0)
    look(watch, replace(head, head_version=2), 5.0, 1, begin_ns=10**12)
    assert not watch.slips


def test_heads_and_bundles_that_know_nothing_of_it_tell_nothing(head: Head) -> None:
    for watch, one in ((SlipWatch(None), head), (SlipWatch(RESTING), make_head())):
        look(watch, one, 5.0, 2 * LEAST_LOOKS)
        assert not watch.slips
