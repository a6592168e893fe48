"""The scale by which a model's r is read: its closed form, and what it must do when more is unknown."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.localisation import best_r, main

NOTHING = np.zeros((4, 0))


def test_one_movement_without_anything_beside_has_the_textbook_answer() -> None:
    moves_NE = np.array([[3.0], [0.0], [4.0], [0.0]])
    signal, noise = 25 * 0.5**2, 2.0**2
    assert best_r(moves_NE, NOTHING, 2.0, std=0.5) == pytest.approx([np.sqrt(signal / (signal + noise))])


def test_what_is_unknown_beside_costs_and_what_looks_the_same_costs_all() -> None:
    moves_NE = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    free = best_r(moves_NE, NOTHING, 0.1)
    partly = best_r(moves_NE, np.array([[1.0], [0.0], [0.0], [0.0]]), 0.1)
    hidden = best_r(moves_NE, 1e4 * moves_NE[:, :1], 0.1)
    assert free[0] > partly[0] > hidden[0]
    assert hidden[0] < 0.01
    assert partly[1] == pytest.approx(free[1])


def test_the_command_tells_it_for_each_eu_of_a_rig(face_rig_path: Path) -> None:
    result = CliRunner().invoke(main, ["--rig", str(face_rig_path)], catch_exceptions=False)
    told = json.loads(result.output.splitlines()[-1])
    by_noise = list(told["mouth"]["mean_r"].values())
    assert by_noise == sorted(by_noise, reverse=True)
    assert all(told["mouth"]["mean_r_neutral_known"][noise] > r for noise, r in told["mouth"]["mean_r"].items())
