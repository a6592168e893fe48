"""The errors of calibration; each says what was expected, what was found and the remedy.

CalibrationError
└── ProfileError            the profile store refuses, or cannot
    ├── UnknownWearerError      no profile of this name
    ├── UnknownHeadError        this wearer has no head, or no take, of this number
    ├── WearerExistsError       a profile of this name is there already
    ├── ConsentError            the wearer has not agreed to what was asked
    ├── LiveHeadError           what was asked cannot be done to the head that answers now
    ├── StoreFullError          no room on the disk; nothing has changed
    ├── StoreVersionError       a store written by another version of mien
    └── DamagedStoreError       a file or a table that is not what was written
"""


class CalibrationError(Exception):
    """Something that calibration refuses or cannot do."""

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{expected} Found {found}. {remedy}")
        self.expected = expected
        self.found = found
        self.remedy = remedy


class ProfileError(CalibrationError):
    """The profile store refuses, or cannot."""


class UnknownWearerError(ProfileError):
    """No profile of this name."""


class UnknownHeadError(ProfileError):
    """The wearer has no head, or no take, of this number."""


class WearerExistsError(ProfileError):
    """A profile of this name is there already."""


class ConsentError(ProfileError):
    """The wearer has not agreed to what was asked."""


class LiveHeadError(ProfileError):
    """What was asked cannot be done to the head that answers now."""


class StoreFullError(ProfileError):
    """No room on the disk; nothing has changed."""


class StoreVersionError(ProfileError):
    """A store written by another version of mien."""


class DamagedStoreError(ProfileError):
    """A file or a table that is not what was written."""
