"""Slip: where a point goes, slips after slips, and there and back."""

from math import cos, radians, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.contract import NO_SLIP, Slip, followed

SLIPS = st.builds(
    Slip, st.floats(-20, 20), st.floats(-20, 20), st.floats(-90, 90), st.floats(0.8, 1.25, allow_subnormal=False)
)


def place(slip: Slip, right: float, down: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    matrix_23 = slip.matrix_23()
    return np.asarray(matrix_23[:, :2] @ (right, down) + matrix_23[:, 2])


def test_a_point_turns_clockwise_about_the_middle_and_moves() -> None:
    found_2 = place(Slip(3.0, -2.0, 30.0, 2.0), 10.0, 0.0)
    assert found_2 == pytest.approx(
        [20 * cos(radians(30)) + 3, 20 * sin(radians(30)) - 2]
    )  # down is clockwise of right
    assert Slip(3.0, -4.0, 0.0).length_px == 5


@given(SLIPS, SLIPS)
def test_then_is_one_place_of_the_others(one: Slip, other: Slip) -> None:
    both = one.then(other)
    inner = place(other, 7.0, -11.0)
    np.testing.assert_allclose(place(both, 7.0, -11.0), place(one, *inner), atol=1e-9)
    assert -180 <= both.turn_deg <= 180


@given(SLIPS)
def test_there_and_back_is_nothing(slip: Slip) -> None:
    for nothing in (slip.then(slip.inverse()), slip.inverse().then(slip)):
        np.testing.assert_allclose(nothing.matrix_23(), NO_SLIP.matrix_23(), atol=1e-9)


@given(SLIPS)
def test_a_mirror_turns_the_other_way(slip: Slip) -> None:
    right, down = place(slip, 5.0, 3.0)
    np.testing.assert_allclose(place(slip.mirrored(), -5.0, 3.0), (-right, down), atol=1e-9)


def test_a_moving_face_is_followed_four_fifths_of_the_way_once_it_is_worth_a_step() -> None:
    there = followed(NO_SLIP, Slip(10.0, -5.0, 0.0))
    assert (there.right_px, there.down_px) == pytest.approx((8.0, -4.0))
    assert followed(there, Slip(10.5, -5.5, 0.5)) is there  # less than a reading is off by
    assert followed(there, Slip(12.0, -5.0, 0.0)).right_px == pytest.approx(9.6)
    assert followed(there, Slip(0.2, 0.1, 0.0)) == NO_SLIP  # back where most are


@pytest.mark.parametrize("lost", [Slip(31.0, 0.0, 0.0), Slip(0.0, 0.0, 19.0), Slip(0.0, 0.0, 0.0, 1.7)])
def test_a_face_that_leaves_the_crop_is_not_followed(lost: Slip) -> None:
    before = Slip(8.0, -4.0, 0.0)
    assert followed(before, lost) is before
