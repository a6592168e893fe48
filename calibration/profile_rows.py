"""The rows of the profile store, read and written through a connection that the caller has opened and locked."""

import json
import sqlite3
from typing import Any, Final

from calibration.errors import ConsentError, UnknownHeadError, UnknownWearerError
from calibration.profile_records import UNIVERSAL, Consent, HeadRecord, Profile, TakeRecord

_HEAD: Final = "SELECT version, parent, backbone_digest, created_unix_s, digest, byte_count, report FROM head"
_TAKE: Final = "SELECT number, cue, recorded_unix_s, delete_after_unix_s, digest, byte_count FROM take"
_CONSENT: Final = "SELECT version, given_unix_s, keep_takes, retention_days, withdrawn_unix_s FROM consent"


def find_wearer(database: sqlite3.Connection, wearer: str) -> int | None:
    """The wearer's row number; None where there is no profile."""
    row = database.execute("SELECT id FROM wearer WHERE name = ?", (wearer,)).fetchone()
    return None if row is None else int(row[0])


def wearer_number(database: sqlite3.Connection | None, wearer: str) -> int:
    """The wearer's row number; raises UnknownWearerError, also where there is no store yet."""
    number = None if database is None else find_wearer(database, wearer)
    if number is None:
        raise UnknownWearerError("The wearer should have a profile.", ascii(wearer)[:80], "Create one first.")
    return number


def read_profile(database: sqlite3.Connection, number: int) -> Profile:
    """All rows of one wearer."""
    wearer, created = database.execute("SELECT name, created_unix_s FROM wearer WHERE id = ?", (number,)).fetchone()
    heads = database.execute(f"{_HEAD} WHERE wearer_id = ? ORDER BY version", (number,))
    takes = database.execute(f"{_TAKE} WHERE wearer_id = ? ORDER BY number", (number,))
    consents = database.execute(f"{_CONSENT} WHERE wearer_id = ? ORDER BY id", (number,))
    return Profile(
        wearer,
        created,
        live_version(database, number),
        tuple(map(_head_record, heads)),
        tuple(TakeRecord(*row) for row in takes),
        tuple(map(_consent, consents)),
    )


def live_version(database: sqlite3.Connection, number: int) -> int:
    """Version of the head that answers."""
    row = database.execute(
        "SELECT version FROM promotion WHERE wearer_id = ? ORDER BY id DESC LIMIT 1", (number,)
    ).fetchone()
    return UNIVERSAL if row is None else int(row[0])


def earlier_promotion(database: sqlite3.Connection, number: int, live: int) -> int | None:
    """Row of the newest promotion of another head than the live one."""
    row = database.execute(
        "SELECT max(id) FROM promotion WHERE wearer_id = ? AND version <> ?", (number, live)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def promote(database: sqlite3.Connection, number: int, version: int) -> None:
    """Lets a head answer; those before it stay as the way back."""
    database.execute("INSERT INTO promotion (wearer_id, version) VALUES (?, ?)", (number, version))


def read_head_record(database: sqlite3.Connection, number: int, version: int) -> HeadRecord:
    """The row of a head; raises UnknownHeadError."""
    row = database.execute(f"{_HEAD} WHERE wearer_id = ? AND version = ?", (number, version)).fetchone()
    if row is None:
        raise UnknownHeadError("The wearer should have this head.", f"no head {version}", "List the profile's heads.")
    return _head_record(row)


def insert_head(database: sqlite3.Connection, number: int, record: HeadRecord) -> None:
    """Writes the row of a new head, and that its version is taken for ever."""
    database.execute(
        "INSERT INTO head (wearer_id, version, parent, backbone_digest, created_unix_s, digest, byte_count, report) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            record.version,
            record.parent,
            record.backbone_digest,
            record.created_unix_s,
            record.digest,
            record.byte_count,
            json.dumps(dict(record.report), allow_nan=False),
        ),
    )
    database.execute("UPDATE wearer SET newest_version = ? WHERE id = ?", (record.version, number))


def next_version(database: sqlite3.Connection, number: int) -> int:
    """The version that the wearer's next head gets."""
    row = database.execute("SELECT newest_version FROM wearer WHERE id = ?", (number,)).fetchone()
    return int(row[0]) + 1


def require_consent(database: sqlite3.Connection, number: int) -> Consent:
    """The consent that holds; raises ConsentError where there is none."""
    row = database.execute(
        f"{_CONSENT} WHERE wearer_id = ? AND withdrawn_unix_s IS NULL ORDER BY id DESC LIMIT 1", (number,)
    ).fetchone()
    if row is None:
        raise ConsentError(
            "A wearer should have agreed before anything of their face is stored.",
            "no consent",
            "Ask the wearer, and record the consent.",
        )
    return _consent(row)


def withdraw_consent(database: sqlite3.Connection, number: int, now_unix_s: int) -> None:
    """Ends the consent that holds, if one does."""
    database.execute(
        "UPDATE consent SET withdrawn_unix_s = ? WHERE wearer_id = ? AND withdrawn_unix_s IS NULL",
        (now_unix_s, number),
    )


def _head_record(row: tuple[Any, ...]) -> HeadRecord:
    return HeadRecord(*(*row[:6], json.loads(row[6])))


def _consent(row: tuple[Any, ...]) -> Consent:
    return Consent(row[0], row[1], bool(row[2]), row[3], row[4])
