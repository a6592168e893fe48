"""Files named by their sha256: once `put` has returned, neither a killed process nor a lost power supply takes them away.

    put     write beside, fsync, rename, fsync of the folder; the row that names the file is committed after that
    remove  after the row is gone
    sweep   what a killed process left between the two: files that no row names, and files half written

Put and sweep exclude each other by the write lock of the database, which their caller holds.
"""

import hashlib
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

from calibration.errors import DamagedStoreError

BALLAST_BYTES: Final = 256 << 10
"""SQLite writes some 10 pages of 4 KiB into its log to delete rows; the files that go then make room for the rest."""
_HALF_WRITTEN: Final = ".tmp"


class ContentFiles:
    """A folder of immutable files, each named by its content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """The digest under which `data` is on the disk from now on; raises OSError and leaves nothing behind."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / digest
        if not path.exists() or path.read_bytes() != data:
            half = self._folder / f"{digest}.{os.getpid()}{_HALF_WRITTEN}"
            try:
                write_durably(half, data)
                half.replace(path)
            except OSError:
                half.unlink(missing_ok=True)
                raise
        sync_folder(self._folder)  # also for a file that a process killed right here has left in place
        return digest

    def get(self, digest: str) -> bytes:
        """The content; raises DamagedStoreError when it is not there, or not what was put."""
        try:
            data = (self._folder / digest).read_bytes()
        except FileNotFoundError:
            raise _damaged(digest, "none") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise _damaged(digest, f"{len(data)} bytes of another content")
        return data

    def remove(self, digests: Collection[str]) -> None:
        """Takes these files away."""
        for digest in digests:
            (self._folder / digest).unlink(missing_ok=True)
        if digests:
            sync_folder(self._folder)

    def sweep(self, named: Collection[str]) -> int:
        """Takes every file away that is not among the digests `named`; gives how many there were."""
        stray = [path for path in self._folder.iterdir() if path.name not in named]
        for path in stray:
            path.unlink(missing_ok=True)
        if stray:
            sync_folder(self._folder)
        return len(stray)


class Ballast:
    """A file that only takes room, so that a wearer can delete on a full disk: a deletion needs a little before it gives much."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Takes the room, if it is to be had and not taken yet."""
        if self._path.exists() and self._path.stat().st_size == BALLAST_BYTES:
            return
        try:
            write_durably(self._path, os.urandom(BALLAST_BYTES))  # zeros would take no room on some file systems
        except OSError:
            self._path.unlink(missing_ok=True)  # the disk is full already; the next change tries again

    def drop(self) -> None:
        """Gives the room back."""
        self._path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file that only its owner reads, and waits until the disk has it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder; Windows has no such call and orders them itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(digest: str, found: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"The profile store should hold the file {digest[:16]} as it was written.",
        found,
        "Restore the folder from a backup, or delete the head or take that names the file.",
    )
