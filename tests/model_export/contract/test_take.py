from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.contract import Camera, Take, TakeError, read_take, write_take
from model_export.contract.take import Encoding


def take(**changes: Any) -> Take:
    fields: dict[str, Any] = {
        "cue": "raise your brows",
        "encoding": Encoding.GRAY8,
        "t_ns": np.array([0, 11, 22], np.int64),
        "images": {Camera.MOUTH: (b"abcdef", b"", b"ghijkl"), Camera.LEFT_EYE: (b"", b"uvwxyz", b"")},
        "size_px": (2, 3),
        "values_TE": np.linspace(0, 1, 3 * 56, dtype=np.float32).reshape(3, 56),
        "gaze_T4": np.zeros((3, 4), np.float32),
    }
    return Take(**(fields | changes))


def test_a_take_survives_its_file_with_gaps_where_a_camera_had_no_frame() -> None:
    before = take()
    after = read_take(write_take(before))
    assert (after.cue, after.encoding, after.size_px) == (before.cue, before.encoding, before.size_px)
    assert dict(after.images) == dict(before.images)
    assert len(after) == 3
    assert before.values_TE is not None
    assert after.values_TE is not None
    np.testing.assert_array_equal(after.t_ns, before.t_ns)
    np.testing.assert_array_equal(after.values_TE, before.values_TE)


def test_a_take_without_truth_has_none() -> None:
    after = read_take(write_take(take(values_TE=None, gaze_T4=None)))
    assert after.values_TE is None
    assert after.gaze_T4 is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t_ns": np.array([0, 11, 11], np.int64)}, "rising"),
        ({"t_ns": np.array([0, 11], np.int64)}, "2 images"),
        ({"images": {}}, "one to three cameras"),
        ({"size_px": (3, 3)}, "3 x 3 bytes"),
        ({"values_TE": np.zeros((3, 55), np.float32)}, "values_TE"),
        ({"gaze_T4": np.zeros((3, 4))}, "gaze_T4"),
    ],
)
def test_a_take_that_does_not_fit_together_cannot_exist(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(TakeError, match=reason):
        take(**changes)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(TakeError):
        read_take(data)


@given(st.integers(0, 600), st.integers(1, 255))
def test_a_changed_byte_is_read_or_refused_never_a_crash(at: int, change: int) -> None:
    data = bytearray(write_take(take()))
    data[at] ^= change
    try:
        read_take(bytes(data))
    except TakeError as error:
        assert str(error)
