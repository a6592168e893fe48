"""Writers of a profile store that are killed: ten of them here, hundreds by `python -m benchmarks.kill_profiles`."""

import os
from pathlib import Path

import pytest

from benchmarks.kill_profiles import State, _check, run
from calibration.profiles import Profiles
from tests.bundles import make_head


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_ten_killed_writers_leave_what_they_had_acknowledged(tmp_path: Path) -> None:
    result = run(tmp_path / "profiles", rounds=10, seed=1)
    assert result["faults"] == []
    assert sum(result["acknowledged"].values()) > 5
    assert sum(result["killed_during"].values()) == 10


def test_the_check_sees_what_it_is_there_to_see(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    store = Profiles(folder)
    store.create("ada")
    store.give_consent("ada", "1", keep_takes=True)
    for seed in range(2):
        store.add_head("ada", make_head(seed), live=True)
    fine = State(live=2, heads={1, 2})
    assert _check(store, folder, (fine, fine)) == fine
    for wrong in (
        State(1, {1, 2}),
        State(2, {1, 2, 3}),
        State(2, {2}),
        State(2, {1, 2}, {7}),
        State(2, {1, 2}, set(), True),
    ):
        with pytest.raises(AssertionError):
            _check(store, folder, (wrong, wrong))
    digest = store.profile("ada").heads[0].digest
    (folder / "files" / digest).write_bytes(b"half a he")
    with pytest.raises(Exception, match="another content"):
        _check(store, folder, (fine, fine))
