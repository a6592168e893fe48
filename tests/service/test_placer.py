"""Faces that nobody calibrated are placed by how they move: when, how far, and whose crops are left alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract import FEATURE_COUNT, LAST_COUNT, MAP_COUNT, Camera, Head, Slip
from service.placer import COMPARED_EVERY, EVERY_NS, FIRST_LOOKS, LEAST_CONFIDENCE, MOST_LOOKS, Placer
from service.rig import Rig
from service.wire_messages import CameraPlacement
from tests.bundles import make_head, make_resting

READ = np.zeros((MAP_COUNT, 4), np.float32)
READ[:, 0] = 1 / MAP_COUNT  # one px to the right for a map that is 1 higher everywhere
MEAN = np.full(MAP_COUNT, 2.0, np.float32)
RESTING = make_resting(
    eye_slip_M4=READ,
    mouth_slip_M4=READ,
    eye_moving_M=MEAN,
    mouth_moving_M=MEAN,
    mouth_place_M=MEAN + 3,
    mouth_share_2=np.array([0.75, 2.5], np.float32),  # of a mean over five seconds a half, over ten .6
)
HEAD = make_head()
RIG: Rig = {}


def features(map_level: float) -> NDArray[np.float32]:
    features_F = np.full(FEATURE_COUNT, 9.0, np.float32)
    features_F[LAST_COUNT:] = map_level
    return features_F


class Wearing:
    """A headset whose face is so many px to the right of where most are: what is left of it in the crops is read."""

    def __init__(self, placer: Placer, right_px: float, camera: Camera = Camera.MOUTH) -> None:
        self.placer = placer
        self.right_px = right_px
        self.camera = camera
        self.t_ns = 0

    def look(self, count: int, head: Head = HEAD, rig: Rig = RIG, confidence: float = 1.0) -> None:
        for number in range(count):
            seen = self.placer.slips(head, rig).get(self.camera, Slip(0.0, 0.0, 0.0))
            away = (-1.0 if self.camera is Camera.RIGHT_EYE else 1.0) * (self.right_px - seen.right_px)
            tremor = (-1) ** number  # a face that moves, and a window is an even number of looks
            self.t_ns += EVERY_NS + 1
            self.placer.look(self.camera, self.t_ns, head, features(2.0 + away + tremor), confidence)


@pytest.mark.parametrize("camera", list(Camera))
def test_a_face_is_placed_after_five_seconds_most_of_the_way(camera: Camera) -> None:
    placer = Placer(RESTING)
    wearing = Wearing(placer, 10.0, camera)
    wearing.look(FIRST_LOOKS - 1)
    assert not placer.places
    wearing.look(1)
    assert placer.places.keys() == {camera}
    assert placer.places[camera].right_px == pytest.approx(8.0, abs=0.1)
    wearing.look(20 * FIRST_LOOKS)
    assert placer.places[camera].right_px == pytest.approx(8.0, abs=0.1), "read again in its new crops, it stays"


def test_windows_become_longer_up_to_forty_seconds_and_follow_what_slips() -> None:
    placer = Placer(RESTING)
    wearing = Wearing(placer, 10.0)
    wearing.look(FIRST_LOOKS)
    found = []
    for looks in (2 * FIRST_LOOKS, 4 * FIRST_LOOKS, MOST_LOOKS, MOST_LOOKS):
        wearing.right_px -= 5.0
        before = placer.places[Camera.MOUTH]
        wearing.look(looks - 1)
        assert placer.places[Camera.MOUTH] is before
        wearing.look(1)
        found.append(placer.places[Camera.MOUTH].right_px)
    np.testing.assert_allclose(found, [4.0, 0.0, -4.0, -8.0], atol=0.1)


def test_frames_are_compared_with_what_the_mean_of_what_was_seen_in_their_place_tells() -> None:
    placer = Placer(RESTING)
    wearing = Wearing(placer, 10.0)
    wearing.look(FIRST_LOOKS)
    assert not placer.neutral(HEAD), "what was seen before the crops moved is of other crops"
    wearing.look(COMPARED_EVERY - 1)
    assert not placer.neutral(HEAD)
    wearing.look(1)
    assert placer.neutral(HEAD).keys() == {Camera.MOUTH}
    away = 10.0 - placer.places[Camera.MOUTH].right_px
    np.testing.assert_allclose(placer.neutral(HEAD)[Camera.MOUTH], 5.0 + 0.5 * away, atol=0.05)


def test_a_mean_gives_way_to_one_of_as_much_and_to_another_place() -> None:
    placer = Placer(RESTING)
    wearing = Wearing(placer, 1.0)
    wearing.look(3 * FIRST_LOOKS)
    before = placer.neutral(HEAD)[Camera.MOUTH]
    wearing.right_px = 1.4
    wearing.look(2 * FIRST_LOOKS - 1)
    assert placer.neutral(HEAD)[Camera.MOUTH] is before, "twice as much had been seen"
    wearing.look(1)
    np.testing.assert_allclose(placer.neutral(HEAD)[Camera.MOUTH], 5.0 + 0.6 * 1.4, atol=0.05)
    wearing.right_px = 20.0
    wearing.look(2 * FIRST_LOOKS)
    assert placer.places
    assert not placer.neutral(HEAD)


def test_a_face_that_is_where_most_are_is_not_moved() -> None:
    placer = Placer(RESTING)
    Wearing(placer, 1.0).look(3 * FIRST_LOOKS)
    assert not placer.places


def test_what_would_leave_the_crop_is_not_followed_and_nothing_before_it_lost() -> None:
    placer = Placer(RESTING)
    wearing = Wearing(placer, 10.0)
    wearing.look(FIRST_LOOKS)
    wearing.right_px = 200.0
    wearing.look(2 * FIRST_LOOKS)
    assert placer.places[Camera.MOUTH].right_px == pytest.approx(8.0, abs=0.1)


def _unreadable(wearing: Wearing) -> None:
    wearing.look(4 * FIRST_LOOKS, confidence=LEAST_CONFIDENCE - 0.01)


def _own_head(wearing: Wearing) -> None:
    wearing.look(4 * FIRST_LOOKS, head=replace(HEAD, head_version=1))


def _often(wearing: Wearing) -> None:
    for number in range(FIRST_LOOKS):
        wearing.placer.look(wearing.camera, 10**12 + number * EVERY_NS // 10, HEAD, features(12.0), 1.0)


@pytest.mark.parametrize("wear", [_unreadable, _own_head, _often])
def test_frames_that_do_not_count(wear: Callable[[Wearing], None]) -> None:
    placer = Placer(RESTING)
    wear(Wearing(placer, 10.0))
    assert not placer.places


def test_a_wearers_own_head_says_itself_where_the_face_is() -> None:
    placer = Placer(RESTING)
    Wearing(placer, 10.0).look(FIRST_LOOKS)
    own = replace(HEAD, head_version=1, slip={Camera.LEFT_EYE: Slip(1.0, 2.0, 3.0)})
    assert placer.slips(own, RIG) == own.slip
    assert placer.neutral(own) is own.neutral
    assert placer.slips(HEAD, RIG) == placer.places


def test_another_rig_begins_anew() -> None:
    placer = Placer(RESTING)
    wearing = Wearing(placer, 10.0)
    wearing.look(FIRST_LOOKS + COMPARED_EVERY)
    assert placer.neutral(HEAD)
    assert placer.slips(HEAD, dict(RIG)), "the same placements, told again"
    other = {Camera.MOUTH: CameraPlacement(side_px=100.0)}
    assert not placer.slips(HEAD, other)
    assert not placer.neutral(HEAD)
    wearing.look(FIRST_LOOKS - 1, rig=other)
    assert not placer.places
    wearing.look(1, rig=other)
    assert placer.places


def test_a_bundle_that_knows_no_places_moves_nothing() -> None:
    placer = Placer(None)
    Wearing(placer, 10.0).look(3 * FIRST_LOOKS)
    assert not placer.places
