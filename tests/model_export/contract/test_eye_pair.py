"""The eye pair: its arithmetic by hand, the same for either eye, what a covered eye says, and its file in a bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.contract import (
    EYE_MOVEMENTS,
    EYE_SIGNALS,
    BundleError,
    ContractError,
    EyePair,
    read_bundle,
    write_bundle,
)
from model_export.contract.eye_pair import PAIR_INPUTS, read_eye_pair, write_eye_pair
from tests.bundles import make_bundle, make_eye_pair

BLINK, YAW = EYE_MOVEMENTS.index("eyeBlink"), len(EYE_MOVEMENTS)
SURE = np.ones((1, 2), np.float32)


def nothing() -> EyePair:
    """A pair that leaves the signals of sure eyes as they are, to be changed."""
    return EyePair(
        np.eye(PAIR_INPUTS, EYE_SIGNALS, dtype=np.float32),
        np.zeros((PAIR_INPUTS, 1), np.float32),
        np.zeros(1, np.float32),
        np.zeros((1, EYE_SIGNALS), np.float32),
        np.zeros(EYE_SIGNALS, np.float32),
        frame_sets=1,
    )


def signals(**values: float) -> NDArray[np.float32]:
    row_S = np.zeros((1, EYE_SIGNALS), np.float32)
    for name, value in values.items():
        row_S[0, {"blink": BLINK, "yaw": YAW}[name]] = value
    return row_S


def some(count: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    eus, gaze = random.uniform(0, 1, (count, YAW)), random.uniform(-20, 20, (count, 2))
    return np.concatenate([eus, gaze], axis=1).astype(np.float32)


def test_a_direct_weight_takes_the_others_signal_times_its_confidence() -> None:
    pair = nothing()
    pair.direct_XS[EYE_SIGNALS + YAW, YAW] = -0.5  # eyes that look the same way have opposite yaw towards their temples
    pair.direct_XS[YAW, YAW] = 0.5
    left, right = pair.both(signals(yaw=12), signals(yaw=-8), SURE)
    assert (left[0, YAW], right[0, YAW]) == (10, -10)
    left, right = pair.both(signals(yaw=12), signals(yaw=-8), np.array([[1, 0.5]], np.float32))
    assert (left[0, YAW], right[0, YAW]) == (6 + 2, -2 - 6)


def test_a_hidden_unit_sees_that_the_eyes_disagree() -> None:
    pair = nothing()
    pair.down_XA[BLINK, 0], pair.down_XA[EYE_SIGNALS + BLINK, 0] = 1, -1
    pair.down_bias_A[0] = -0.5
    pair.up_AS[0, BLINK] = 0.4
    left, right = pair.both(signals(blink=0.8), signals(blink=0.1), SURE)
    assert left[0, BLINK] == pytest.approx(0.8 + 0.4 * 0.2)
    assert right[0, BLINK] == pytest.approx(0.1), "which sees the difference the other way round"


def test_signals_are_read_and_given_within_what_they_can_be() -> None:
    pair = nothing()
    pair.direct_XS[EYE_SIGNALS + BLINK, BLINK] = 0.5
    left, right = pair.both(signals(blink=7, yaw=-400), signals(blink=-3, yaw=1e9), SURE)
    assert (left[0, BLINK], right[0, BLINK]) == (1, 0.5)
    assert (left[0, YAW], right[0, YAW]) == (-90, 90)


@pytest.mark.parametrize("seed", range(3))
def test_a_mirrored_face_gets_mirrored_signals(seed: int) -> None:
    pair, left_BS, right_BS = make_eye_pair(seed), some(20, 1), some(20, 2)
    confidence_B2 = np.random.default_rng(3).uniform(0, 1, (20, 2)).astype(np.float32)
    left, right = pair.both(left_BS, right_BS, confidence_B2)
    mirrored_left, mirrored_right = pair.both(right_BS, left_BS, confidence_B2[:, ::-1])
    np.testing.assert_array_equal(left, mirrored_right)
    np.testing.assert_array_equal(right, mirrored_left)
    assert np.abs(left - left_BS).max() > 0.1


def test_what_a_covered_eye_shows_says_nothing_of_the_other() -> None:
    pair, left_BS = make_eye_pair(), some(20, 1)
    confidence_B2 = np.tile(np.array([0.9, 0], np.float32), (20, 1))
    one, _ = pair.both(left_BS, some(20, 2), confidence_B2)
    other, _ = pair.both(left_BS, some(20, 3), confidence_B2)
    np.testing.assert_array_equal(one, other)


def test_a_file_gives_it_back_and_equal_ones_give_equal_bytes() -> None:
    pair = make_eye_pair(4)
    data = write_eye_pair(pair)
    assert data == write_eye_pair(make_eye_pair(4))
    found = read_eye_pair(data)
    assert found.frame_sets == pair.frame_sets
    for name in ("direct_XS", "down_XA", "down_bias_A", "up_AS", "bias_S"):
        np.testing.assert_array_equal(getattr(found, name), getattr(pair, name))


def test_a_file_of_something_else_is_refused() -> None:
    data = write_eye_pair(make_eye_pair())
    for wrong in (b"", data[:300], data.replace(b"mien-eye-pair", b"mien-ear-pair"), data.replace(b"up_AS", b"up_SA")):
        with pytest.raises(ContractError):
            read_eye_pair(wrong)
    with pytest.raises(ContractError, match=r"`up_AS` should be float32 \[6, 14\]. Found float32 \[5, 14\]"):
        replace(make_eye_pair(), up_AS=make_eye_pair().up_AS[1:])
    with pytest.raises(ContractError, match="`bias_S` should hold finite numbers"):
        replace(make_eye_pair(), bias_S=np.full(EYE_SIGNALS, np.nan, np.float32))


def test_a_bundle_carries_it_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    without = make_bundle(folder)
    assert without.eye_pair is None
    write_bundle(folder, replace(without, eye_pair=make_eye_pair()))
    found = read_bundle(folder)
    assert found.eye_pair is not None
    assert found.backbone_digest == without.backbone_digest, "heads of wearers stay valid"
    path = folder / "eye_pair.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="damaged") as caught:
        read_bundle(folder)
    assert caught.value.file == "eye_pair.safetensors"
    assert read_bundle(folder, with_others=False).eye_pair is None
