"""What the eyes say of each other: what is learnt from eyes that look the same way, and that the bundle stays what it was."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from model_export.commands import eye_pair as command
from model_export.contract import EYE_MOVEMENTS, EYE_SIGNALS, Camera, read_bundle, write_bundle
from model_export.errors import DataError
from model_export.estimates import estimate
from model_export.eye_pairs import PairMaterial, fit_eye_pair, material_of
from tests.bundles import make_crops, make_eye_pair, make_resting

BLINK, YAW = EYE_MOVEMENTS.index("eyeBlink"), len(EYE_MOVEMENTS)
NOISE_DEG, NOISE = 4.0, 0.15


def eyes(count: int, seed: int) -> PairMaterial:
    """Eyes that look the same way and blink together but for a wink in four, seen with errors of their own; a tenth covered."""
    rng = np.random.default_rng(seed)
    truth_N2S = np.zeros((count, 2, EYE_SIGNALS), np.float32)
    truth_N2S[:, :, YAW] = rng.normal(0, 12, (count, 1)) * (1, -1)
    blink_N1 = rng.uniform(0, 1, (count, 1)) * (rng.random((count, 1)) < 0.4)
    open_N2 = (rng.random((count, 1)) < 0.25) & (np.arange(2) == rng.integers(0, 2, (count, 1)))
    truth_N2S[:, :, BLINK] = np.where(open_N2, 0, blink_N1)
    seen_N2S = truth_N2S.copy()
    seen_N2S[:, :, YAW] += rng.normal(0, NOISE_DEG, (count, 2))
    seen_N2S[:, :, BLINK] += rng.normal(0, NOISE, (count, 2))
    covered_N2 = rng.random((count, 2)) < 0.1
    seen_N2S[covered_N2] = rng.normal(0, 1, (int(covered_N2.sum()), EYE_SIGNALS)) * ([1] * YAW + [30] * 2)
    seen_N2S[..., :YAW] = seen_N2S[..., :YAW].clip(0, 1)
    confidence_N2 = np.where(covered_N2, 0.03, 0.97).astype(np.float32)
    return PairMaterial(seen_N2S, confidence_N2, truth_N2S)


def errors(found_N2S: NDArray[np.float32], material: PairMaterial, rows_N2: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Root mean square of each signal in some of the eyes."""
    off_BS = (found_N2S - material.truth_N2S)[rows_N2]
    return np.asarray(np.sqrt(np.square(off_BS.astype(np.float64)).mean(axis=0)))


def test_eyes_that_look_the_same_way_tell_each_other_where() -> None:
    pair, fresh = fit_eye_pair(eyes(6000, 1)), eyes(4000, 2)
    left, right = fresh.signals_N2S[:, 0], fresh.signals_N2S[:, 1]
    found_N2S = np.stack(pair.both(left, right, fresh.confidence_N2), axis=1)
    sure_N2 = fresh.confidence_N2 > 0.5
    both_N2 = sure_N2 & sure_N2.all(axis=1, keepdims=True)
    before_S, after_S = (errors(one, fresh, both_N2) for one in (fresh.signals_N2S, found_N2S))
    assert after_S[YAW] < 0.8 * before_S[YAW], "two readings of one direction: root of a half is the most"
    assert after_S[BLINK] < before_S[BLINK]
    wink_N2 = both_N2 & (np.abs(np.diff(fresh.truth_N2S[:, :, BLINK], axis=1)) > 0.5)
    before_S, after_S = (errors(one, fresh, wink_N2) for one in (fresh.signals_N2S, found_N2S))
    assert after_S[BLINK] < 1.3 * before_S[BLINK], "a wink stays one"


def test_a_covered_eye_is_answered_for_by_the_other() -> None:
    pair, fresh = fit_eye_pair(eyes(6000, 1)), eyes(4000, 2)
    found_N2S = np.stack(pair.both(fresh.signals_N2S[:, 0], fresh.signals_N2S[:, 1], fresh.confidence_N2), axis=1)
    covered_N2 = (fresh.confidence_N2 < 0.5) & (fresh.confidence_N2[:, ::-1] > 0.5)
    before_S, after_S = (errors(one, fresh, covered_N2) for one in (fresh.signals_N2S, found_N2S))
    assert before_S[YAW] > 20
    assert after_S[YAW] < 2 * NOISE_DEG


