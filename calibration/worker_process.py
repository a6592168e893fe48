"""The calibration worker: a process at the lowest priority that records takes, judges them and fits heads.

    python -m calibration.worker_process --bundle FOLDER [--profiles FOLDER --wearer NAME] [--recentre]

With --recentre it fits nothing: what it learns is the rest (calibration.rest_learner).

Messages (calibration.worker_messages) come on stdin and go to stdout; prints of libraries go to stderr. A thread reads, so that
frames are taken while the main thread computes; when stdin ends, the service is gone, and so is this process at once. Where the
wearer chose to keep takes, one is told as accepted only when it is on the disk; otherwise it lives as long as this process.
"""

import argparse
import os
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np

from calibration.errors import CalibrationError, ProfileError
from calibration.profiles import Profiles
from calibration.worker_messages import WorkerMessage, images_of, read_message, write_message
from model_export.contract import CROP_SIZE_PX, Camera, ContractError, Head, Take, read_head, write_head
from model_export.contract.take import Encoding

RATE_HZ: Final = 75.0
"""Frames that come faster than this are left out of recordings: three cameras at 120 Hz would be 400 MB in a session."""
MOST_FRAMES: Final = 1500
"""Of one recording: twenty seconds; the longest cue has ten."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a fit gave."""

    head: Head
    better: bool
    report: Mapping[str, Any]


class Learner(Protocol):
    """What judges takes and learns from them; the real one is calibration.learner."""

    def judge(self, take: Take, rest: Take | None) -> str | None:
        """Why the take cannot be used; None where it can. `rest`: the accepted rest, None while there is none."""

    def fit(self, takes: Mapping[str, Take], current: Head | None) -> Learnt:
        """A head from one take for each cue. `current` None: from the universal head."""


class LiveGauge(Protocol):
    """What shows the wearer their own movement; the real one is calibration.live_gauge."""

    def begin(self, cue: str, rest: Take | None) -> None:
        """A recording begins; `rest`: the accepted rest, None while there is none."""

    def update(self, images: Mapping[Camera, bytes]) -> float | None:
        """How much of the asked movement a frame set shows, 0 to 1; None where nothing is to be told."""


@dataclass(slots=True)
class _Recording:
    cue: str
    t_ns: list[int] = field(default_factory=list)
    images: list[dict[Camera, bytes]] = field(default_factory=list)

    def add(self, t_ns: int, images: dict[Camera, bytes]) -> None:
        if len(self.t_ns) < MOST_FRAMES and (not self.t_ns or t_ns - self.t_ns[-1] >= 1e9 / RATE_HZ):
            self.t_ns.append(t_ns)
            self.images.append(images)

    def take(self) -> Take | None:
        cameras = {camera for images in self.images for camera in images}
        if not cameras:
            return None
        return Take(
            self.cue,
            Encoding.GRAY8,
            np.array(self.t_ns, np.int64),
            {camera: tuple(images.get(camera, b"") for images in self.images) for camera in sorted(cameras)},
            size_px=(CROP_SIZE_PX, CROP_SIZE_PX),
        )


