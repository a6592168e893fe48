"""What the calibration of one connection has told, for pages that watch it and for those that come in the middle of it.

On the event loop alone; nothing is written here unless a calibration runs.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_TOLD: Final = 512
"""Three attempts at each of 19 cues tell 300 events; of more the oldest go."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    number: int
    """Rises from event to event of a connection, from one calibration to the next, too."""
    t_ns: int
    """When it was told, of time.monotonic_ns()."""
    fields: Mapping[str, Any]
    """`event` and what belongs to it, as in docs/protocol.md."""


class CalibrationLog:
    """The events of the newest calibration of one connection. Final."""

    def __init__(self) -> None:
        self._told: deque[Told] = deque(maxlen=MOST_TOLD)
        self._count = 0

    def add(self, fields: Mapping[str, Any]) -> None:
        """Remembers an event; `starting` forgets the calibration before, a gauge the gauge before."""
        event = fields["event"]
        if event == "starting":
            self._told.clear()
        elif event == "gauge" and self._told and self._told[-1].fields["event"] == "gauge":
            self._told.pop()
        self._count += 1
        self._told.append(Told(self._count, time.monotonic_ns(), dict(fields)))

    def since(self, number: int) -> list[Told]:
        """What was told after this one; all of it after 0."""
        if self._count == number:  # the usual answer, 30 times a second
            return []
        return [told for told in self._told if told.number > number]
