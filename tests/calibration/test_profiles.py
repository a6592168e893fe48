"""The profile store: what it keeps, what it refuses, and that a deletion leaves nothing."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import (
    ConsentError,
    LiveHeadError,
    ProfileError,
    UnknownHeadError,
    UnknownWearerError,
    WearerExistsError,
)
from calibration.profiles import Profiles, default_folder
from model_export.contract import Camera, read_head, read_take
from service.wire import WEARER_PATTERN
from tests.bundles import make_head
from tests.calibration.profile_material import DAY_S, Clock, a_take, files_of


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


def test_only_the_owner_can_read(store: Profiles, folder: Path) -> None:
    store.add_head("ada", make_head(0))
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder / "files").iterdir())


def test_the_default_folder_belongs_to_the_user() -> None:
    assert default_folder().parts[-2:] == ("mien", "profiles")
