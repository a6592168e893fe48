"""The service's end of the calibration worker: starts it, feeds it, restarts it when it dies.

    offer (event loop, never waits)  ->  bounded queue, the oldest frame sets go first, counted  ->  sender thread  ->  worker
    commands go through the same queue, in order, and are never dropped
    worker  ->  reader thread  ->  on_event

A worker that dies is replaced at once, and takes that were kept on the disk are given to the new one; the rest is told as lost.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final, Generic, TypeVar, cast

from calibration.session_events import Event, Failed, Fitted, Judged, WorkerLost
from calibration.worker_messages import CropSet, WorkerMessage, frames_message, read_message, write_message
from model_export.contract import ContractError, Head, read_head

STOP_S: Final = 2.0
"""How long `stop` waits for the threads of a killed worker."""
_log: Final = logging.getLogger("mien.worker")
FrameSource = TypeVar("FrameSource")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Which worker, and how much may wait for it."""

    command: tuple[str, ...]
    """What starts it."""
    most_waiting: int = 64
    """Frame sets; beyond that the oldest are dropped. One second of a fast headset."""
    restarts: int = 3
    """So many workers that die without having said a word are not replaced any more."""

    @classmethod
    def for_bundle(
        cls, bundle: Path, profiles: Path | None = None, wearer: str = "", *, recentre: bool = False
    ) -> "WorkerConfig":
        """The real worker; `profiles`: where it keeps accepted takes of a wearer who chose so; `recentre`: it fits nothing."""
        options = () if profiles is None else ("--profiles", str(profiles), "--wearer", wearer)
        if recentre:
            options = (*options, "--recentre")
        return cls((sys.executable, "-m", "calibration.worker_process", "--bundle", str(bundle), *options))


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[FrameSource]):
    """One entry of the queue: a command, or frames."""

    command: WorkerMessage | None = None
    frames: FrameSource | None = None