def test_equal_material_gives_equal_pairs_and_another_seed_another() -> None:
    material = eyes(600, 1)
    one, same, other = (fit_eye_pair(material, epochs=1, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.down_XA, same.down_XA)
    np.testing.assert_array_equal(one.bias_S, same.bias_S)
    assert np.abs(one.down_XA - other.down_XA).max() > 0.01
    assert one.frame_sets == 600


@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        ("browDown", {"browDown"}),
        ("eyeLookUp", {"eyeLookUp", "eyeLookDown", "pitch"}),
        ("yaw", {"eyeLookIn", "eyeLookOut", "yaw"}),
    ],
)
def test_a_signal_is_read_from_its_like_alone(changed: str, moved: set[str]) -> None:
    names = [*EYE_MOVEMENTS, "yaw", "pitch"]
    material = eyes(2000, 1)
    pair = fit_eye_pair(material, epochs=2)
    left_NS, right_NS, sure_N2 = material.signals_N2S[:, 0], material.signals_N2S[:, 1], material.confidence_N2
    other_NS = right_NS.copy()
    other_NS[:, names.index(changed)] = np.linspace(0, 1, len(right_NS))
    before, after = (pair.both(left_NS, one_NS, sure_N2)[0] for one_NS in (right_NS, other_NS))
    found = {name for name, moves in zip(names, np.abs(after - before).max(axis=0) > 0, strict=True) if moves}
    assert found <= moved
    assert changed in found or changed == "browDown"  # which never moved in what it was learnt from


def test_material_needs_both_eyes() -> None:
    material = eyes(10, 1)
    with pytest.raises(DataError, match="both eyes"):
        PairMaterial(material.signals_N2S[:, :1], material.confidence_N2[:, :1], material.truth_N2S[:, :1])


def test_material_is_what_the_bundle_says_and_the_truth_of_eyes_seen_as_left_ones(
    disc_bundle: Path, disc_data: Path
) -> None:
    material = material_of(replace(read_bundle(disc_bundle), resting=make_resting()), disc_data)
    assert material.signals_N2S.shape == (5 * 64, 2, EYE_SIGNALS)
    for signal, least in ((BLINK, 0.7), (YAW, 0.7)):
        for eye in range(2):
            said_N, true_N = material.signals_N2S[:, eye, signal], material.truth_N2S[:, eye, signal]
            sure_N = material.confidence_N2[:, eye] > 0.5
            assert np.corrcoef(said_N[sure_N], true_N[sure_N])[0, 1] > least, (signal, eye)


def test_the_command_adds_it_and_changes_nothing_else(disc_bundle: Path, disc_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(disc_bundle, folder)
    resting = make_resting(fittings=1)
    before = write_bundle(folder, replace(read_bundle(folder), resting=resting, eye_pair=make_eye_pair()))
    result = CliRunner().invoke(command, ["--bundle", str(folder), "--data", str(disc_data)])
    assert result.exit_code == 0, result.output
    after = read_bundle(folder)
    assert after.eye_pair is not None
    assert after.eye_pair.frame_sets == 5 * 64, "made anew"
    record = dict(after.training).pop("eye_pair")
    assert (record["wearers"], record["frame_sets"], record["seed"]) == (5, 5 * 64, 0)
    assert {**before.training, "eye_pair": record} == after.training
    for file in ("eye.onnx", "mouth.onnx", "head.safetensors", "golden.safetensors"):
        assert (folder / file).read_bytes() == (disc_bundle / file).read_bytes()
    assert after.resting is not None


def test_answers_of_both_eyes_are_the_pairs(disc_bundle: Path) -> None:
    bundle, pair = read_bundle(disc_bundle), make_eye_pair(1)
    left, right, mouth = (make_crops(4, seed) for seed in range(3))
    alone = estimate(bundle, left, right, mouth)
    found = estimate(replace(bundle, eye_pair=pair), left, right, mouth)
    np.testing.assert_array_equal(found.confidence_T3, alone.confidence_T3)
    np.testing.assert_array_equal(found.values_TE[:, 24:], alone.values_TE[:, 24:])
    turned_T4 = alone.gaze_T4 * (1, 1, -1, 1)
    signals = [
        np.concatenate([alone.values_TE[:, 12 * eye : 12 * eye + 12], turned_T4[:, 2 * eye : 2 * eye + 2]], axis=1)
        for eye in (Camera.LEFT_EYE, Camera.RIGHT_EYE)
    ]
    left_TS, right_TS = (one.astype(np.float32) for one in signals)
    expected = pair.both(left_TS, right_TS, alone.confidence_T3[:, :2])
    for eye, expected_TS in enumerate(expected):
        np.testing.assert_allclose(found.values_TE[:, 12 * eye : 12 * eye + 12], expected_TS[:, :12], atol=1e-5)
        sign = (-1, 1) if eye else (1, 1)
        np.testing.assert_allclose(found.gaze_T4[:, 2 * eye : 2 * eye + 2] * sign, expected_TS[:, 12:], atol=1e-3)
