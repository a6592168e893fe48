"""Fixtures of a profile store with one wearer, and of a session that has begun."""

from pathlib import Path

import pytest

from calibration.profiles import Profiles
from tests.calibration.profile_material import Clock
from tests.calibration.session_driver import Driver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "profiles"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(folder: Path, clock: Clock) -> Profiles:
    store = Profiles(folder, now_unix_s=clock)
    store.create("ada")
    store.give_consent("ada", "1", keep_takes=True, retention_days=7)
    return store


@pytest.fixture
def driver() -> Driver:
    return Driver().begin()
