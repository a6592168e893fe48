"""The errors of the contract; each message says what was expected, what was found and the remedy.

ContractError
├── FrameError     a frame or frame set that cannot exist
├── HeadError      a head of another shape, version or bundle
├── TakeError      a take file that cannot be read
└── BundleError    a bundle that is refused; `file` names the file at fault
"""


class ContractError(ValueError):
    """A value or file that does not keep what model_export.contract promises."""


class FrameError(ContractError):
    """A frame or frame set that cannot exist."""


class HeadError(ContractError):
    """A head of another shape, version or bundle."""


class TakeError(ContractError):
    """A take file that cannot be read."""


class BundleError(ContractError):
    """A bundle that is refused."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        """Name of the file at fault, relative to the bundle folder."""
