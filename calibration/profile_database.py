"""The tables of the profile store, and connections to them: SQLite with a write-ahead log, every commit on the disk at its end.

Store versions (PRAGMA user_version; application_id "mien")
    1   wearer, consent, head, promotion, take, chore.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from calibration.errors import DamagedStoreError, ProfileError, StoreFullError, StoreVersionError

STORE_VERSION: Final = 1
DATABASE_NAME: Final = "profiles.sqlite"
LOCK_WAIT_S: Final = 10.0
"""How long a writer waits for another process that writes."""
_APPLICATION_ID: Final = int.from_bytes(b"mien", "big")
_SCHEMA: Final = """
CREATE TABLE wearer (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_unix_s INTEGER NOT NULL,
    newest_version INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE consent (
    id INTEGER PRIMARY KEY,
    wearer_id INTEGER NOT NULL REFERENCES wearer(id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    given_unix_s INTEGER NOT NULL,
    keep_takes INTEGER NOT NULL,
    retention_days INTEGER NOT NULL,
    withdrawn_unix_s INTEGER
) STRICT;
CREATE TABLE head (
    wearer_id INTEGER NOT NULL REFERENCES wearer(id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    parent INTEGER,
    backbone_digest TEXT NOT NULL,
    created_unix_s INTEGER NOT NULL,
    digest TEXT NOT NULL,
    byte_count INTEGER NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (wearer_id, version)
) STRICT;
CREATE TABLE promotion (
    id INTEGER PRIMARY KEY,
    wearer_id INTEGER NOT NULL REFERENCES wearer(id) ON DELETE CASCADE,
    version INTEGER NOT NULL
) STRICT;
CREATE TABLE take (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    wearer_id INTEGER NOT NULL REFERENCES wearer(id) ON DELETE CASCADE,
    cue TEXT NOT NULL,
    recorded_unix_s INTEGER NOT NULL,
    delete_after_unix_s INTEGER NOT NULL,
    digest TEXT NOT NULL,
    byte_count INTEGER NOT NULL
) STRICT;
CREATE TABLE chore (number INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;
"""
"""The last row of `promotion` of a wearer is the live head, those before it are the way back. A row in `chore` is erasing that a
killed process has begun: the next one finishes it."""
_FULL_CODES: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""The last two: a quota or a size limit of the system, met in the log and in its index."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def connect(folder: Path) -> sqlite3.Connection:
    """A connection to the store in `folder`, its tables made if there are none; raises ProfileError.

    Statements commit themselves except between BEGIN and COMMIT. Any one thread at a time may use it.
    """
    with told(folder):
        database = sqlite3.connect(
            folder / DATABASE_NAME, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(database, folder)
        except BaseException:
            database.close()
            raise
        return database


def _prepare(database: sqlite3.Connection, folder: Path) -> None:
    for setting in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",  # what is deleted is overwritten with zeros
        "temp_store = MEMORY",  # VACUUM would copy names into a file in /tmp
        "trusted_schema = OFF",
    ):
        database.execute(f"PRAGMA {setting}")
    if _number(database, "user_version") == STORE_VERSION:
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        version = _number(database, "user_version")
        tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if version == 0 and not tables:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {STORE_VERSION}")
        elif version != STORE_VERSION:
            raise StoreVersionError(
                f"The profile store should have version {STORE_VERSION}.",
                f"version {version} in {folder.name}",
                "Use the mien that wrote it, or another folder.",
            )
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _number(database: sqlite3.Connection, pragma: str) -> int:
    return int(database.execute(f"PRAGMA {pragma}").fetchone()[0])


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turns what SQLite and the file system raise into a ProfileError that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translated(error, folder) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _full(folder) from error
        raise ProfileError(
            "The profile store should be a folder that can be read and written.",
            f"{error.strerror or error} in {folder.name}",
            "Look at the folder's owner and rights, or set MIEN_PROFILES to another one.",
        ) from error


def _translated(error: sqlite3.DatabaseError, folder: Path) -> ProfileError:
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _FULL_CODES:
        return _full(folder)
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedStoreError(
            f"{DATABASE_NAME} should be a whole SQLite database.",
            str(error),
            "Restore the folder from a backup, or move it away to begin anew.",
        )
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ProfileError(
            "The profile store should be free to write.",
            f"another process writing for {LOCK_WAIT_S:g} s",
            "Try again when it has finished.",
        )
    return ProfileError(
        "The profile store should be a folder that can be read and written.",
        f"{error} in {folder.name}",
        "Look at the folder's owner and rights, or set MIEN_PROFILES to another one.",
    )


def _full(folder: Path) -> StoreFullError:
    return StoreFullError(
        "The profile store should have room on its disk.",
        f"none in {folder.name}",
        "Make room and try again; what was stored before is unchanged.",
    )
