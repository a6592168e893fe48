"""The profile store: each wearer's heads, the live one among them, kept takes and consent, in one folder that survives kill -9.

    <folder>/profiles.sqlite    the rows (calibration.profile_database, .profile_rows)
    <folder>/files/<sha256>     heads and takes (calibration.profile_files)
    <folder>/ballast            room that a deletion may need on a full disk

A change is: BEGIN IMMEDIATE, file on the disk, row, COMMIT. What a call has returned is there after any crash; a call that never
returned has happened whole or not at all. A deletion is: row gone, file gone, database rewritten, log emptied; where it was
killed, the next change finishes it. Files are unlinked, not overwritten: a disk may keep their blocks until it needs them.
"""

import json
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import platformdirs

from calibration import profile_rows as rows
from calibration.errors import (
    ConsentError,
    DamagedStoreError,
    LiveHeadError,
    ProfileError,
    UnknownHeadError,
    UnknownWearerError,
    WearerExistsError,
)
from calibration.profile_database import DATABASE_NAME, connect, told
from calibration.profile_files import Ballast, ContentFiles, sync_folder
from calibration.profile_records import UNIVERSAL, Consent, HeadRecord, Profile, TakeRecord, check_wearer
from model_export.contract import Head, HeadError, Take, TakeError, read_head, read_take, write_head, write_take

__all__ = ["UNIVERSAL", "Consent", "HeadRecord", "Profile", "Profiles", "TakeRecord", "default_folder"]

EXPORT_VERSION: Final = 1
"""Of profile.json in an export: 1 wearer, created_unix_s, live_version, heads, takes, consents."""
_DAY_S: Final = 86_400


def default_folder() -> Path:
    """Where this user's profiles lie when no setting says otherwise; does not make it."""
    return Path(platformdirs.user_data_dir("mien", appauthor=False)) / "profiles"


