"""What a profile holds, as values. Times are whole seconds of the wall clock since 1970: a consent and its end are dates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from calibration.errors import ProfileError

UNIVERSAL: Final = 0
"""Version of the bundle's own head, which every wearer has and nobody can delete."""
_WEARER: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""As on the wire."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What a wearer agreed to."""

    version: str
    """Of the text that the wearer was shown."""
    given_unix_s: int
    keep_takes: bool
    """Whether recordings may outlive the calibration that they were made for."""
    retention_days: int
    """How long a kept take stays; it is deleted after that."""
    withdrawn_unix_s: int | None = None

    @property
    def holds(self) -> bool:
        """Whether it has not been withdrawn."""
        return self.withdrawn_unix_s is None


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """One head of a wearer."""

    version: int
    """Counts from 1; the number of a deleted head is never given again."""
    parent: int | None
    """Version that it was fitted from; that one may be deleted by now."""
    backbone_digest: str
    """Of the backbones whose features it reads."""
    created_unix_s: int
    digest: str
    """sha256 of its file."""
    byte_count: int
    report: Mapping[str, Any]
    """What held-out takes said of it."""


@dataclass(frozen=True, slots=True)
class TakeRecord:
    """One take that the wearer chose to keep."""

    number: int
    """Counts from 1 over all takes of the store."""
    cue: str
    recorded_unix_s: int
    delete_after_unix_s: int
    digest: str
    """sha256 of its file."""
    byte_count: int


@dataclass(frozen=True, slots=True)
class Profile:
    """All that is known of one wearer, without the contents of files."""

    wearer: str
    created_unix_s: int
    live_version: int
    """Of the head that answers; 0 is the bundle's universal one."""
    heads: tuple[HeadRecord, ...]
    """Every head that was made and not deleted, oldest first."""
    takes: tuple[TakeRecord, ...]
    consents: tuple[Consent, ...]
    """Every consent that was given, oldest first; at most the last one holds."""

    @property
    def consent(self) -> Consent | None:
        """The consent that holds now."""
        return self.consents[-1] if self.consents and self.consents[-1].holds else None


def check_wearer(wearer: str) -> str:
    """The wearer's identifier, after a look at its letters; raises ProfileError."""
    if not _WEARER.fullmatch(wearer):
        raise ProfileError(
            "A wearer should be 1 to 64 letters, digits, '_', '.' or '-', the first a letter or digit.",
            ascii(wearer)[:80],
            "Name the wearer by an identifier of yours.",
        )
    return wearer
