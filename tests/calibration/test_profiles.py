"""The profile store: what it keeps, what it refuses, and that a deletion leaves nothing."""

import errno
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import (
    ConsentError,
    DamagedStoreError,
    LiveHeadError,
    ProfileError,
    StoreFullError,
    StoreVersionError,
    UnknownHeadError,
    UnknownWearerError,
    WearerExistsError,
)
from calibration.profiles import Profiles, default_folder
from model_export.contract import Camera, Take, read_head, read_take
from model_export.contract.take import Encoding
from service.wire import WEARER_PATTERN
from tests.bundles import make_head

DAY_S = 86_400


class Clock:
    def __init__(self) -> None:
        self.unix_s = 1_800_000_000

    def __call__(self) -> float:
        return float(self.unix_s)


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


def a_take(seed: int = 0, cue: str = "smile") -> Take:
    images = np.random.default_rng(seed).integers(0, 256, (2, 64), np.uint8)
    return Take(
        cue, Encoding.GRAY8, np.array([1, 2], np.int64), {Camera.MOUTH: tuple(map(bytes, images))}, size_px=(8, 8)
    )


def files_of(folder: Path) -> set[str]:
    return {path.name for path in (folder / "files").iterdir()}


def test_a_new_profile_answers_with_the_universal_head(store: Profiles, clock: Clock) -> None:
    profile = store.profile("ada")
    assert (profile.live_version, profile.heads, profile.takes) == (0, (), ())
    assert profile.created_unix_s == clock.unix_s
    assert profile.consent is not None
    assert (profile.consent.version, profile.consent.given_unix_s) == ("1", clock.unix_s)
    assert store.live_head("ada") is None
    assert store.live_head("bo") is None
    assert store.wearers() == ("ada",)


def test_a_store_that_nobody_has_written_to_is_empty_and_is_not_made(folder: Path) -> None:
    store = Profiles(folder)
    assert store.wearers() == ()
    assert store.live_head("ada") is None
    assert store.purge() == 0
    with pytest.raises(UnknownWearerError):
        store.profile("ada")
    with pytest.raises(UnknownWearerError):
        store.give_consent("ada", "1")
    assert not folder.exists()


def test_heads_are_numbered_kept_and_read_back(store: Profiles, folder: Path) -> None:
    head = make_head(1, backbone_digest="ab" * 32)
    first = store.add_head("ada", head)
    second = store.add_head("ada", make_head(2), live=True)
    assert (first.version, second.version) == (1, 2)
    assert first.backbone_digest == "ab" * 32
    again = Profiles(folder)
    found = again.head("ada", 1)
    assert found.head_version == 1
    np.testing.assert_array_equal(found.mouth.weight_FO, head.mouth.weight_FO)
    assert again.profile("ada").live_version == 2
    live = again.live_head("ada")
    assert live == second == again.profile("ada").heads[1]
    assert read_head(again.head_file("ada", 2)).head_version == 2


def test_rolling_back_walks_the_way_that_was_taken(store: Profiles) -> None:
    for seed in range(3):
        store.add_head("ada", make_head(seed), live=True)
    store.make_live("ada", 1)
    store.make_live("ada", 1)
    assert [store.roll_back("ada") for _ in range(4)] == [3, 2, 1, 0]
    with pytest.raises(LiveHeadError, match="Found none"):
        store.roll_back("ada")
    store.make_live("ada", 2)
    store.make_live("ada", 0)
    assert store.live_head("ada") is None
    assert store.roll_back("ada") == 2


def test_a_deleted_head_leaves_the_way_back_and_its_number_is_not_used_again(store: Profiles, folder: Path) -> None:
    records = [store.add_head("ada", make_head(seed), live=True) for seed in range(3)]
    with pytest.raises(LiveHeadError, match="head 3 live"):
        store.delete_head("ada", 3)
    store.delete_head("ada", 2)
    assert files_of(folder) == {records[0].digest, records[2].digest}
    assert store.roll_back("ada") == 1
    store.delete_head("ada", 3)
    assert store.add_head("ada", make_head(9)).version == 4
    with pytest.raises(UnknownHeadError):
        store.head("ada", 2)
    with pytest.raises(UnknownHeadError):
        store.make_live("ada", 3)


def test_nothing_is_stored_without_consent(store: Profiles, folder: Path) -> None:
    store.create("bo")
    with pytest.raises(ConsentError, match="agreed before"):
        store.add_head("bo", make_head(0))
    with pytest.raises(ConsentError):
        store.add_take("bo", a_take())
    store.give_consent("bo", "1")
    store.add_head("bo", make_head(0))
    with pytest.raises(ConsentError, match="chosen to keep recordings"):
        store.add_take("bo", a_take())
    assert len(files_of(folder)) == 1


