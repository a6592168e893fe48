"""What rest tells: what it is learnt from, and that the bundle stays what it was."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model_export.commands import resting as command
from model_export.contract import LAST_COUNT, MAP_COUNT, read_bundle, write_bundle
from model_export.resting import Fittings, own_share, resting_of, solve
from tests.bundles import make_eye_pair, make_resting


def test_what_rest_tells_is_of_every_fitting(disc_bundle: Path, disc_data: Path) -> None:
    found = resting_of(read_bundle(disc_bundle), disc_data)
    assert found.fittings == 5
    assert np.abs(found.mouth_shift_FO[:, -1]).max() == 0  # nothing is told of confidence
    assert np.abs(found.eye_shift_FO[:, -1]).max() == 0


@pytest.mark.parametrize(("told", "noise"), [(True, 0.05), (False, 0.05)])
def test_only_what_predicts_wearers_left_out_is_learnt(told: bool, noise: float) -> None:
    rng = np.random.default_rng(2)
    rest_NF = rng.normal(1, 1, (600, LAST_COUNT))
    off_NO = rng.normal(0, noise, (600, 33))
    if told:
        off_NO += 0.1 * rest_NF[:, :1] + 0.03  # what all faces share is not told by a rest
    nothing_NM = np.zeros((500, MAP_COUNT), np.float32)
    none_NLM, none_NL = np.zeros((500, 3, MAP_COUNT), np.float32), np.zeros((500, 3))
    mean_F, shift_FO = solve(Fittings(rest_NF[:500], off_NO[:500], np.arange(500) // 5, nothing_NM, none_NLM, none_NL))
    left_NO = off_NO[500:] - 0.03 * told - 0.1 * told - (rest_NF[500:] - mean_F) @ shift_FO
    before_NO = off_NO[500:] - 0.03 * told - 0.1 * told
    share = float(np.square(left_NO[:, :32]).sum() / np.square(before_NO[:, :32]).sum())
    assert share < 0.6 if told else 0.97 < share < 1.03


def moved(share: float, seconds: tuple[float, ...], *, averages_out: bool) -> Fittings:
    """400 fittings whose maps move by half of what sets faces apart in a second, and less in a mean over more."""
    rng = np.random.default_rng(3)
    made_NM = rng.normal(1, 0.3, (400, MAP_COUNT)).astype(np.float32)
    moving_NLM = np.empty((400, len(seconds), MAP_COUNT), np.float32)
    for length, over_s in enumerate(seconds):
        did_NM = rng.normal(5, 0.15 / (over_s**0.5 if averages_out else 1), (400, MAP_COUNT))
        moving_NLM[:, length] = made_NM / share + did_NM
    none_NF, seconds_NL = np.zeros((400, 1)), np.tile(np.array(seconds), (400, 1))
    return Fittings(none_NF, none_NF, np.arange(400), made_NM, moving_NLM, seconds_NL)


def test_what_a_face_did_is_told_from_how_it_is_made() -> None:
    """A share s of what sets faces apart shows at rest: noise n^2 / t is told from made^2 / s^2."""
    for share in (1.0, 0.8):
        last, half_s = own_share(moved(share, (1.0, 2.0, 4.0), averages_out=True))
        assert last == pytest.approx(share, abs=0.02)
        assert half_s == pytest.approx((0.15 * share / 0.3) ** 2, abs=0.02)


def test_a_share_that_does_not_grow_is_that_of_the_longest_mean() -> None:
    expected = 0.3**2 / (0.3**2 + 0.15**2)
    for seconds in ((3.0, 3.0, 3.0), (0.0, 0.0, 0.0)):
        np.testing.assert_allclose(own_share(moved(1.0, seconds, averages_out=False)), [expected, 0.0], atol=0.01)
    last, half_s = own_share(moved(1.0, (1.0, 2.0, 4.0), averages_out=False))
    assert last == pytest.approx(expected, abs=0.01)
    assert half_s == pytest.approx(0.0, abs=0.01)


def test_the_command_adds_it_and_changes_nothing_else(disc_bundle: Path, disc_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(disc_bundle, folder)
    before = read_bundle(folder)
    pair = make_eye_pair()
    old = replace(before, resting=make_resting(fittings=1), eye_pair=pair, training={**before.training, "eye_pair": {}})
    write_bundle(folder, old)  # made anew, whatever there was
    result = CliRunner().invoke(command, ["--bundle", str(folder), "--data", str(disc_data)])
    assert result.exit_code == 0, result.output
    after = read_bundle(folder)
    assert after.resting is not None
    assert after.eye_pair is None, "it was learnt from answers that the old rests had moved"
    others = dict(after.training).pop("others")
    assert (others["wearers"], others["rest_fittings"]) == (5, 5)
    assert {**before.training, "others": others} == after.training
    assert (after.backbone_digest, after.name) == (before.backbone_digest, before.name)
    for file in ("eye.onnx", "mouth.onnx", "head.safetensors", "golden.safetensors"):
        assert (folder / file).read_bytes() == (disc_bundle / file).read_bytes()
