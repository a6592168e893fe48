"""Brings each wearer's own head from the profile store to the engine; the live path never waits for the disk they lie on.

A head that cannot be used (of other backbones, damaged) is refused with the reason in the log, and the bundle's head answers.
"""

import asyncio
import logging
import threading
from typing import Final

from calibration.errors import ProfileError
from calibration.profiles import HeadRecord, Profiles
from model_export.contract import HeadError
from service.heads import Heads

_log: Final = logging.getLogger("mien.wearers")


class Wearers:
    """The wearers whose heads are in use. `profiles` None: everybody gets the bundle's head."""

    def __init__(self, profiles: Profiles | None, heads: Heads) -> None:
        self.profiles = profiles
        self._heads = heads
        self._digests: dict[str, str] = {}
        """File of the head in use of each wearer; a version may be another head's after its wearer was deleted."""
        self._lock = threading.Lock()  # from looking which head is live to its swap: the last look wins

    def bring_all(self) -> None:
        """Every wearer's live head, before the first frame; erases what retention has passed. Waits for the disk."""
        if self.profiles is None:
            return
        try:
            self.profiles.purge()
            wearers = self.profiles.wearers()
        except ProfileError as error:
            _log.warning("profiles refused, the bundle's head answers for everybody: %s", error)
            return
        for wearer in wearers:
            self.bring_now(wearer)

    async def bring(self, wearer: str) -> None:
        """The wearer's live head as the store has it now; the event loop goes on meanwhile."""
        if self.profiles is not None:
            await asyncio.to_thread(self.bring_now, wearer)

    def bring_now(self, wearer: str) -> None:
        """The same, waiting for the disk."""
        if self.profiles is None:
            return
        with self._lock:
            try:
                record = self.profiles.live_head(wearer)
                if record is None:
                    self._forget(wearer)
                elif record.digest != self._digests.get(wearer):
                    self._take(wearer, record, self.profiles)
            except (ProfileError, HeadError) as error:
                _log.warning("head refused wearer=%s, the bundle's head answers: %s", wearer, error)
                self._forget(wearer)

    def _take(self, wearer: str, record: HeadRecord, profiles: Profiles) -> None:
        before = self._heads.swap(wearer, profiles.head(wearer, record.version))
        self._digests[wearer] = record.digest
        _log.info("head live wearer=%s version=%d before=%d", wearer, record.version, before.head_version)

    def _forget(self, wearer: str) -> None:
        if self._digests.pop(wearer, None) is not None:
            self._heads.forget(wearer)
            _log.info("head gone wearer=%s, the bundle's head answers", wearer)
