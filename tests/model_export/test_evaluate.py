"""Evaluation: unseen wearers only, the mean beside it, clips by hand, a report that says what it lacks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from model_export.clips import CHANNELS, evaluate_clips, read_clip
from model_export.commands import evaluate
from model_export.contract import EU_NAMES, LAST_COUNT, NO_SLIP, Bundle, Camera, Slip, read_bundle
from model_export.data import list_shards, open_shard
from model_export.errors import EvaluationError
from model_export.estimates import estimate, placed_head, seconds_of
from model_export.evaluate import CAVEAT, evaluate_wearers, gaze_error_deg, merged, unseen_shards
from model_export.placing import seen_through
from model_export.report import markdown
from model_export.resting import slip_ridge, slipped_maps
from model_export.wearer_names import names_in
from tests.bundles import make_bundle, make_crops, make_eye_pair, make_resting


@pytest.fixture(scope="module")
def bundle(disc_bundle: Path) -> Bundle:
    return read_bundle(disc_bundle)


@pytest.fixture(scope="module")
def figures(bundle: Bundle, disc_data: Path) -> dict[str, Any]:
    return evaluate_wearers([bundle], disc_data, 64)


def write_clip(path: Path, **changes: NDArray[Any]) -> Path:
    frames = 40
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        "left_eye": rng.integers(0, 255, (frames, 128, 128), dtype=np.uint8),
        "right_eye": rng.integers(0, 255, (frames, 128, 128), dtype=np.uint8),
        "mouth": rng.integers(0, 255, (frames, 128, 128), dtype=np.uint8),
        "t_ns": np.arange(frames),
        "reference": rng.random((frames, 2)).astype(np.float32),
        "reference_names": np.array(["jawOpen", "mouthPucker"]),
    }
    np.savez(path, **(arrays | changes))
    return path


def test_unseen_wearers_are_followed_better_than_by_the_mean(figures: dict[str, Any]) -> None:
    blink = figures["eus"]["eyeBlinkLeft"]
    assert blink["r"] > 0.8
    assert blink["rmse"] < 0.7 * blink["rmse_of_mean_baseline"]
    assert figures["summary"]["gaze_median_deg"] < 0.7 * figures["summary"]["gaze_median_deg_of_mean_baseline"]


def test_an_eu_that_never_moves_has_no_r(figures: dict[str, Any]) -> None:
    assert figures["eus"]["tongueOut"]["r"] is None


def test_evaluation_repeats(figures: dict[str, Any], bundle: Bundle, disc_data: Path) -> None:
    assert evaluate_wearers([bundle], disc_data, 64) == figures


def test_trained_wearers_are_left_out(bundle: Bundle, disc_data: Path) -> None:
    unseen = {entry.wearer for entry in unseen_shards([bundle], disc_data)}
    assert unseen
    assert not unseen & names_in(bundle.training["data"]["trained_wearers"])


def test_data_without_an_unseen_wearer_is_refused(bundle: Bundle, disc_data: Path) -> None:
    seeds = [entry.wearer for entry in list_shards(disc_data)]
    record = {**bundle.training, "data": {**bundle.training["data"], "trained_wearers": seeds}}
    with pytest.raises(EvaluationError, match="never trained on"):
        unseen_shards([replace(bundle, training=record)], disc_data)


def test_a_bundle_that_hides_its_wearers_is_refused(bundle: Bundle, disc_data: Path) -> None:
    with pytest.raises(EvaluationError, match="trained_wearers"):
        unseen_shards([replace(bundle, training={})], disc_data)


def test_estimates_mirror_the_right_eye(bundle: Bundle, disc_data: Path) -> None:
    shard = open_shard(list_shards(disc_data)[0])
    left_THW, mouth_THW = shard.left_eye_THW[:3], shard.mouth_THW[:3]
    found = estimate(bundle, left_THW, left_THW[:, :, ::-1], mouth_THW)
    np.testing.assert_allclose(found.values_TE[:, 12:24], found.values_TE[:, :12], atol=1e-6)
    np.testing.assert_allclose(found.gaze_T4[:, 2:], found.gaze_T4[:, :2] * [-1, 1], atol=1e-5)


def test_a_rest_seen_before_moves_the_answers_of_its_fitting_which_are_compared_with_it(
    bundle: Bundle, disc_data: Path
) -> None:
    without = evaluate_wearers([bundle], disc_data, 64)["summary"]
    assert without["rested_mean_r"] is None
    nothing_F, eye_FO = np.zeros(LAST_COUNT, np.float32), np.zeros((LAST_COUNT, 15), np.float32)
    mouth_FO = np.zeros((LAST_COUNT, 33), np.float32)
    untold = make_resting(eye_shift_FO=eye_FO, mouth_shift_FO=mouth_FO)
    same = evaluate_wearers([replace(bundle, resting=untold)], disc_data, 64)["summary"]
    assert (same["rested_mean_r"], same["rested_mean_rmse"]) != (same["mean_r"], same["mean_rmse"])
    assert same["rested_mean_r"] == pytest.approx(same["mean_r"], abs=0.05)
    eye_FO[:, 12:14] = 40 / LAST_COUNT  # degrees for a feature of 1
    moved = replace(untold, eye_mean_F=nothing_F - 1, eye_shift_FO=eye_FO)
    wrong = evaluate_wearers([replace(bundle, resting=moved)], disc_data, 64)["summary"]
    assert wrong["rested_gaze_deg"] > same["rested_gaze_deg"] + 10
    assert wrong["gaze_median_deg"] == same["gaze_median_deg"]


def test_crops_follow_a_face_by_how_it_moves(tmp_path: Path) -> None:
    """Of a backbone of random kernels, which knows places as a trained one does."""
    plain = make_bundle(tmp_path / "bundle")
    rng = np.random.default_rng(0)
    faces_NHW = np.stack([cv2.GaussianBlur(crop_HW, (0, 0), 6) for crop_HW in make_crops(1200, 1)])
    eye_M4, eye_M = slip_ridge([slipped_maps(plain.eye_onnx, faces_NHW, rng)])
    mouth_M4, mouth_M = slip_ridge([slipped_maps(plain.mouth_onnx, faces_NHW, rng)])
    told = {"eye_slip_M4": eye_M4, "eye_moving_M": eye_M, "mouth_slip_M4": mouth_M4, "mouth_moving_M": mouth_M}
    knowing = replace(plain, resting=make_resting(**told))
    slip = Slip(6.0, -5.0, 0.0)
    moving_THW = faces_NHW[:60]
    slipped_THW = np.stack([seen_through(slip.inverse(), crop_HW) for crop_HW in moving_THW])
    upright = dict.fromkeys(Camera, slipped_THW)
    for camera, found in placed_head(knowing, upright, 5.0).slip.items():
        assert (found.right_px, found.down_px) == pytest.approx((0.8 * 6.0, -0.8 * 5.0), abs=2.0), camera
    assert set(placed_head(knowing, dict.fromkeys(Camera, moving_THW), 5.0).slip.values()) == {NO_SLIP}
    assert placed_head(plain, upright, 5.0) is plain.head


def test_the_longer_a_face_was_seen_the_more_of_it_is_known(tmp_path: Path) -> None:
    resting = make_resting(mouth_share_2=np.array([1, 4], np.float32))
    knowing = replace(make_bundle(tmp_path / "bundle"), resting=resting)
    seen = {Camera.MOUTH: make_crops(20, 1)}
    after_4_s, after_12_s = (placed_head(knowing, seen, seconds).neutral[Camera.MOUTH] for seconds in (4.0, 12.0))
    assert after_4_s.max() > 0.1
    np.testing.assert_allclose(after_12_s, 1.5 * after_4_s, rtol=1e-5)


def test_each_frame_stands_for_the_time_to_the_next() -> None:
    assert seconds_of(np.arange(0, 3_500_000_000, 350_000_000)) == pytest.approx(3.5)
    assert seconds_of(np.array([7])) == 0.0


def test_faces_whose_sides_differ_have_a_figure_of_their_own(bundle: Bundle, disc_data: Path) -> None:
    """The discs blink with each eye on its own; a pair that makes both eyes say the same is caught by it, not by the mean."""
    alone = evaluate_wearers([bundle], disc_data, 64)["summary"]
    assert alone["wink_rmse"] < 0.2
    assert alone["uneven_rmse"] == alone["wink_rmse"], "no other lid or brow of theirs moves"
    mean_XS = 0.5 * (np.eye(30, 14, dtype=np.float32) + np.eye(30, 14, -14, dtype=np.float32))
    nothing = make_eye_pair(hidden=0)
    evening = replace(nothing, direct_XS=mean_XS, bias_S=np.zeros_like(nothing.bias_S))
    even = evaluate_wearers([replace(bundle, eye_pair=evening)], disc_data, 64)["summary"]
    assert even["wink_rmse"] > 0.25


def test_several_bundles_give_mean_and_deviation() -> None:
    assert merged([{"r": 0.5}, {"r": 0.7}]) == {"r": {"mean": 0.6, "std": 0.1414}}
    assert merged([{"r": 0.5}]) == {"r": 0.5}
    assert merged([{"r": 0.5}, {"r": None}]) == {"r": None}


def test_gaze_error_is_the_angle_between_directions() -> None:
    answer_T2 = np.array([[10.0, 0.0], [0.0, 5.0], [90.0, 0.0], [20.0, 60.0]])
    truth_T2 = np.array([[0.0, 0.0], [0.0, -5.0], [0.0, 90.0], [20.0, 60.0]])
    np.testing.assert_allclose(gaze_error_deg(answer_T2, truth_T2), [10, 10, 90, 0], atol=1e-5)


def curves(**changes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    names = (*EU_NAMES, "leftYaw", "leftPitch", "rightYaw", "rightPitch", "browInnerUp")
    return {name: np.zeros(2, np.float32) for name in names} | changes


@pytest.mark.parametrize(
    ("channel", "changes", "expected"),
    [
        ("mouthSmile", {"mouthSmileLeft": [1, 0], "mouthSmileRight": [0, 0.5]}, [0.5, 0.25]),
        ("mouthPucker or mouthFunnel", {"mouthPucker": [0.2, 0.9], "mouthFunnel": [0.6, 0.1]}, [0.6, 0.9]),
        ("mouthLeft - mouthRight", {"mouthLeft": [0.4, 0], "mouthRight": [0, 0.3]}, [0.4, -0.3]),
        # to the wearer's left: out for the left eye, in for the right
        ("gaze-x, left eye", {"eyeLookOutLeft": [0.5, 0], "eyeLookInLeft": [0, 0.2]}, [0.5, -0.2]),
        ("gaze-x, right eye", {"eyeLookOutRight": [0.5, 0], "eyeLookInRight": [0, 0.2]}, [-0.5, 0.2]),
        ("gaze-x, both eyes", {"eyeLookOutLeft": [0.5, 0], "eyeLookInRight": [0.3, 0]}, [0.4, 0]),
        ("gaze-y, both eyes", {"eyeLookUpLeft": [1, 0], "eyeLookDownRight": [0, 1]}, [0.5, -0.5]),
    ],
)
def test_channels_combine_as_named(channel: str, changes: dict[str, list[float]], expected: list[float]) -> None:
    (found,) = [each for each in CHANNELS if each.name == channel]
    arrays = {name: np.array(values, np.float32) for name, values in changes.items()}
    np.testing.assert_allclose(found.ours(curves(**arrays)), expected, atol=1e-6)


def test_a_clip_that_follows_our_curve_has_r_one(bundle: Bundle, disc_data: Path, tmp_path: Path) -> None:
    shard = open_shard(list_shards(disc_data)[0])
    found = estimate(bundle, shard.left_eye_THW, shard.right_eye_THW, shard.mouth_THW)
    jaw_T = found.values_TE[:, EU_NAMES.index("jawOpen")]
    clip = write_clip(
        tmp_path / "a.npz",
        left_eye=shard.left_eye_THW,
        right_eye=shard.right_eye_THW,
        mouth=shard.mouth_THW,
        t_ns=shard.t_ns,
        reference=np.stack([0.3 * jaw_T + 0.1, np.full_like(jaw_T, 0.4)], 1),
    )
    channels = evaluate_clips([bundle], [clip])["channels"]
    assert channels["jawOpen"]["median_r"] == pytest.approx(1.0)
    # the reference's pucker never moves, and it has no smile: nothing is said of either
    pucker: dict[str, Any] = {
        "median_r": None,
        "placed_median_r": None,
        "clips_used": 0,
        "first_probe_r": 0.57,
        "clips": {},
    }
    assert channels["mouthPucker"] == pucker
    assert channels["mouthSmile"]["median_r"] is None


@pytest.mark.parametrize(
    "changes",
    [{"mouth": np.zeros((39, 128, 128), np.uint8)}, {"mouth": np.zeros((40, 128, 128), np.float32)}],
)
def test_clips_of_another_shape_are_refused(changes: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="should be uint8"):
        read_clip(write_clip(tmp_path / "a.npz", **changes))


def test_clips_that_carry_python_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"a\.npz"):
        read_clip(write_clip(tmp_path / "a.npz", reference_names=np.array([object(), object()])))
    with pytest.raises(EvaluationError, match=r"`t_ns` of .*a.npz should be int64 \[40\]. Found int64 \[39\]"):
        read_clip(write_clip(tmp_path / "a.npz", t_ns=np.arange(39)))


def test_the_report_says_that_no_headset_was_seen(figures: dict[str, Any]) -> None:
    text = markdown({"bundles": [{"name": "discs", "digest": "d"}], "wearers": figures})
    assert CAVEAT in text
    assert "| eyeBlinkLeft |" in text


def test_the_command_writes_report_and_plots(disc_bundle: Path, disc_data: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.npz")
    arguments = ["--bundle", disc_bundle, "--data", disc_data, "--frames", 20, "--clips", tmp_path / "clips"]
    result = CliRunner().invoke(evaluate, [*map(str, arguments), "--out", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout.splitlines()[-1])) == {"wearers", "clips"}
    written = {file.name for file in (tmp_path / "report").iterdir()}
    assert written == {"evaluation.json", "evaluation.md", "wearers.png", "clips.png", "reliability.png"}
    stored = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert (stored["format"], stored["version"]) == ("mien-evaluation", 5)


def test_the_command_without_anything_to_judge_is_a_usage_error() -> None:
    assert CliRunner().invoke(evaluate, []).exit_code == 2


def test_real_clips_can_be_read(real_clips: list[Path]) -> None:
    for path in real_clips:
        assert {"jawOpen", "eyeBlinkLeft"} <= set(read_clip(path).reference)