class Profiles:
    """The store in one folder, which the first profile makes. Any thread may call; several processes may share the folder.

    Every call may wait for the disk: never call from an event loop or the inference thread. Raises ProfileError.
    """

    def __init__(self, folder: Path, *, now_unix_s: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._files = ContentFiles(folder / "files")
        self._ballast = Ballast(folder / "ballast")
        self._now_unix_s = now_unix_s
        self._lock = threading.RLock()  # of the connection
        self._database: sqlite3.Connection | None = None
        self._tidy = False

    def close(self) -> None:
        """Gives the database back; a later call opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    # Profiles and consent

    def create(self, wearer: str) -> Profile:
        """A new, empty profile."""
        check_wearer(wearer)
        with self._changing(make=True) as database:
            if rows.find_wearer(database, wearer) is not None:
                raise WearerExistsError(
                    "A new profile should have a name of its own.", repr(wearer), "Use that profile."
                )
            row = (wearer, self._now())
            database.execute("INSERT INTO wearer (name, created_unix_s) VALUES (?, ?)", row)
            return rows.read_profile(database, rows.wearer_number(database, wearer))

    def wearers(self) -> tuple[str, ...]:
        """Every wearer with a profile, by name."""
        with self._reading() as database:
            if database is None:
                return ()
            return tuple(name for (name,) in database.execute("SELECT name FROM wearer ORDER BY name"))

    def profile(self, wearer: str) -> Profile:
        """All that is known of a wearer."""
        with self._reading() as database:
            number = rows.wearer_number(database, wearer)
            assert database is not None
            return rows.read_profile(database, number)

    def give_consent(self, wearer: str, version: str, *, keep_takes: bool = False, retention_days: int = 30) -> Profile:
        """Writes down that the wearer agreed to the text of this version, and replaces an earlier consent."""
        if not 1 <= len(version) <= 64 or not 1 <= retention_days <= 3650:
            raise ConsentError(
                "A consent should name the version of its text, 1 to 64 letters, and 1 to 3650 days of retention.",
                f"{ascii(version)[:80]}, {retention_days} days",
                "Name the version of the text that the wearer was shown.",
            )
        with self._changing() as database:
            number = rows.wearer_number(database, wearer)
            rows.withdraw_consent(database, number, self._now())
            database.execute(
                "INSERT INTO consent (wearer_id, version, given_unix_s, keep_takes, retention_days) "
                "VALUES (?, ?, ?, ?, ?)",
                (number, version, self._now(), keep_takes, retention_days),
            )
            return rows.read_profile(database, number)

    def withdraw_consent(self, wearer: str) -> Profile:
        """Ends the consent that holds, and erases every kept take. Heads stay until they, or the wearer, are deleted."""
        with self._erasing() as database:
            number = rows.wearer_number(database, wearer)
            rows.withdraw_consent(database, number, self._now())
            database.execute("DELETE FROM take WHERE wearer_id = ?", (number,))
        return self.profile(wearer)

    # Heads

    def add_head(self, wearer: str, head: Head, *, live: bool = False) -> HeadRecord:
        """Keeps a head under the wearer's next version, whatever version it holds; `live`: it answers from now on, too."""
        with self._changing() as database:
            number = rows.wearer_number(database, wearer)
            rows.require_consent(database, number)
            version = rows.next_version(database, number)
            data = write_head(replace(head, head_version=version))
            digest = self._files.put(data)
            record = HeadRecord(
                version, head.parent, head.backbone_digest, self._now(), digest, len(data), dict(head.report)
            )
            rows.insert_head(database, number, record)
            if live:
                rows.promote(database, number, version)
        return record

    def make_live(self, wearer: str, version: int) -> None:
        """Lets this head answer for the wearer; 0 is the bundle's universal one."""
        with self._changing() as database:
            number = rows.wearer_number(database, wearer)
            if version != UNIVERSAL:
                rows.read_head_record(database, number, version)
            if version != rows.live_version(database, number):
                rows.promote(database, number, version)

    def roll_back(self, wearer: str) -> int:
        """Lets the head answer that did so before the live one, and gives its version."""
        with self._changing() as database:
            number = rows.wearer_number(database, wearer)
            live = rows.live_version(database, number)
            earlier = rows.earlier_promotion(database, number, live)
            if earlier is None and live == UNIVERSAL:
                raise LiveHeadError(
                    "A head should have answered before the live one.", "none", "Calibrate, or make a head live first."
                )
            database.execute("DELETE FROM promotion WHERE wearer_id = ? AND id > ?", (number, earlier or 0))
            return rows.live_version(database, number)

    def live_head(self, wearer: str) -> HeadRecord | None:
        """The head that answers for a wearer; None for the universal one, also where there is no profile."""
        with self._reading() as database:
            number = None if database is None else rows.find_wearer(database, wearer)
            if database is None or number is None:
                return None
            live = rows.live_version(database, number)
            return None if live == UNIVERSAL else rows.read_head_record(database, number, live)

    def head_file(self, wearer: str, version: int) -> bytes:
        """A head as the file that was written."""
        with self._reading() as database:
            number = rows.wearer_number(database, wearer)
            assert database is not None
            return self._files.get(rows.read_head_record(database, number, version).digest)

    def head(self, wearer: str, version: int) -> Head:
        """A head, read from its file."""
        data = self.head_file(wearer, version)
        try:
            return read_head(data)
        except HeadError as error:
            raise DamagedStoreError(
                f"Head {version} of {wearer!r} should be readable.", str(error), "Delete it and calibrate again."
            ) from error

    def delete_head(self, wearer: str, version: int) -> None:
        """Erases a head that is not live."""
        with self._erasing() as database:
            number = rows.wearer_number(database, wearer)
            rows.read_head_record(database, number, version)
            if rows.live_version(database, number) == version:
                raise LiveHeadError(
                    "A head that is deleted should not be the one that answers.",
                    f"head {version} live",
                    "Roll back, or make another head live first.",
                )
            database.execute("DELETE FROM promotion WHERE wearer_id = ? AND version = ?", (number, version))
            database.execute("DELETE FROM head WHERE wearer_id = ? AND version = ?", (number, version))

    # Takes

    def add_take(self, wearer: str, take: Take) -> TakeRecord:
        """Keeps a take for as long as the wearer agreed to; raises ConsentError where the wearer did not."""
        data = write_take(take)
        with self._changing() as database:
            number = rows.wearer_number(database, wearer)
            consent = rows.require_consent(database, number)
            if not consent.keep_takes:
                raise ConsentError(
                    "A wearer should have chosen to keep recordings.",
                    "a consent without that",
                    "Ask for it, or let the recording go with the calibration.",
                )
            now = self._now()
            row = (take.cue, now, now + consent.retention_days * _DAY_S, self._files.put(data), len(data))
            cursor = database.execute(
                "INSERT INTO take (wearer_id, cue, recorded_unix_s, delete_after_unix_s, digest, byte_count) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (number, *row),
            )
            assert cursor.lastrowid is not None
            return TakeRecord(cursor.lastrowid, *row)

    def take(self, wearer: str, number: int) -> Take:
        """A kept take, read from its file."""
        found = [record for record in self.profile(wearer).takes if record.number == number]
        if not found:
            raise UnknownHeadError(
                "The wearer should have this take.", f"no take {number}", "List the profile's takes."
            )
        try:
            return read_take(self._files.get(found[0].digest))
        except TakeError as error:
            raise DamagedStoreError(f"Take {number} should be readable.", str(error), "Record it again.") from error

    def purge(self) -> int:
        """Erases every take whose time is over, and gives how many there were; finishes what a killed process left."""
        with self._reading() as database:
            if database is None:
                return 0
        with self._changing() as database:
            over = "FROM take WHERE delete_after_unix_s <= ?"
            count = int(database.execute(f"SELECT count(*) {over}", (self._now(),)).fetchone()[0])
            if not count:
                return 0
        with self._erasing() as database:
            return database.execute(f"DELETE {over}", (self._now(),)).rowcount

    # The whole profile

    def export(self, wearer: str, path: Path) -> None:
        """Writes everything known of a wearer into one zip file: profile.json, heads and takes as they are."""
        half = path.with_name(path.name + ".tmp")
        with told(path.parent), self._changing() as database:  # nobody deletes what is being copied
            profile = rows.read_profile(database, rows.wearer_number(database, wearer))
            try:
                with zipfile.ZipFile(half, "w") as archive:
                    archive.writestr(
                        "profile.json", json.dumps({"version": EXPORT_VERSION, **asdict(profile)}, indent=1)
                    )
                    for head in profile.heads:
                        archive.writestr(f"heads/{head.version}.safetensors", self._files.get(head.digest))
                    for take in profile.takes:
                        archive.writestr(f"takes/{take.number}-{take.cue}.take", self._files.get(take.digest))
                half.replace(path)
            finally:
                half.unlink(missing_ok=True)

    def delete_wearer(self, wearer: str) -> None:
        """Erases a profile so that nothing of it is left in the folder, nor in the database's free pages or log."""
        with self._erasing() as database:
            database.execute("DELETE FROM wearer WHERE id = ?", (rows.wearer_number(database, wearer),))

    # The only places that open, begin and end

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """One state of the store, whatever others write meanwhile; None where there is no store yet."""
        with self._lock, told(self._folder):
            database = self._opened(make=False)
            if database is None:
                yield None
                return
            database.execute("BEGIN")
            try:
                yield database
            finally:
                database.execute("ROLLBACK")

    @contextmanager
    def _changing(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock, told(self._folder):
            database = self._opened(make=make)
            if database is None:
                raise UnknownWearerError("The wearer should have a profile.", "no profiles", "Create one first.")
            if not self._tidy:
                self._tidy = self._finish_erasing(database)
                self._ballast.take()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    @contextmanager
    def _erasing(self) -> Iterator[sqlite3.Connection]:
        """A change after which the files that no row names any more, and all traces of deleted rows, are gone."""
        with self._lock, told(self._folder):
            with self._changing() as database:
                yield database
                database.execute("INSERT INTO chore DEFAULT VALUES")
                self._tidy = False
                self._ballast.drop()
            self._tidy = self._finish_erasing(database)
            self._ballast.take()
            if not self._tidy:
                raise ProfileError(
                    "The store's log should be emptied after a deletion.",
                    "another process that reads it",
                    "What was deleted is out of use; its last traces go with the next change.",
                )

    def _finish_erasing(self, database: sqlite3.Connection) -> bool:
        """Takes away files that no row names; where rows were deleted, also what SQLite still holds of them."""
        database.execute("BEGIN IMMEDIATE")  # so that nobody is between a file and its row
        try:
            self._files.sweep(
                {name for (name,) in database.execute("SELECT digest FROM head UNION SELECT digest FROM take")}
            )
            chore = database.execute("SELECT max(number) FROM chore").fetchone()[0]
        finally:
            database.execute("ROLLBACK")
        if chore is None:
            return True
        database.execute("VACUUM")
        if not _empty_log(database):
            return False
        database.execute("DELETE FROM chore WHERE number <= ?", (chore,))
        return True

    def _opened(self, *, make: bool) -> sqlite3.Connection | None:
        if self._database is None:
            if not make and not (self._folder / DATABASE_NAME).exists():
                return None
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / "files").mkdir(mode=0o700, exist_ok=True)
            self._database = connect(self._folder)
            sync_folder(self._folder)
        return self._database

    def _now(self) -> int:
        return int(self._now_unix_s())


def _empty_log(database: sqlite3.Connection) -> bool:
    return not database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
