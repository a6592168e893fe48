"""When and whom to kill during a calibration, and the thread that does it with SIGKILL.

Half of the moments are drawn over the whole course of a calibration, from the first frame set to a second after the report. The
others are aimed at the store: up to ten milliseconds, mostly few, after the first sign of a new file of a take or of the head,
half written or whole: writing takes a thousandth of the time and would hardly ever be met.
"""

import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.service_process import ServiceProcess
from benchmarks.short_calibrations import CUES
from benchmarks.simulated_wearer import Calibrated

SERVICE: Final = "service"
WORKER: Final = "worker"
PHASES: Final = {"starting": "worker loading", "cue": "countdown", "report": "reported"}
"""Events of a calibration whose names say too little of what goes on after them."""
_LOOK_S: Final = 0.0005
_GONE_S: Final = 10.0
"""How long the worker of a killed service may live on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One kill."""

    victim: str
    """`SERVICE` or `WORKER`; the service where no worker runs at that moment."""
    file: int
    """From which new file of the store on the time counts; 0: from the start."""
    after_s: float

    @classmethod
    def drawn(cls, random_: random.Random, course_s: float) -> "Plan":
        """Anywhere in a calibration that lasts `course_s`."""
        victim = random_.choice((SERVICE, SERVICE, WORKER))
        if random_.random() < 0.5:
            return cls(victim, 0, random_.uniform(0.0, course_s))
        head = len(CUES) + 1
        file = head if random_.random() < 0.4 else random_.randint(1, len(CUES))
        return cls(victim, file, 0.01 * random_.random() ** 2)


class Killer(threading.Thread):
    """Carries a plan out; at the end of the calibration at the latest."""

    def __init__(self, plan: Plan, service: ServiceProcess, found: Calibrated, files: Path) -> None:
        super().__init__(daemon=True)
        self.killed = ""
        """Whom it killed; empty where the service was dead already."""
        self.phase = "streaming"
        """What the calibration did."""
        self.orphans = 0
        """Workers of a killed service that did not end by themselves."""
        self._plan = plan
        self._service = service
        self._found = found
        self._files = files
        self._over = threading.Event()
        self._there_before = self._stored()

    def calibration_over(self) -> None:
        """Nothing more is to be waited for; returns when it has killed."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Waits, kills, and waits until the dead are gone."""
        while self._plan.file and not self._over.is_set():
            if len(self._stored() - self._there_before) >= self._plan.file:
                break
            time.sleep(_LOOK_S)
        self._over.wait(self._plan.after_s)
        if self._found.events:
            event = self._found.events[-1].event
            self.phase = PHASES.get(event, event)
        if not self._service.running:
            return
        workers = psutil.Process(self._service.pid).children()
        if self._plan.victim == WORKER and workers:
            self.killed = WORKER
            for worker in workers:
                worker.kill()
            return
        self.killed = SERVICE
        self._service.kill()
        self.orphans = len(psutil.wait_procs(workers, timeout=_GONE_S)[1])

    def _stored(self) -> set[str]:
        """Digests of the files of the store, the half written ones too."""
        try:
            return {name.partition(".")[0] for name in os.listdir(self._files)}  # noqa: PTH208 - 20 us, looked at all the time
        except FileNotFoundError:
            return set()
