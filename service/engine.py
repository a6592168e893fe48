"""The engine: newest frame sets in, replies out, on one inference thread for all headsets.

Engine._answer is the live path, one step a line. Around it:

    Connection.offer (event loop)  ->  slot of the connection, capacity one, the newest wins, drops counted
                                   ->  queue of connections that have something, each at most once: fair, and bounded by them
                                   ->  inference thread: takes the slot of the first connection, answers, goes on
                                   ->  on_answer (on the inference thread)

Computing in the event loop instead collapses under overload: stale frames wait in socket buffers (measured: 3.8 s and growing at
twice the capacity, against 19 ms). Waiting frame sets of different headsets are not batched: a batch of 2 to 16 takes a CPU
exactly as long as the single ones after each other (measured linear), and the first would wait for the last.
"""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract.eye_pair import EyePair
from model_export.contract.frames import Camera
from model_export.contract.resting import Resting
from model_export.contract.slip import NO_SLIP, Slip
from model_export.contract.take import Encoding
from model_export.runtime import Eyes, Runtime
from service.decode import decode_image
from service.errors import ErrorCode, ServiceError, WireError
from service.face import Face
from service.filters import FilterConfig
from service.heads import Heads
from service.paired_eyes import PairedEyes
from service.rig import CropPlan, Rig, check_placement, plan_crop
from service.wire_messages import EncodedFrame, FrameMessage, Reply, StageTimes

OnAnswer = Callable[[Reply | WireError], None]
"""Takes the answer to a frame set, on the inference thread: it must return at once."""

STOP_S: Final = 5.0
"""A frame set takes milliseconds; a thread that has not ended by then hangs in a driver."""
_RIG: Final[Rig] = {}
_NOTHING: Final = np.float32(0.0)
"""What the frames of an unknown face are compared with."""

