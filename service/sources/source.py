"""A source of frame sets, and replaying it at a rate, once or for ever.

Axes: T frame set, N reference channel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.errors import ServiceError
from service.wire_messages import EncodedFrame, FrameMessage


class SourceError(ServiceError):
    """A source that cannot be opened or read."""

    def __init__(self, expected: str, found: str, remedy: str, *, missing: bool = False) -> None:
        super().__init__(f"{expected} Found {found}. {remedy}")
        self.missing = missing
        """Whether the file, folder or camera is not there at all."""


@dataclass(frozen=True, slots=True)
class Shot:
    """The images of one moment of a source."""

    index: int
    """Counts the moments of one pass through the source from 0."""
    t_ns: int
    """Capture time in the source's own time."""
    frames: tuple[EncodedFrame, ...]
    """One to three; sent again with new times when the source is replayed."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known about the frame sets of a recording: the truth where it was rendered, else another model's curves."""

    names: tuple[str, ...]
    """EU names, or names of ARKit shapes that EU set 1 has in halves."""
    values_TN: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """Frame sets that can be passed through once, or again and again."""

    name: str
    shots: Callable[[], Iterator[Shot]]
    """Begins a pass. Raises SourceError while reading."""
    live: bool = False
    """A camera: it sets its own pace and cannot be looped."""
    reference: Reference | None = None

    def __iter__(self) -> Iterator[FrameMessage]:
        """The frame sets of one pass, with the times of the source."""
        return (message for _, message in replay(self))


def replay(source: Source, rate_hz: float | None = None, *, loop: bool = False) -> Iterator[tuple[Shot, FrameMessage]]:
    """The shots of a source as messages, in time: sequences count from 0 and capture times rise across passes.

    With `rate_hz` frame sets are 1 / rate apart, whatever the source says; a live source keeps its own times. Between two
    passes lies the mean step of the recording.
    """
    sequence, next_ns = 0, 0
    while True:
        offset_ns: int | None = None
        first_ns = step_ns = t_ns = 0
        for shot in source.shots():
            if offset_ns is None:
                first_ns = shot.t_ns
                offset_ns = next_ns - first_ns if sequence else 0
            t_ns = shot.t_ns + offset_ns if rate_hz is None or source.live else round(sequence * 1e9 / rate_hz)
            step_ns = (shot.t_ns - first_ns) // max(1, shot.index)
            frames = tuple(replace(frame, t_ns=t_ns) for frame in shot.frames)
            yield shot, FrameMessage(sequence % 2**32, frames)
            sequence += 1
        next_ns = t_ns + max(1, step_ns)
        if offset_ns is None or source.live or not loop:
            return