class Worker(Generic[FrameSource]):
    """One worker process with its two threads. Methods may be called from any thread and never wait, `stop` excepted.

    `crops_of` turns what was offered into crops, on the sender thread; None leaves it out. `on_event` is called on the reader
    thread; `on_head` before it with the head of each better fit, `on_gauge` with how much of the asked movement is made now.
    """

    def __init__(
        self,
        config: WorkerConfig,
        crops_of: Callable[[FrameSource], CropSet | None],
        on_event: Callable[[Event], None],
        on_head: Callable[[int, Head], None],
        on_gauge: Callable[[float], None] | None = None,
    ) -> None:
        self.drops = 0
        """Frame sets that did not reach the worker because it was slow."""
        self.ready = threading.Event()
        """Set when the first process has loaded what it needs: that takes seconds, in which frames would only be dropped. Set,
        too, when there will be none, as it was stopped or given up."""
        self._config = config
        self._crops_of = crops_of
        self._on_event = on_event
        self._on_head = on_head
        self._on_gauge = on_gauge
        self._queue: deque[_Waiting[FrameSource]] = deque()
        self._frames: deque[_Waiting[FrameSource]] = deque()
        self._bell = threading.Condition()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._cue_of: dict[int, str] = {}
        self._kept: dict[int, int] = {}
        """Recording -> number of its take in the profile store."""
        self._thread = threading.Thread(target=self._run, name="calibration worker", daemon=True)

    def start(self) -> None:
        """Starts the process and the threads; returns at once."""
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process; None before it runs."""
        return None if self._process is None else self._process.pid

    def offer(self, frames: FrameSource) -> None:
        """Queues a frame set; 8 us (median, on a busy machine), most of it to wake the sender."""
        waiting = _Waiting(frames=frames)
        with self._bell:
            if len(self._frames) >= self._config.most_waiting:
                self._queue.remove(self._frames.popleft())
                self.drops += 1
            self._frames.append(waiting)
            self._queue.append(waiting)
            self._bell.notify()

    def begin(self, recording: int, cue: str) -> None:
        """Frame sets offered from now on belong to this recording."""
        self._cue_of[recording] = cue
        self._command("begin", recording=recording, cue=cue)

    def end(self, recording: int) -> None:
        """The recording is whole; `Judged` follows."""
        self._command("end", recording=recording)

    def discard(self, recording: int) -> None:
        """Forgets a recording."""
        self._command("discard", recording=recording)

    def forget(self) -> None:
        """Forgets every recording."""
        self._kept.clear()
        self._command("forget")

    def fit(self, fit: int, recordings: Mapping[str, int], current: bytes = b"") -> None:
        """Fits a head; `Fitted` or `Failed` follows. `current`: file of the head in use, none for the universal one."""
        self._command("fit", current, fit=fit, recordings=dict(recordings))

    def stop(self) -> None:
        """Kills the process: it has nothing to finish, kept takes are on the disk. Nothing is told after this."""
        self._stopping.set()
        self.ready.set()  # nobody waits for it any more
        process = self._process
        if process is not None:
            process.kill()
        with self._bell:
            self._bell.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(STOP_S)

    def _command(self, kind: str, data: bytes = b"", **fields: object) -> None:
        with self._bell:
            self._queue.append(_Waiting(WorkerMessage(kind, fields, data)))
            self._bell.notify()

    # Reader thread

    def _run(self) -> None:
        silent = 0
        while not self._stopping.is_set() and silent < self._config.restarts:
            process = self._process = self._spawn()
            if self._stopping.is_set():  # in the moment before it was known
                process.kill()
            sender = threading.Thread(target=self._send_all, args=(process,), daemon=True)
            sender.start()
            said = self._listen(process)
            process.kill()
            code = process.wait()
            with self._bell:
                self._bell.notify_all()
            sender.join()
            for pipe in (process.stdin, process.stdout):
                _close(pipe)
            if self._stopping.is_set():
                return
            _log.warning("calibration worker ended by itself code=%d", code)
            silent = 0 if said else silent + 1
            if not said:  # otherwise its successor says what is left
                self._on_event(WorkerLost(time.monotonic_ns()))
            self._hand_over()
        self.ready.set()  # given up: nobody should wait

    def _spawn(self) -> subprocess.Popen[bytes]:
        # One thread: the other cores belong to the stream. A session of its own: Ctrl-C is the service's to answer.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.Popen(  # noqa: S603 - our own command
            self._config.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    def _hand_over(self) -> None:
        """What the dead worker had is gone; a new one gets what is on the disk."""
        kept = {str(recording): number for recording, number in self._kept.items()}
        with self._bell:
            self._queue.clear()
            self._frames.clear()
            self._queue.append(_Waiting(WorkerMessage("restore", {"takes": kept})))

    def _listen(self, process: subprocess.Popen[bytes]) -> bool:
        """Tells what the process says until it is gone; gives whether it said anything but that it is ready."""
        said = False
        try:
            while (message := read_message(cast("BinaryIO", process.stdout))) is not None:
                event = self._event_of(message)
                said |= message.kind != "ready"
                self.ready.set()
                if event is not None and not self._stopping.is_set():
                    self._on_event(event)
        except (ValueError, KeyError, ContractError) as error:
            _log.warning("calibration worker speaks nonsense: %s", error)
        return said

    def _event_of(self, message: WorkerMessage) -> Event | None:
        now_ns, fields = time.monotonic_ns(), message.fields
        match message.kind:
            case "judged":
                if fields["take"] is not None:
                    self._kept[fields["recording"]] = fields["take"]
                return Judged(now_ns, fields["recording"], fields["refusal"])
            case "fitted":
                if fields["better"]:
                    self._on_head(fields["fit"], read_head(message.data))
                return Fitted(now_ns, fields["fit"], fields["better"], fields["report"])
            case "failed":
                return Failed(now_ns, fields["fit"], fields["reason"])
            case "gauge":
                if self._on_gauge is not None:
                    self._on_gauge(fields["value"])
                return None
            case "lost":
                for recording in fields["recordings"]:
                    self._kept.pop(recording, None)
                return WorkerLost(now_ns, frozenset(self._cue_of[recording] for recording in self._kept))
            case _:
                return None

    # Sender thread

    def _send_all(self, process: subprocess.Popen[bytes]) -> None:
        try:
            while (message := self._next(process)) is not None:
                write_message(cast("BinaryIO", process.stdin), message)
        except OSError:  # it died: the reader sees that too
            return

    def _next(self, process: subprocess.Popen[bytes]) -> WorkerMessage | None:
        """The next message for this process; None when it shall get none any more."""
        while True:
            with self._bell:
                while not self._queue and not self._stopping.is_set() and process.poll() is None:
                    self._bell.wait(1.0)
                if self._stopping.is_set() or process.poll() is not None:
                    return None
                waiting = self._queue.popleft()
                if waiting.command is not None:
                    return waiting.command
                self._frames.popleft()
            crops = None if waiting.frames is None else self._crops_of(waiting.frames)
            if crops is not None:
                return frames_message(crops)


def _close(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:
        pass  # what was still to be written to a dead process
