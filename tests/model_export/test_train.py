"""Training: it learns what can be learned, goes on after a kill, and agrees with itself over processes."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from model_export.checkpoint import CHECKPOINT_FILE, RECORD_FILE, WEIGHTS_FILE
from model_export.contract import write_bundle
from model_export.errors import CheckpointError, TrainingError
from model_export.network import BackboneConfig
from model_export.train import learning_rate, train
from model_export.train_config import TrainConfig
from model_export.wearer_names import names_in
from tests.bundles import make_bundle, make_resting
from tests.model_export.shards import write_dataset
from tests.model_export.train_tiny import tiny_config

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.model_export.train_tiny", *map(str, arguments)]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_training_lowers_the_loss_and_follows_wearers_never_seen(disc_run: Path) -> None:
    logged = [line["loss"] for line in lines(disc_run) if "loss" in line]
    # the first line is of step 20, when the easy half is learned; single batches scatter
    assert sum(logged[-4:]) / 4 < 0.85 * logged[0]
    record = json.loads((disc_run / RECORD_FILE).read_text())
    assert record["result"]["unseen_r"] > 0.5  # always saying the mean has r = 0
    assert not names_in(record["data"]["trained_wearers"]) & names_in(record["data"]["held_out_wearers"])


def test_a_run_on_placed_crops_says_which_bundle_placed_them(disc_data: Path, tmp_path: Path) -> None:
    plain = make_bundle(tmp_path / "plain")
    placing = write_bundle(tmp_path / "placing", replace(plain, resting=make_resting()))
    config = replace(tiny_config(disc_data, tmp_path / "run", epochs=0.5), placed_by=tmp_path / "placing")
    train(config)
    assert json.loads((tmp_path / "run" / RECORD_FILE).read_text())["config"]["placed_by"] == placing.digest
    with pytest.raises(TrainingError, match="should tell what a face at rest tells"):
        train(replace(config, placed_by=tmp_path / "plain", out=tmp_path / "other"))


def test_a_killed_run_resumes_to_the_same_weights(disc_data: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(tiny_config(disc_data, whole, epochs=3))
    with subprocess.Popen(
        command(disc_data, killed, 3), cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    ) as run:
        deadline = time.monotonic() + 60
        while not (killed / CHECKPOINT_FILE).exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    assert not (killed / WEIGHTS_FILE).exists(), "the run ended before it was killed"
    result = train(tiny_config(disc_data, killed, epochs=3, resume=True))
    assert result is not None
    assert result.steps == 48
    expected, found = load_file(whole / WEIGHTS_FILE), load_file(killed / WEIGHTS_FILE)
    assert all((expected[name] == found[name]).all() for name in expected)


def test_a_finished_run_only_says_its_result_again(disc_data: Path, tmp_path: Path) -> None:
    first = train(tiny_config(disc_data, tmp_path, epochs=1))
    second = train(tiny_config(disc_data, tmp_path, epochs=1, resume=True))
    assert first is not None
    assert second is not None
    assert (second.steps, second.weights_sha256) == (first.steps, first.weights_sha256)


def test_two_processes_train_one_network(disc_data: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*launcher, *command(disc_data, tmp_path, 2)[1:]],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # a run whose processes ended with different parameters raises (require_same_everywhere)
    assert ended.returncode == 0, ended.stderr[-2000:]
    record = json.loads((tmp_path / RECORD_FILE).read_text())
    assert record["config"]["ranks"] == 2
    assert record["result"]["steps"] == 16  # 4 wearers x 64 frame sets x 2 epochs / (16 x 2 processes)


def test_a_run_with_a_clock_ends_when_its_minutes_are_over(disc_data: Path, tmp_path: Path) -> None:
    config = tiny_config(disc_data, tmp_path)
    timed = TrainConfig(
        data=(disc_data,),
        out=tmp_path,
        epochs=None,
        minutes=0.03,
        batch=16,
        eye=config.eye,
        mouth=config.mouth,
        device="cpu",
    )
    result = train(timed)
    assert result is not None
    assert 1.8 <= result.elapsed_s < 10
    assert result.steps > 2


def test_a_wearer_of_several_folders_is_held_out_of_all_of_them(disc_data: Path, tmp_path: Path) -> None:
    more = write_dataset(tmp_path / "more", wearers=7, frames=8)  # five of them are disc_data's
    train(replace(tiny_config(disc_data, tmp_path / "run", epochs=0.1), data=(disc_data, more), held_out=0.3))
    data = json.loads((tmp_path / "run" / RECORD_FILE).read_text())["data"]
    trained, held_out = names_in(data["trained_wearers"]), names_in(data["held_out_wearers"])
    assert len(held_out) == 2
    assert len(trained) == 5
    assert not trained & held_out
    of_both = {f"train-{seed}" for seed in range(1, 6)} & trained
    assert data["frame_sets"] == 64 * len(of_both) + 8 * 5
    assert len(data["render_configs"]) == 2


def test_a_run_goes_on_from_a_finished_one_and_counts_its_wearers(
    disc_run: Path, disc_data: Path, tmp_path: Path
) -> None:
    before = json.loads((disc_run / RECORD_FILE).read_text())
    config = replace(
        tiny_config(disc_data, tmp_path, epochs=0.1), held_out=0.4, start_from=disc_run, learning_rate=1e-9
    )
    train(config)
    record = json.loads((tmp_path / RECORD_FILE).read_text())
    for name in ("trained_wearers", "held_out_wearers"):  # named with ours, once
        assert name not in record["parent"]["data"]
        record["parent"]["data"][name] = before["data"][name]
    assert record["parent"] == before
    assert record["config"]["start_from"] == before["result"]["weights_sha256"]
    assert record["data"]["trained_wearers"] == before["data"]["trained_wearers"]
    old, new = load_file(disc_run / WEIGHTS_FILE), load_file(tmp_path / WEIGHTS_FILE)
    assert abs(old["eye.linear.weight"] - new["eye.linear.weight"]).max() < 1e-6


def test_a_run_does_not_begin_with_weights_of_another_network(disc_run: Path, disc_data: Path, tmp_path: Path) -> None:
    config = replace(tiny_config(disc_data, tmp_path), eye=BackboneConfig(), start_from=disc_run)
    with pytest.raises(CheckpointError, match="should fit this network"):
        train(config)


def test_another_configuration_is_not_resumed(disc_data: Path, tmp_path: Path) -> None:
    train(tiny_config(disc_data, tmp_path, epochs=0.25))
    with pytest.raises(CheckpointError, match="balancer"):
        train(tiny_config(disc_data, tmp_path, epochs=0.25, balancer="log", resume=True))


def test_a_damaged_checkpoint_is_named(disc_data: Path, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(CheckpointError, match=CHECKPOINT_FILE):
        train(tiny_config(disc_data, tmp_path, resume=True))


def test_the_learning_rate_rises_falls_and_never_ends() -> None:
    rates = [learning_rate(step / 100, 1.0) for step in range(101)]
    assert rates.index(max(rates)) == 3
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[3:]))
    assert 0 < rates[0] < 0.01
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": ()},
        {"epochs": None},
        {"minutes": 3.0},
        {"epochs": -1.0},
        {"batch": 1},
        {"threads": 0},
        {"learning_rate": 0.0},
    ],
)
def test_a_configuration_that_cannot_be_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    sound: dict[str, Any] = {"data": (tmp_path,), "out": tmp_path}
    with pytest.raises(TrainingError):
        TrainConfig(**(sound | wrong))
