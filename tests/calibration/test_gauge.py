"""The live gauge: silent while rest is learned, low at rest, high in the movement."""

import numpy as np
import pytest

from calibration.gauge import REST_FRAMES, Gauge
from calibration.movement import MovementMeter
from model_export.contract.frames import Camera
from tests.calibration.moving_pictures import bump, moved, speckles

PICTURE = speckles(3)


def test_the_gauge_rises_with_the_movement_and_is_silent_where_nothing_is_known() -> None:
    rng = np.random.default_rng(0)
    meter, gauge = MovementMeter(Camera.MOUTH, PICTURE), Gauge("jaw_open", Camera.MOUTH)
    chin = bump(64, 100, 16)

    def shown(opening: float) -> float | None:
        frame = moved(PICTURE, 0.0, opening * chin) + rng.normal(0, 1.5, PICTURE.shape)
        return gauge.update(meter.measure(np.clip(frame, 0, 255).astype(np.uint8)))

    assert [shown(0.0) for _ in range(REST_FRAMES)] == [None] * REST_FRAMES
    rest, half, full = shown(0.0), shown(3.0), shown(6.0)
    assert rest is not None
    assert half is not None
    assert full is not None
    assert rest < 0.15 < half < full <= 1.0
    assert gauge.reach > 0.0
    assert gauge.update(meter.measure(PICTURE // 60)) is None


def test_the_reach_of_an_earlier_take_is_the_scale() -> None:
    meter = MovementMeter(Camera.MOUTH, PICTURE)
    small, great = Gauge("smile", Camera.MOUTH, reach=20.0), Gauge("smile", Camera.MOUTH, reach=200.0)
    rest, there = meter.measure(PICTURE), meter.measure(moved(PICTURE, 0.0, 4.0 * bump(64, 80, 16)))
    for gauge in (small, great):
        for _ in range(REST_FRAMES):
            gauge.update(rest)
    values = [gauge.update(there) for gauge in (small, great)]
    assert values[0] is not None
    assert values[1] is not None
    assert values[0] == 1.0
    assert values[1] == pytest.approx(great.reach / 200.0)
