"""Calibrations as takes: what is performed, what is written, resuming, refusing; on the tiny rig unless said otherwise."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model_export.contract.cues import CUES, Cue, cue_by_name
from model_export.contract.expression_units import EU_INDEX, EU_NAMES
from model_export.contract.frames import Camera
from model_export.contract.take import read_take
from model_export.faces.errors import ConfigError, DatasetError
from model_export.faces.render import Stage, draw_fit
from model_export.faces.rig import FaceRig
from model_export.faces.takes import (
    Oddities,
    TakesConfig,
    alter,
    draw_oddities,
    put_on_again,
    render_calibration,
    take_pixels,
)
from model_export.faces.takes_command import render_takes_command
from model_export.faces.takes_performance import Manner, perform_cue, perform_freely
from model_export.faces.wearer import HELD_OUT_SPACE, draw_wearer, gaze_degrees

WEARER = draw_wearer(5, HELD_OUT_SPACE)


def times(seconds: float, rate_hz: float = 30.0) -> np.ndarray:
    return np.arange(round(seconds * rate_hz)) / rate_hz


@pytest.mark.parametrize("cue", [cue for cue in CUES if cue.eus], ids=lambda cue: cue.name)
def test_a_cue_moves_its_own_units_to_their_amplitude_and_returns_to_rest(cue: Cue) -> None:
    for seed in range(4):
        values_TE = perform_cue(np.random.default_rng(seed), WEARER, cue, times(cue.seconds), Manner())
        own = values_TE[:, cue.eu_indices[0]]
        assert 0.4 <= own.max() <= 1.0
        assert own[:3].max() < 0.1
        assert own[-1] < 0.6  # a movement may end a little after the take
        assert float(values_TE.min()) >= 0.0


def test_what_was_not_asked_for_comes_along_weakly() -> None:
    cue = cue_by_name("smile")
    companions = [EU_INDEX[name] for name in EU_NAMES if not name.startswith(("eye", "pupil")) and name not in cue.eus]
    highest = max(
        float(perform_cue(np.random.default_rng(seed), WEARER, cue, times(3), Manner())[:, companions].max())
        for seed in range(10)
    )
    assert 0.05 < highest < 0.5


def test_the_eyes_follow_the_dots() -> None:
    cue = cue_by_name("look")
    t_s = times(cue.seconds, 60)
    values_TE = perform_cue(np.random.default_rng(2), WEARER, cue, t_s, Manner())
    gaze_T4 = np.stack([gaze_degrees(WEARER, values_E) for values_E in values_TE])
    slot_s = cue.seconds / len(cue.dots_deg)
    for place, (yaw, pitch) in enumerate(cue.dots_deg):
        late = np.flatnonzero((t_s > (place + 0.8) * slot_s) & (t_s < (place + 1) * slot_s))
        seen_4 = np.median(gaze_T4[late], axis=0)
        assert np.abs(seen_4 - [yaw, pitch, yaw, pitch]).max() < 6.0


def test_sloppy_wearers_shift_their_movements_and_sometimes_do_another_one() -> None:
    cue = cue_by_name("jaw_open")
    peaks = [
        float(perform_cue(np.random.default_rng(seed), WEARER, cue, times(3), Manner.of(1.0))[:45, 24].max())
        for seed in range(40)
    ]
    assert sum(peak < 0.2 for peak in peaks) >= 1
    assert Manner.of(0.0) == Manner()


def test_a_free_performance_shows_most_units() -> None:
    values_TE = perform_freely(np.random.default_rng(1), times(24))
    assert int((values_TE.max(axis=0) > 0.3).sum()) >= 34


def test_a_weak_side_moves_a_third_as_far_and_droopy_lids_still_close() -> None:
    weak = alter(WEARER, Oddities(weak_side="Left"))
    smile, other = EU_INDEX["mouthSmileLeft"], EU_INDEX["mouthSmileRight"]
    assert weak.gain_E[smile] == pytest.approx(0.35 * WEARER.gain_E[smile])
    assert weak.gain_E[other] == WEARER.gain_E[other]
    assert weak.gain_E[EU_INDEX["mouthLeft"]] == WEARER.gain_E[EU_INDEX["mouthLeft"]]
    droopy = alter(WEARER, Oddities(droopy=True))
    blink = EU_INDEX["eyeBlinkRight"]
    assert droopy.rest_E[blink] + droopy.gain_E[blink] == pytest.approx(1.02)


def test_oddities_occur_and_only_far_wearers_wear_glasses() -> None:
    near = [draw_oddities(seed, "near") for seed in range(60)]
    far = [draw_oddities(seed, "far") for seed in range(60)]
    assert any(one.weak_side for one in near)
    assert any(one.droopy for one in near)
    assert not any(one.glasses for one in near)
    assert any(one.glasses for one in far)


def test_putting_on_again_keeps_camera_and_light_and_moves_the_pose_a_little() -> None:
    rng = np.random.default_rng(3)
    first = draw_fit(rng, WEARER, "headset")
    second = put_on_again(rng, first)
    assert second.look is first.look
    assert second.sensor.render_px == first.sensor.render_px
    moved_cm = np.abs(second.fitting.position_C3 - first.fitting.position_C3).max()
    assert 0.001 < moved_cm < 0.8


def test_a_calibration_is_written_whole_and_resumes(tiny_rig: FaceRig, tmp_path: Path) -> None:
    config = TakesConfig(wearers=1, seed=7000, rate_hz=2.0, free_s=3.0)
    stage = Stage(tiny_rig)
    folder = tmp_path / "wearer_07000"
    assert render_calibration(stage, config, 0, folder, "rig") == len(CUES) + 2
    names = sorted(path.name for path in folder.glob("*.take"))
    assert names[0] == "00_rest.take"
    assert names[-2:] == ["free_after.take", "rest_after.take"]
    one = folder / "08_smile.take"
    before = read_take(one.read_bytes())
    assert before.cue == "smile"
    assert before.values_TE is not None
    assert before.gaze_T4 is not None
    assert take_pixels(before, Camera.MOUTH).shape == (6, 128, 128)
    one.unlink()
    assert render_calibration(stage, config, 0, folder, "rig") == 1
    again = read_take(one.read_bytes())
    assert again.images == before.images
    assert (again.t_ns == before.t_ns).all()
    with pytest.raises(DatasetError, match="Choose another folder"):
        render_calibration(stage, TakesConfig(1, 7000, rate_hz=3.0, free_s=3.0), 0, folder, "rig")


def test_the_command_says_what_it_did_in_one_json_line(tiny_rig_path: Path, tmp_path: Path) -> None:
    words = ["--rig", str(tiny_rig_path), "--out", str(tmp_path), "--wearers", "1", "--rate", "2", "--free", "2"]
    result = CliRunner().invoke(render_takes_command, [*words, "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["rendered_takes"] == len(CUES) + 2
    refused = CliRunner().invoke(render_takes_command, [*words, "--sloppy", "2"])
    assert refused.exit_code == 1
    assert "sloppy should lie in 0..1" in refused.output


@pytest.mark.parametrize("field", [{"look": "sideways"}, {"rate_hz": 0.5}, {"sloppy": -1.0}, {"free_s": 0.0}])
def test_a_configuration_outside_its_ranges_is_refused(field: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(field))):
        TakesConfig(**field)  # type: ignore[arg-type]  # on purpose