def test_withdrawing_consent_erases_takes_and_keeps_a_record_of_both_times(
    store: Profiles, folder: Path, clock: Clock
) -> None:
    store.add_take("ada", a_take())
    store.add_head("ada", make_head(0), live=True)
    clock.unix_s += 60
    profile = store.withdraw_consent("ada")
    assert profile.takes == ()
    assert profile.consent is None
    assert profile.consents[0].withdrawn_unix_s == clock.unix_s
    assert len(files_of(folder)) == 1
    with pytest.raises(ConsentError):
        store.add_head("ada", make_head(1))
    again = store.give_consent("ada", "2")
    assert again.consent is not None
    assert [consent.version for consent in again.consents] == ["1", "2"]


@pytest.mark.parametrize(("version", "days"), [("", 30), ("x" * 65, 30), ("1", 0), ("1", 4000)])
def test_a_consent_without_version_or_end_is_refused(store: Profiles, version: str, days: int) -> None:
    with pytest.raises(ConsentError, match="1 to 3650 days"):
        store.give_consent("ada", version, retention_days=days)


def test_takes_are_kept_until_their_time_is_over(store: Profiles, folder: Path, clock: Clock) -> None:
    first = store.add_take("ada", a_take(0))
    clock.unix_s += 6 * DAY_S
    second = store.add_take("ada", a_take(1, "frown"))
    assert store.purge() == 0
    np.testing.assert_array_equal(store.take("ada", first.number).t_ns, [1, 2])
    clock.unix_s += DAY_S
    assert store.purge() == 1
    assert store.profile("ada").takes == (second,)
    assert files_of(folder) == {second.digest}
    with pytest.raises(UnknownHeadError):
        store.take("ada", first.number)


def test_an_export_holds_everything(store: Profiles, tmp_path: Path) -> None:
    store.add_head("ada", make_head(3), live=True)
    store.add_take("ada", a_take())
    store.export("ada", tmp_path / "ada.zip")
    with zipfile.ZipFile(tmp_path / "ada.zip") as archive:
        about = json.loads(archive.read("profile.json"))
        assert read_head(archive.read("heads/1.safetensors")).head_version == 1
        assert read_take(archive.read("takes/1-smile.take")).cue == "smile"
    assert (about["version"], about["wearer"], about["live_version"]) == (1, "ada", 1)
    assert about["consents"][0]["version"] == "1"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["ada.zip"]


def test_deleting_a_wearer_leaves_nothing(store: Profiles, folder: Path) -> None:
    store.create("marker-7h3k9")
    store.give_consent("marker-7h3k9", "text-5x8q2", keep_takes=True)
    store.add_head("marker-7h3k9", make_head(0), live=True)
    shared = store.add_head("ada", make_head(0))
    take = store.add_take("marker-7h3k9", a_take(5, "cue-2w6r4"))
    content = a_take(5).images[Camera.MOUTH][0]
    reader = Profiles(folder)  # another process that has read it stays open
    assert len(reader.profile("marker-7h3k9").takes) == 1
    store.delete_wearer("marker-7h3k9")
    assert files_of(folder) == {shared.digest}
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for trace in (b"marker-7h3k9", b"text-5x8q2", b"cue-2w6r4", take.digest.encode(), content):
                assert trace not in data, path.name
    with pytest.raises(UnknownWearerError):
        reader.profile("marker-7h3k9")
    assert reader.head("ada", 1).head_version == 1


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


@pytest.mark.parametrize("wearer", ["", "../ada", "a b", "-x", "a" * 65, "ada\n", "äda"])
def test_a_name_that_the_wire_refuses_is_refused(store: Profiles, wearer: str) -> None:
    with pytest.raises(ProfileError, match="A wearer should be"):
        store.create(wearer)


def test_names_are_those_of_the_wire() -> None:
    from calibration.profile_records import _WEARER

    assert _WEARER.pattern == WEARER_PATTERN


def test_a_name_is_taken_once(store: Profiles) -> None:
    with pytest.raises(WearerExistsError):
        store.create("ada")


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


def test_only_the_owner_can_read(store: Profiles, folder: Path) -> None:
    store.add_head("ada", make_head(0))
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder / "files").iterdir())


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


def test_the_default_folder_belongs_to_the_user() -> None:
    assert default_folder().parts[-2:] == ("mien", "profiles")
