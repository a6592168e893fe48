"""The worker's gauge: the wearer's own movement against their rest, thinned, silent where nothing is asked or known."""

import numpy as np
import pytest

from calibration.live_gauge import MovementGauge
from model_export.contract import Camera, Take
from model_export.contract.cues import cue_by_name
from model_export.contract.expression_units import EU_INDEX
from tests.calibration.moving_pictures import Person

PERSON = Person()
REST = PERSON.take("rest")


class Clock:
    """Says how late it is."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def played(gauge: MovementGauge, clock: Clock, take: Take, rest: Take | None = REST) -> list[float | None]:
    """What the gauge shows in each frame set of a take."""
    gauge.begin(take.cue, rest)
    shown = []
    for row in range(len(take)):
        clock.now_ns += 70_000_000
        shown.append(gauge.update({camera: images[row] for camera, images in take.images.items()}))
    return shown


@pytest.mark.parametrize("cue", ["smile", "jaw_open", "brows_up"])
def test_the_gauge_is_high_where_the_movement_is_made(cue: str) -> None:
    clock, take = Clock(), PERSON.take(cue)
    shown = played(MovementGauge(clock), clock, take)
    assert take.values_TE is not None
    course_T = take.values_TE[:, EU_INDEX[cue_by_name(cue).eus[0]]]
    moved = [value for value, course in zip(shown, course_T, strict=True) if value is not None and course == 1]
    still = [value for value, course in zip(shown, course_T, strict=True) if value is not None and course == 0]
    assert min(moved) > 0.4
    assert np.median(still) < 0.2


def test_an_earlier_take_sets_the_scale() -> None:
    clock, take = Clock(), PERSON.take("smile")
    gauge = MovementGauge(clock)
    played(gauge, clock, take)
    assert max(value or 0.0 for value in played(gauge, clock, take)) > 0.9


@pytest.mark.parametrize("cue", ["rest", "look", "free"])
def test_nothing_is_shown_where_no_movement_is_asked(cue: str) -> None:
    clock = Clock()
    assert set(played(MovementGauge(clock), clock, PERSON.take(cue))) == {None}


def test_nothing_is_shown_without_a_rest_or_the_camera() -> None:
    clock, take = Clock(), PERSON.take("smile")
    gauge = MovementGauge(clock)
    assert set(played(gauge, clock, take, rest=None)) == {None}
    eyes = {camera: images for camera, images in take.images.items() if camera is not Camera.MOUTH}
    gauge.begin("smile", REST)
    assert gauge.update({camera: images[0] for camera, images in eyes.items()}) is None


def test_a_fast_camera_is_looked_at_fifteen_times_a_second() -> None:
    clock, take = Clock(), PERSON.take("jaw_open")
    gauge = MovementGauge(clock)
    gauge.begin("jaw_open", REST)
    looked = 0
    for number in range(120):  # one second
        clock.now_ns += round(1e9 / 120)
        looked += gauge.update({Camera.MOUTH: take.images[Camera.MOUTH][number % 4]}) is not None
    assert 5 <= looked <= 15


def test_a_rest_in_the_dark_shows_no_gauge() -> None:
    dark = Person(spoil=lambda _cue, _camera, _frame, picture_HW: picture_HW // 60)
    clock = Clock()
    assert set(played(MovementGauge(clock), clock, PERSON.take("smile"), dark.take("rest"))) == {None}
