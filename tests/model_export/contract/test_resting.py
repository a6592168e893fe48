"""What a face at rest tells: how it moves a head, its file, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from model_export.contract import (
    FEATURE_COUNT,
    LAST_COUNT,
    MAP_COUNT,
    BundleError,
    Camera,
    ContractError,
    HeadError,
    Resting,
    Slip,
    read_bundle,
    read_head,
    rested,
    write_bundle,
    write_head,
)
from model_export.contract.resting import read_resting, write_resting
from tests.bundles import make_bundle, make_head

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RNG.normal(0, 0.1, shape).astype(np.float32)


RESTING = Resting(
    normal(LAST_COUNT),
    normal(LAST_COUNT, 15),
    normal(LAST_COUNT),
    normal(LAST_COUNT, 33),
    normal(MAP_COUNT, 4),
    normal(MAP_COUNT, 4),
    normal(MAP_COUNT),
    normal(MAP_COUNT),
    normal(MAP_COUNT),
    normal(MAP_COUNT),
    np.array([0.75, 0.0], np.float32),
    np.array([0.8, 2.0], np.float32),
    40,
)
REST = {Camera.LEFT_EYE: normal(FEATURE_COUNT), Camera.MOUTH: normal(FEATURE_COUNT)}


def test_offsets_move_by_how_far_the_rest_is_off_the_mean() -> None:
    head = make_head()
    found = rested(head, REST, RESTING)
    expected_O = (REST[Camera.MOUTH][:LAST_COUNT] - RESTING.mouth_mean_F) @ RESTING.mouth_shift_FO
    np.testing.assert_allclose(found.mouth.bias_O - head.mouth.bias_O, expected_O, atol=1e-6)
    assert found.right_eye is head.right_eye  # it saw no rest
    assert found.mouth.weight_FO is head.mouth.weight_FO


def test_frames_are_compared_with_the_map_of_the_rest_also_where_nothing_is_known_of_rests() -> None:
    for head in (make_head(), replace(make_head(head_version=3), neutral={Camera.MOUTH: normal(MAP_COUNT)})):
        for resting in (RESTING, None):
            found = rested(head, REST, resting)
            np.testing.assert_array_equal(found.neutral[Camera.MOUTH], REST[Camera.MOUTH][LAST_COUNT:])
            assert (Camera.LEFT_EYE in found.neutral) == (head.head_version == 0), (
                "an own head that knows no rest stays"
            )
            assert Camera.RIGHT_EYE not in found.neutral
            assert (found.mouth is head.mouth) == (resting is None)


def test_a_later_rest_takes_the_place_of_an_earlier_one() -> None:
    head = make_head()
    other = {camera: rest_F + 1 for camera, rest_F in REST.items()}
    there_and_back = rested(rested(rested(head, REST, RESTING), other, RESTING), REST, RESTING)
    for camera, rest_F in REST.items():
        np.testing.assert_allclose(there_and_back[camera].bias_O, rested(head, REST, RESTING)[camera].bias_O, atol=1e-4)
        np.testing.assert_array_equal(there_and_back.rest[camera], rest_F[:LAST_COUNT])
        np.testing.assert_array_equal(there_and_back.neutral[camera], rest_F[LAST_COUNT:])


def test_a_wearers_head_that_does_not_know_its_rest_stays() -> None:
    head = make_head(head_version=2)
    assert rested(head, REST, RESTING) is head
    knowing = replace(head, rest={Camera.MOUTH: REST[Camera.MOUTH][:LAST_COUNT] + 1})
    found = rested(knowing, REST, RESTING)
    assert found.left_eye is head.left_eye
    np.testing.assert_allclose(found.mouth.bias_O - head.mouth.bias_O, -RESTING.mouth_shift_FO.sum(axis=0), atol=1e-4)


def test_without_rest_a_head_stays_itself() -> None:
    head = make_head()
    assert rested(head, {}, RESTING) is head
    assert rested(head, {}, None) is head


def test_a_head_remembers_its_rest_in_its_file() -> None:
    head = rested(make_head(backbone_digest="a" * 64), REST, RESTING)
    found = read_head(write_head(head))
    assert found.rest.keys() == REST.keys()
    for camera, rest_F in REST.items():
        np.testing.assert_array_equal(found.rest[camera], rest_F[:LAST_COUNT])
        np.testing.assert_array_equal(found.neutral[camera], rest_F[LAST_COUNT:])
    assert not read_head(write_head(make_head(backbone_digest="a" * 64))).rest
    with pytest.raises(HeadError, match="`rest` of mouth should be 256 finite float32"):
        replace(head, rest={Camera.MOUTH: np.full(LAST_COUNT, np.nan, np.float32)})
    with pytest.raises(HeadError, match="`neutral` of mouth should be 1024 finite float32"):
        replace(head, neutral={Camera.MOUTH: REST[Camera.MOUTH]})


def test_it_survives_its_file_in_half_precision() -> None:
    data = write_resting(RESTING)
    found = read_resting(data)
    np.testing.assert_allclose(found.eye_shift_FO, RESTING.eye_shift_FO, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(found.mouth_mean_F, RESTING.mouth_mean_F)
    assert found.fittings == 40
    np.testing.assert_allclose(found.mouth_slip_M4, RESTING.mouth_slip_M4, rtol=1e-3, atol=1e-6)
    assert len(data) < 55_000
    np.testing.assert_allclose(found.mouth_share_2, RESTING.mouth_share_2, rtol=1e-3)


@pytest.mark.parametrize(
    ("camera", "seconds", "share"),
    [(Camera.RIGHT_EYE, 5.0, 0.75), (Camera.RIGHT_EYE, 40.0, 0.75), (Camera.MOUTH, 2.0, 0.4), (Camera.MOUTH, 6.0, 0.6)],
)
def test_a_mean_of_movement_tells_a_share_of_the_rest_that_grows_with_time(
    camera: Camera, seconds: float, share: float
) -> None:
    place_M, moving_M = RESTING.place(camera), RESTING.moving(camera)
    mean_M = np.abs(normal(MAP_COUNT))
    found_M = RESTING.neutral(camera, mean_M, seconds)
    np.testing.assert_allclose(found_M, np.maximum(place_M + share * (mean_M - moving_M), 0), atol=1e-6)
    assert found_M.dtype == np.float32
    assert 0.1 < (found_M == 0).mean() < 0.9, "maps have nothing below 0"


def test_a_file_of_something_else_is_refused() -> None:
    data = write_resting(RESTING)
    for wrong in (b"", data[:200], data.replace(b"mien-resting", b"mien-wresting"[:12])):
        with pytest.raises(ContractError):
            read_resting(wrong)
    with pytest.raises(ContractError, match=r"`eye_shift_FO` should be float32 \[256, 15\]"):
        replace(RESTING, eye_shift_FO=RESTING.mouth_shift_FO)
    with pytest.raises(ContractError, match=r"`mouth_slip_M4` should be float32 \[1024, 4\]"):
        replace(RESTING, mouth_slip_M4=RESTING.mouth_slip_M4[:-1])


def test_a_slip_is_read_off_the_change_of_the_map_and_a_right_eyes_is_mirrored() -> None:
    before_M, after_M = normal(MAP_COUNT), normal(MAP_COUNT)
    right, down, turn, log_scale = (after_M - before_M) @ RESTING.eye_slip_M4
    left_eye, right_eye = (RESTING.slip(camera, after_M, before_M) for camera in (Camera.LEFT_EYE, Camera.RIGHT_EYE))
    assert (left_eye.right_px, left_eye.down_px, left_eye.turn_deg) == pytest.approx((right, down, turn), rel=1e-4)
    assert left_eye.scale == pytest.approx(np.exp(np.clip(log_scale, -0.5, 0.5)))
    assert right_eye == left_eye.mirrored()
    assert RESTING.slip(Camera.MOUTH, before_M, before_M) == Slip(0.0, 0.0, 0.0)


def test_a_bundle_carries_it_and_a_damaged_one_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bundles") / "one"
    without = make_bundle(folder)
    assert without.resting is None
    write_bundle(folder, replace(without, resting=RESTING))
    found = read_bundle(folder)
    assert found.resting is not None
    assert found.backbone_digest == without.backbone_digest
    path = folder / "resting.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="damaged") as caught:
        read_bundle(folder)
    assert caught.value.file == "resting.safetensors"
    assert read_bundle(folder, with_others=False).resting is None  # `mien resting` makes it anew
