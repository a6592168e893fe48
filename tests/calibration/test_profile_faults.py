"""The profile store killed, damaged, without room, and shared by several."""

import errno
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from calibration.errors import (
    DamagedStoreError,
    ProfileError,
    StoreFullError,
    StoreVersionError,
)
from calibration.profiles import Profiles
from tests.bundles import make_head
from tests.calibration.profile_material import a_take, files_of


def test_a_killed_deletion_is_finished_by_the_next_change(store: Profiles, folder: Path) -> None:
    store.create("marker-7h3k9")
    store.give_consent("marker-7h3k9", "1", keep_takes=True)
    store.add_take("marker-7h3k9", a_take())
    store.close()
    child = multiprocessing.get_context("fork").Process(target=_die_while_deleting, args=(folder,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(files_of(folder)) == 1
    again = Profiles(folder)
    assert again.wearers() == ("ada",)
    again.purge()
    assert files_of(folder) == set()
    assert not any(b"marker-7h3k9" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def _die_while_deleting(folder: Path) -> None:
    store = Profiles(folder)
    store._finish_erasing = lambda _database: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment,return-value]
    store._tidy = True
    store.delete_wearer("marker-7h3k9")


def test_what_a_killed_writer_left_is_swept(store: Profiles, folder: Path) -> None:
    kept = store.add_head("ada", make_head(0))
    (folder / "files" / ("00" * 32)).write_bytes(b"committed by nobody")
    (folder / "files" / "half.123.tmp").write_bytes(b"hal")
    Profiles(folder).make_live("ada", 1)
    assert files_of(folder) == {kept.digest}


def test_a_damaged_file_is_named_and_the_rest_goes_on(store: Profiles, folder: Path) -> None:
    first, second = (store.add_head("ada", make_head(seed), live=True) for seed in (1, 2))
    path = folder / "files" / first.digest
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedStoreError, match=first.digest[:16]):
        store.head("ada", 1)
    path.unlink()
    with pytest.raises(DamagedStoreError, match="Found none"):
        store.head("ada", 1)
    assert store.head("ada", 2).head_version == second.version


def test_a_damaged_file_is_mended_by_storing_it_again(store: Profiles, folder: Path) -> None:
    take = store.add_take("ada", a_take())
    (folder / "files" / take.digest).write_bytes(b"")
    again = store.add_take("ada", a_take())
    assert again.digest == take.digest
    assert store.take("ada", take.number).cue == "smile"


def test_a_store_of_another_version_is_refused_by_name(folder: Path) -> None:
    folder.mkdir()
    with sqlite3.connect(folder / "profiles.sqlite") as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(StoreVersionError, match="should have version 1. Found version 7"):
        Profiles(folder).wearers()


def test_a_file_that_is_no_database_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "profiles.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(DamagedStoreError, match="whole SQLite database"):
        Profiles(folder).wearers()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ProfileError, match="MIEN_PROFILES"):
        Profiles(tmp_path / "file" / "profiles").create("ada")


def test_without_room_for_a_file_nothing_changes(
    store: Profiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_head("ada", make_head(0), live=True)

    def no_room(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("calibration.profile_files.os.fsync", no_room)
    with pytest.raises(StoreFullError, match="what was stored before is unchanged"):
        store.add_head("ada", make_head(1), live=True)
    monkeypatch.undo()
    assert store.profile("ada").live_version == 1
    assert len(files_of(folder)) == 1
    assert store.add_head("ada", make_head(1)).version == 2


def test_without_room_for_the_rows_nothing_changes(store: Profiles) -> None:
    store.add_head("ada", make_head(0), live=True)
    database = store._database
    assert database is not None
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFullError):
        _write_consents(store)
    live = store.live_head("ada")
    assert live is not None
    assert live.version == 1
    database.execute("PRAGMA max_page_count = 1000000")
    assert store.add_head("ada", make_head(1)).version == 2


def _write_consents(store: Profiles) -> None:
    for seed in range(2000):
        store.give_consent("ada", f"version {seed} of a long text {'x' * 30}")


@pytest.mark.parametrize("limit_bytes", [20_000, 60_000])
def test_a_size_limit_of_the_system_is_told_as_no_room(store: Profiles, folder: Path, limit_bytes: int) -> None:
    store.add_head("ada", make_head(0), live=True)
    store.close()
    code = (
        "import sys, pathlib\n"
        "from calibration.profiles import Profiles\nfrom calibration.errors import StoreFullError\n"
        "from tests.bundles import make_head\n"
        "try: Profiles(pathlib.Path(sys.argv[1])).add_head('ada', make_head(1), live=True)\n"
        "except StoreFullError: sys.exit(42)\n"
    )

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = subprocess.run([sys.executable, "-c", code, str(folder)], preexec_fn=small, check=False)
    assert done.returncode == 42
    assert Profiles(folder).profile("ada").live_version == 1


def test_a_full_disk_leaves_the_live_head_and_lets_the_wearer_delete(tmp_path: Path) -> None:
    code = """
import pathlib, sys
from calibration.errors import StoreFullError
from calibration.profiles import Profiles
from tests.bundles import make_head
store = Profiles(pathlib.Path(sys.argv[1]) / "profiles")
store.create("ada")
store.give_consent("ada", "1")
last = 0
try:
    for seed in range(50):
        last = store.add_head("ada", make_head(seed), live=True).version
except StoreFullError:
    again = Profiles(pathlib.Path(sys.argv[1]) / "profiles")
    assert again.profile("ada").live_version == last, "live"
    assert again.head("ada", last).head_version == last
    store.delete_head("ada", 1)
    assert store.add_head("ada", make_head(99), live=True).version == last + 1
    store.delete_wearer("ada")
    assert not list((pathlib.Path(sys.argv[1]) / "profiles" / "files").iterdir())
    sys.exit(42)
"""
    shell = f'mount -t tmpfs -o size=1m none "$0" || exit 41; exec {sys.executable} -c "$1" "$0"'
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", shell, str(tmp_path), code], check=False, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs unshare to mount a small disk")
    if done.returncode in (1, 41) and b"Traceback" not in done.stderr:
        pytest.skip("may not mount a small disk here")
    assert done.returncode == 42, done.stderr.decode()


def test_threads_and_stores_share_a_folder(store: Profiles, folder: Path) -> None:
    stores = (store, Profiles(folder))
    failed: list[Exception] = []

    def write(which: Profiles, first: int) -> None:
        try:
            for seed in range(first, first + 5):
                which.add_head("ada", make_head(seed), live=True)
                which.profile("ada")
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(stores[n % 2], 10 * n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    profile = store.profile("ada")
    assert [head.version for head in profile.heads] == list(range(1, 21))
    assert profile.live_version == 20