_log = logging.getLogger("mien.engine")
_now = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine answers."""

    filters: FilterConfig = field(default_factory=FilterConfig)
    place_faces: bool = True
    """Whether the crops of wearers without a head of their own follow their faces, where the bundle can tell where those are, and
    are compared with what that tells of their rest."""


class Engine:
    """One inference thread over one runtime. `connect` and what it gives may be used from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        heads: Heads,
        config: EngineConfig | None = None,
        resting: Resting | None = None,
        eye_pair: EyePair | None = None,
    ) -> None:
        """`resting`: what the bundle knows of faces' places; without it no slip is told and no face placed.

        `eye_pair`: what it knows of two eyes together; without it each answers for itself.
        """
        self._runtime = runtime
        self._resting = resting
        self._paired_eyes = None if eye_pair is None else PairedEyes(eye_pair)
        self.heads = heads
        self._config = config or EngineConfig()
        self._ready: deque[Connection] = deque()
        self._bell = _Bell()
        self._connections: dict[int, Connection] = {}
        self._lock = threading.Lock()  # of the four below
        self._opened = 0
        self._closed_drops = 0
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Starts the inference thread. An engine starts once."""
        with self._lock:
            if self._thread is not None:
                raise ServiceError("An engine should be started once. Found it started. Make a new one.")
            # A warp of 128 x 128 takes 15 us; cv2's own pool of threads would wake for it and cost more than that.
            cv2.setNumThreads(1)
            # Daemon: a driver that hangs must not keep the process alive after `stop` gave up on it.
            self._thread = threading.Thread(target=self._serve, name="inference", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the frame set in work; what waits is not answered. May be called again."""
        self._stopping = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._bell.ring()
            self._thread.join(STOP_S)

    @property
    def running(self) -> bool:
        """Whether frame sets are answered."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping

    @property
    def connections(self) -> "Sequence[Connection]":
        """The connections open now, in the order they were opened: a snapshot."""
        with self._lock:
            return tuple(self._connections.values())

    @property
    def drops(self) -> int:
        """Frame sets that a newer one replaced, over all connections that there were."""
        with self._lock:
            return self._closed_drops + sum(connection.drops for connection in self._connections.values())

    def connect(self, wearer: str, rig: Rig | None, on_answer: OnAnswer) -> "Connection":
        """A connection for one headset; raises WireError for a camera placement that cannot be."""
        setup = _Setup(wearer, _checked(rig or _RIG))
        with self._lock:
            self._opened += 1
            connection = Connection(self, self._opened, setup, self._new_face(wearer), on_answer)
            self._connections[connection.number] = connection
        return connection

    def head_version(self, wearer: str) -> int:
        """Version of the head that answers for a wearer now."""
        return self.heads.current(wearer).head_version

    def _new_face(self, wearer: str) -> Face:
        return Face(self._config.filters, wearer, self._resting, self._paired_eyes, places=self._config.place_faces)

    def _forget(self, connection: "Connection") -> None:
        with self._lock:
            if self._connections.pop(connection.number, None) is not None:
                self._closed_drops += connection.drops

    def _enqueue(self, connection: "Connection") -> None:
        self._ready.append(connection)
        self._bell.ring()

    def _serve(self) -> None:
        while True:
            self._bell.wait()
            if self._stopping:
                return
            connection = self._ready.popleft()
            waiting = connection._take()
            if waiting is not None:
                connection._deliver(waiting[0], self._guarded_answer(connection, *waiting))

    def _guarded_answer(self, connection: "Connection", message: FrameMessage, received_ns: int) -> Reply | WireError:
        try:
            return self._answer(connection, message, received_ns)
        except WireError as error:
            return error.of(message.sequence)
        except Exception as error:  # noqa: BLE001 - last guard of the thread that all headsets share: told, logged, and on
            _log.exception("connection %d, frame set %d failed", connection.number, message.sequence)
            return WireError(
                ErrorCode.INTERNAL,
                "The service should answer this frame set.",
                f"{type(error).__name__}",
                "The service's log says more.",
                message.sequence,
            )

    def _answer(self, connection: "Connection", message: FrameMessage, received_ns: int) -> Reply:
        """The live path of one frame set; nothing is changed before everything in it has proved sound."""
        started_ns = _now()
        setup, runtime = connection._setup, self._runtime
        face = connection._face_of(setup.wearer)
        frames = face.newer(message.frames)
        pictures = [decode_image(frame) for frame in frames]
        decoded_ns = _now() if any(frame.encoding is Encoding.JPEG for frame in frames) else started_ns
        head = self.heads.folded(setup.wearer)
        slips = face.placer.slips(head.head, setup.rig)
        cameras = self._fill_inputs(setup, slips, face.placer.neutral(head.head), frames, pictures)
        warped_ns = _now()
        self._run_backbones(cameras)
        inferred_ns = _now()
        face.apply(head, frames, runtime)
        headed_ns = _now()
        face.smooth(frames)
        filtered_ns = _now()
        version, digest = head.head.head_version, runtime.bundle_digest
        values = face.values(message, frames, setup.rig, digest, version)
        lag_ms = face.lag_ms()
        stages = StageTimes(
            wait_us=max(0, started_ns - received_ns) // 1000,
            decode_us=(decoded_ns - started_ns) // 1000,
            warp_us=(warped_ns - decoded_ns) // 1000,
            inference_us=(inferred_ns - warped_ns) // 1000,
            head_us=(headed_ns - inferred_ns) // 1000,
            filter_us=(filtered_ns - headed_ns) // 1000,
            service_us=max(0, _now() - received_ns) // 1000,
        )
        return Reply(values, connection.drops, lag_ms, stages)

    def _fill_inputs(
        self,
        setup: "_Setup",
        slips: Mapping[Camera, Slip],
        neutral: Mapping[Camera, NDArray[np.float32]],
        frames: list[EncodedFrame],
        pictures: list[NDArray[np.uint8]],
    ) -> set[Camera]:
        runtime, cameras = self._runtime, set()
        for frame, pixels_HW in zip(frames, pictures, strict=True):
            camera = frame.camera
            crop_HW = runtime.mouth_crop_BHW[0] if camera is Camera.MOUTH else runtime.eye_crops_BHW[camera]
            setup.plan(camera, frame.width, frame.height, slips.get(camera, NO_SLIP)).cut(pixels_HW, crop_HW)
            neutral_M = runtime.mouth_neutral_BM[0] if camera is Camera.MOUTH else runtime.eye_neutral_BM[camera]
            neutral_M[:] = neutral.get(camera, _NOTHING)
            cameras.add(camera)
        return cameras

    def _run_backbones(self, cameras: set[Camera]) -> None:
        left, right = Camera.LEFT_EYE in cameras, Camera.RIGHT_EYE in cameras
        if left or right:
            self._runtime.run_eyes(Eyes.BOTH if left and right else Eyes.LEFT if left else Eyes.RIGHT)
        if Camera.MOUTH in cameras:
            self._runtime.run_mouth()


class Connection:
    """One headset at the engine: a slot for the newest frame set, a wearer, a rig, and the state of the face."""

    def __init__(self, engine: Engine, number: int, setup: "_Setup", face: Face, on_answer: OnAnswer) -> None:
        self.number = number
        """Counts the connections of this engine from 1."""
        self.drops = 0
        """Frame sets that a newer one replaced before they were looked at: they are never answered."""
        self.answered: tuple[FrameMessage, Reply] | None = None
        """The newest answered frame set with its reply; one reference, replaced whole."""
        self._engine = engine
        self._setup = setup
        self._face = face
        self._on_answer = on_answer
        self._waiting: tuple[FrameMessage, int] | None = None
        self._lock = threading.Lock()  # of the slot; held for a few instructions, never across a call
        self._closed = False

    @property
    def wearer(self) -> str:
        """Whose head answers."""
        return self._setup.wearer

    @property
    def rig(self) -> Rig:
        """How its cameras sit."""
        return self._setup.rig

    @property
    def head_version(self) -> int:
        """Version of the head that answers now."""
        return self._engine.head_version(self._setup.wearer)

    @property
    def slips(self) -> Mapping[Camera, Slip]:
        """How far the headset seems to have slipped since the head was fitted, where that is known."""
        return self._face.slip_watch.slips

    @property
    def places(self) -> Mapping[Camera, Slip]:
        """How far its crops follow the face of a wearer without an own head, of the cameras that were moved."""
        return self._face.placer.places if self.head_version == 0 else {}

    def offer(self, message: FrameMessage, received_ns: int) -> None:
        """Puts a frame set into the slot, in place of one that still waits; `received_ns` is time.perf_counter_ns()."""
        with self._lock:
            if self._closed:
                return
            replaced = self._waiting is not None
            self._waiting = (message, received_ns)
            self.drops += replaced
        if not replaced:
            self._engine._enqueue(self)

    def configure(self, wearer: str | None, rig: Rig | None) -> None:
        """Takes effect with the next frame set looked at; None, and a camera absent from `rig`, stay as they are.

        A new wearer's face starts unseen. Raises WireError for a placement that cannot be, and changes nothing then.
        """
        setup = self._setup
        self._setup = _Setup(wearer or setup.wearer, {**setup.rig, **_checked(rig or _RIG)})

    def close(self) -> None:
        """Nothing is answered from now on, except what may be on its way this moment. May be called again."""
        with self._lock:
            self._closed = True
            self._waiting = None
        self._engine._forget(self)

    def _take(self) -> tuple[FrameMessage, int] | None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
            return waiting

    def _face_of(self, wearer: str) -> Face:
        if self._face.wearer != wearer:
            self._face = self._engine._new_face(wearer)
        return self._face

    def _deliver(self, message: FrameMessage, answer: Reply | WireError) -> None:
        if self._closed:
            return
        if isinstance(answer, Reply):
            self.answered = (message, answer)
        try:
            self._on_answer(answer)
        except Exception:  # noqa: BLE001 - one client, perhaps with its event loop gone, must not end it for the others
            _log.exception("connection %d does not take its answers; closing it", self.number)
            self.close()


class _Setup:
    """Wearer and rig of a connection, replaced whole; the plans belong to the inference thread."""

    def __init__(self, wearer: str, rig: Rig) -> None:
        self.wearer = wearer
        self.rig = rig
        self._plans: dict[Camera, CropPlan] = {}

    def plan(self, camera: Camera, width: int, height: int, slip: Slip) -> CropPlan:
        """The crop for images of this size; computed anew only when a camera's size or the head's slip changes."""
        plan = self._plans.get(camera)
        if plan is None or plan.width != width or plan.height != height or plan.slip != slip:
            plan = self._plans[camera] = plan_crop(self.rig.get(camera), camera, width, height, slip)
        return plan


class _Bell:
    """Wakes the inference thread: a byte in a pipe for each ring.

    Writing to a pipe gives up the interpreter lock, so the thread starts at once. It wakes 11 to 14 us after the ring, a
    queue.SimpleQueue 24 us, a threading.Condition 33 us (medians); when the event loop computes on for 60 us, the pipe still
    needs 12 us and the queue 89. There are at most as many bytes as connections, so a ring never waits.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        weakref.finalize(self, _close, self._read_fd, self._write_fd)

    def ring(self) -> None:
        os.write(self._write_fd, b"\0")

    def wait(self) -> None:
        os.read(self._read_fd, 1)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _checked(rig: Rig) -> Rig:
    for camera, placement in rig.items():
        check_placement(camera, placement)
    return rig