class Desk:
    """What the worker does with each message; one thread."""

    def __init__(self, learner: Learner, keep: "Keep | None" = None, gauge: LiveGauge | None = None) -> None:
        self._learner = learner
        self._gauge = gauge
        self._keep = keep
        self._running: tuple[int, _Recording] | None = None
        self._takes: dict[int, Take] = {}

    def handle(self, message: WorkerMessage) -> WorkerMessage | None:
        """The answer to a message, if it has one."""
        fields = message.fields
        match message.kind:
            case "frames":
                if self._running is not None:
                    return self._add(*self._running, *images_of(message))
            case "begin":
                self._running = (int(fields["recording"]), _Recording(str(fields["cue"])))
                if self._gauge is not None:
                    self._gauge.begin(str(fields["cue"]), self._rest())
            case "discard":
                self._takes.pop(int(fields["recording"]), None)
                if self._running is not None and self._running[0] == fields["recording"]:
                    self._running = None
            case "forget":
                self._takes.clear()
            case "end":
                return self._judge(int(fields["recording"]))
            case "restore":
                return self._restore(fields["takes"])
            case "fit":
                return self._fit(int(fields["fit"]), fields["recordings"], message.data)
            case other:
                raise ValueError(f"A message should be of a known kind. Found {other!r}.")
        return None

    def _add(self, number: int, recording: _Recording, t_ns: int, images: dict[Camera, bytes]) -> WorkerMessage | None:
        recording.add(t_ns, images)
        value = None if self._gauge is None else self._gauge.update(images)
        return None if value is None else WorkerMessage("gauge", {"recording": number, "value": value})

    def _rest(self) -> Take | None:
        rests = [one for one in self._takes.values() if one.cue == "rest"]
        return rests[-1] if rests else None

    def _judge(self, recording: int) -> WorkerMessage | None:
        if self._running is None or self._running[0] != recording:
            return None
        take, self._running = self._running[1].take(), None
        if take is None:
            return _judged(
                recording, "A recording should hold frames. Found none. Look whether the cameras send.", None
            )
        try:
            refusal = self._learner.judge(take, self._rest())
            number = self._keep.add(take) if refusal is None and self._keep is not None else None
        except (CalibrationError, ContractError) as error:
            return _judged(recording, str(error), None)
        if refusal is None:
            self._takes[recording] = take
        return _judged(recording, refusal, number)

    def _restore(self, takes: Mapping[str, int]) -> WorkerMessage:
        lost = []
        for recording, number in takes.items():
            try:
                assert self._keep is not None
                self._takes[int(recording)] = self._keep.get(number)
            except ProfileError:  # damaged, or past its retention: the cue is asked for again
                lost.append(int(recording))
        return WorkerMessage("lost", {"recordings": lost})

    def _fit(self, fit: int, recordings: Mapping[str, int], current: bytes) -> WorkerMessage:
        try:
            takes = {cue: self._takes[recording] for cue, recording in recordings.items()}
            learnt = self._learner.fit(takes, read_head(current) if current else None)
        except KeyError as missing:
            return WorkerMessage("failed", {"fit": fit, "reason": f"Recording {missing} is not here. Record it again."})
        except (CalibrationError, ContractError, MemoryError) as error:
            return WorkerMessage("failed", {"fit": fit, "reason": str(error) or type(error).__name__})
        fields = {"fit": fit, "better": learnt.better, "report": dict(learnt.report)}
        return WorkerMessage("fitted", fields, write_head(learnt.head) if learnt.better else b"")


@dataclass(frozen=True, slots=True)
class Keep:
    """Where accepted takes of a wearer are kept who chose so."""

    profiles: Profiles
    wearer: str

    def add(self, take: Take) -> int:
        """The number of the take, which is on the disk now."""
        return self.profiles.add_take(self.wearer, take).number

    def get(self, number: int) -> Take:
        """A take that was kept."""
        return self.profiles.take(self.wearer, number)


def _judged(recording: int, refusal: str | None, number: int | None) -> WorkerMessage:
    return WorkerMessage("judged", {"recording": recording, "refusal": refusal, "take": number})


def serve(desk: Desk, said: BinaryIO, answers: BinaryIO) -> None:
    """Answers messages until `said` ends, then ends this process."""
    waiting: queue.SimpleQueue[WorkerMessage] = queue.SimpleQueue()

    def listen() -> None:
        while (message := read_message(said)) is not None:
            waiting.put(message)
        os._exit(0)  # the service is gone; a fit under way is of no use to anybody

    threading.Thread(target=listen, daemon=True).start()
    write_message(answers, WorkerMessage("ready"))
    while True:
        answer = desk.handle(waiting.get())
        if answer is not None:
            write_message(answers, answer)


def own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, for messages alone: whatever is printed goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, answers


def main() -> None:
    """The worker with the real learner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--profiles", type=Path)
    parser.add_argument("--wearer")
    parser.add_argument("--recentre", action="store_true")
    options = parser.parse_args()
    pipes = own_pipes()
    if hasattr(os, "nice"):
        os.nice(19)
    keep = None if options.profiles is None else Keep(Profiles(options.profiles), options.wearer)
    if options.recentre:
        from calibration.rest_learner import RestLearner

        serve(Desk(RestLearner(options.bundle), keep), *pipes)
    from calibration.learner import MovementLearner
    from calibration.live_gauge import MovementGauge

    serve(Desk(MovementLearner(options.bundle), keep, MovementGauge()), *pipes)


if __name__ == "__main__":
    main()
