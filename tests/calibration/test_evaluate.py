"""The comparison of methods: the baselines by hand, the summary's arithmetic, the commands end to end on a small bundle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from calibration.calibrate import CalibrateConfig
from calibration.errors import CalibrationError
from calibration.evaluate import (
    METHODS,
    EvaluatedWearer,
    as_peers_train,
    min_max,
    targets_quality,
    wearer_folders,
)
from calibration.evaluation_report import summary, table
from calibration.prompted import AS_PEERS_TRAIN, AT_ITS_BEST, prompted_targets, slot_repetitions, true_targets
from model_export.contract import EU_COUNT, EU_INDEX, Camera, Take, cue_by_name, write_take
from model_export.contract.take import Encoding
from service.command import main
from tests.bundles import make_bundle

JAW = EU_INDEX["jawOpen"]


def take(cue_name: str, rate_hz: int = 30, start_ns: int = 0) -> Take:
    """A take of grey pictures with a truth of 0.5 everywhere."""
    count = round(cue_by_name(cue_name).seconds * rate_hz)
    t_ns = start_ns + (np.arange(count) * (10**9 // rate_hz)).astype(np.int64)
    picture = bytes(128 * 128)
    return Take(
        cue_name,
        Encoding.GRAY8,
        t_ns,
        dict.fromkeys(Camera, (picture,) * count),
        (128, 128),
        np.full((count, EU_COUNT), 0.5, np.float32),
        np.zeros((count, 4), np.float32),
    )


def test_prompted_labels_follow_the_timetable() -> None:
    jaw = take("jaw_open")  # 3 s, 2 repetitions: slots of 1.5 s, held from 0.375 s to 1.125 s
    peers, best = prompted_targets(jaw, AS_PEERS_TRAIN), prompted_targets(jaw, AT_ITS_BEST)
    seconds = (jaw.t_ns / 1e9) % 1.5
    np.testing.assert_array_equal(peers.values_TE[:, JAW], (seconds < 1.125).astype(np.float32))
    assert peers.confidence_TE[:, JAW].all()
    held_T = (seconds >= 0.375) & (seconds < 1.125)
    np.testing.assert_allclose(best.values_TE[held_T, JAW], 0.85)
    np.testing.assert_array_equal(best.confidence_TE[:, JAW] > 0, held_T)
    np.testing.assert_array_equal(slot_repetitions(jaw), (jaw.t_ns / 1e9 >= 1.5).astype(int))
    assert not peers.values_TE[:, EU_INDEX["mouthPucker"]].any()


def test_dots_become_gaze_and_shares_of_a_usual_range() -> None:
    look = prompted_targets(take("look"), AS_PEERS_TRAIN)
    second_dot = int(1.5 * 8 / 9 * 30)  # (-20, 0): to the wearer's right
    assert look.gaze_T4 is not None
    np.testing.assert_array_equal(look.gaze_T4[second_dot], (-20, 0, -20, 0))
    assert look.values_TE[second_dot, EU_INDEX["eyeLookInLeft"]] == pytest.approx(20 / 35)
    assert look.values_TE[second_dot, EU_INDEX["eyeLookOutRight"]] == pytest.approx(20 / 35)
    assert look.values_TE[second_dot, EU_INDEX["eyeLookOutLeft"]] == 0


def test_truth_is_asked_of_rendered_takes_only() -> None:
    with pytest.raises(ValueError, match="render-takes"):
        true_targets(replace(take("rest"), values_TE=None))


def test_running_minimum_and_maximum_widen_and_never_look_ahead() -> None:
    calibration_TE = np.array([[0.2, 0.30], [0.6, 0.31]], np.float32)
    values_TE = np.array([[0.4, 0.5], [1.0, 0.3], [0.6, 0.3]], np.float32)
    found_TE = min_max([calibration_TE], values_TE)
    np.testing.assert_allclose(found_TE[:, 0], [(0.4 - 0.2) / 0.4, 1.0, (0.6 - 0.2) / 0.8], rtol=1e-5)
    np.testing.assert_allclose(min_max([calibration_TE], values_TE[:1]), found_TE[:1])
    hardly_TE = np.array([[0.31, 0.3]], np.float32)
    np.testing.assert_allclose(min_max([hardly_TE], hardly_TE), hardly_TE)


def test_peers_train_without_what_keeps_from_harm() -> None:
    peers = as_peers_train(CalibrateConfig())
    assert (peers.use_gate, peers.material.own_always, peers.material.quiet_weight) == (False, False, 0)
    assert {peers.fit.pull(camera) for camera in Camera} == {1.0}


def test_targets_equal_to_the_truth_are_perfect() -> None:
    jaw = take("jaw_open")
    truth_TE = np.tile(np.sin(np.arange(len(jaw)) / 5)[:, None].clip(0), (1, EU_COUNT)).astype(np.float32)
    jaw = replace(jaw, values_TE=truth_TE)
    r, error = targets_quality([true_targets(jaw)], [jaw])
    assert r == pytest.approx(1.0)
    assert error == pytest.approx(0.0)
    assert targets_quality([], [jaw]) == (None, None)


def wearer(name: str, *errors: float) -> EvaluatedWearer:
    rmse_ME = np.repeat(np.array(errors)[:, None], EU_COUNT, axis=1)
    half_ME = np.full_like(rmse_ME, 0.5)
    return EvaluatedWearer(name, rmse_ME, half_ME, half_ME, 0.9, 0.1, 1, 20)


def test_the_summary_counts_wearers_and_the_way_closed() -> None:
    first = wearer("one", 0.20, 0.20, 0.19, 0.18, 0.25, 0.30, 0.17, 0.16, 0.15, 0.18, 0.15, 0.14, 0.20, 0.15)
    second = wearer("two", 0.10, 0.10, 0.10, 0.09, 0.15, 0.20, 0.09, 0.11, 0.09, 0.09, 0.10, 0.08, 0.13, 0.12)
    second.rmse_ME[METHODS.index("movement"), JAW] = 0.5
    found = summary([first, second])
    ours = found["methods"]["movement"]
    assert found["methods"]["universal"]["rmse"] == pytest.approx(0.15)
    assert ours["wearers_better"] == 0.5
    assert list(ours["eus_worse"]) == ["jawOpen"]
    mean = (0.16 + (0.11 * 55 + 0.5) / 56) / 2
    assert found["way_closed"] == pytest.approx((0.15 - mean) / (0.15 - 0.12), abs=1e-3)
    assert ours["change"] == pytest.approx(mean / 0.15 - 1, abs=1e-3)
    assert found["slip"] == pytest.approx({"cost": 0.165 / mean - 1, "left_after_rest": 0.135 / 0.125 - 1}, abs=1e-3)
    text = table({"near": found})
    assert all(method in text for method in METHODS)
    assert json.loads(json.dumps(found)) == found


def test_a_folder_without_wearers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="render-takes"):
        wearer_folders(tmp_path)


def test_takes_that_show_nothing_write_no_head_and_exit_4(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    takes = tmp_path / "takes"
    takes.mkdir()
    for number, name in enumerate(("rest", "jaw_open")):
        data = write_take(take(name, rate_hz=15, start_ns=number * 10**10))
        (takes / f"{number:02d}_{name}.take").write_bytes(data)
    options = ["calibrate", "--takes", str(takes), "--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "h")]
    result = CliRunner().invoke(main, [*options, "--json"])
    assert result.exit_code == 4, result.output
    said = json.loads(result.stdout.splitlines()[-1])
    assert (said["better"], said["out"], said["refused"]) == (False, None, 2)
    assert not (tmp_path / "h").exists()


def test_a_folder_without_takes_exits_3(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    (tmp_path / "takes").mkdir()
    options = ["calibrate", "--takes", str(tmp_path / "takes"), "--bundle", str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, [*options, "--out", str(tmp_path / "h")])
    assert (result.exit_code, "Found none" in result.output) == (3, True)
