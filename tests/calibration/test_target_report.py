"""The report on targets: scores by hand, and of a small calibration on disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.take_targets import TakeTargets
from calibration.target_report import correlation, print_report, score_targets, summary
from model_export.contract.expression_units import EU_COUNT, EU_INDEX
from model_export.contract.frames import Camera
from model_export.contract.take import Encoding, Take, write_take
from tests.calibration.moving_pictures import Person, calibration


def test_scores_compare_labelled_frames_only() -> None:
    count, jaw = 6, EU_INDEX["jawOpen"]
    t_ns = np.arange(1, count + 1, dtype=np.int64) * 500_000_000
    truth_TE, values_TE = np.zeros((count, EU_COUNT), np.float32), np.zeros((count, EU_COUNT), np.float32)
    truth_TE[:, jaw] = [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    values_TE[:, jaw] = [0.1, 0.6, 1.0, 0.1, 0.6, 0.0]
    confidence_TE = np.zeros((count, EU_COUNT), np.float32)
    confidence_TE[:5, jaw] = 1.0
    take = Take("jaw_open", Encoding.GRAY8, t_ns, {Camera.MOUTH: (b"",) * count}, (0, 0), truth_TE)
    targets = TakeTargets("jaw_open", t_ns, values_TE, confidence_TE, np.zeros(count, np.int32))
    (score,) = score_targets("wearer", [targets], [take])
    assert score.labelled == pytest.approx(5 / 6)
    assert score.rmse == pytest.approx(np.sqrt(4 * 0.01 / 5), abs=1e-6)
    assert score.r > 0.99
    assert summary([score])["own_cue"]["scores"] == 1


def test_what_does_not_vary_has_no_correlation() -> None:
    assert np.isnan(correlation(np.ones(5, np.float32), np.arange(5, dtype=np.float32)))


def test_the_report_of_a_folder_is_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "wearer_00001"
    folder.mkdir()
    for number, take in enumerate(calibration(Person(cameras=(Camera.MOUTH,)), ("rest", "smile"))):
        (folder / f"{number:02d}_{take.cue}.take").write_bytes(write_take(take))
    print_report(tmp_path)
    result = json.loads(capsys.readouterr().out)
    assert result["accepted"] == result["takes"] == 2
    assert result["eus"]["mouthSmileLeft"]["r"] > 0.93


def test_takes_without_truth_cannot_be_judged() -> None:
    take = Person(cameras=(Camera.MOUTH,)).take("smile")
    blind = Take(take.cue, take.encoding, take.t_ns, take.images, take.size_px)
    zeros_TE = np.zeros((len(take), EU_COUNT), np.float32)
    targets = TakeTargets("smile", take.t_ns, zeros_TE, zeros_TE, np.zeros(len(take), np.int32))
    with pytest.raises(ValueError, match="true values"):
        score_targets("wearer", [targets], [blind])
