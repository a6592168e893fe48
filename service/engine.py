"""The engine: one thread that turns the newest frame set of each connection into expression units.

Read `Engine._answer` top to bottom: decode, warp, backbones, head, region states, filter, reply.

Axes: H W image, F feature, O head output, N channel (filters.py).

Inference inside the event loop collapses under overload, because stale frame sets pile up in socket buffers; a slot of one for
each connection holds full throughput and always works on the newest (p99 70 ms at twice the capacity, against seconds).
Waiting frame sets of different headsets are not batched: on a CPU two in a batch take twice as long as one.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract import EU_COUNT, Camera, ExpressionValues, RegionState, Validity
from model_export.contract.take import Encoding
from model_export.runtime import Eyes, Runtime
from service.errors import ErrorCode, WireError
from service.filters import AFRESH_S, CHANNEL_COUNT, REGION_CHANNELS, FilterConfig, OneEuroFilter
from service.heads import Heads
from service.rig import Rig
from service.wire import CameraPlacement, EncodedFrame, FrameMessage, Reply, StageTimes

Answer = Reply | WireError

_log = logging.getLogger("mien.engine")

_GREY: Final = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
_EYE_EUS: Final = 12
_EYES: Final = {
    frozenset({Camera.LEFT_EYE}): Eyes.LEFT,
    frozenset({Camera.RIGHT_EYE}): Eyes.RIGHT,
    frozenset({Camera.LEFT_EYE, Camera.RIGHT_EYE}): Eyes.BOTH,
}
_UNSEEN: Final = RegionState(Validity.UNSEEN, 0.0)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine treats what it sees."""

    hold_ms: float = 100.0
    """How long the values of a camera that is late stay as they are, on the headset's clock."""
    fade_ms: float = 400.0
    """How long they then take to 0."""
    gap_s: float = 1.0
    """A camera away for longer, or a clock that jumps back by more, begins afresh."""
    filter: FilterConfig = field(default_factory=FilterConfig)


@dataclass(slots=True)
class _Region:
    """What a connection knows of one camera."""

    t_ns: int | None = None
    """Capture time of its newest frame; None before the first and after a gap."""
    confidence: float = 0.0


class Connection:
    """One headset's slot and state; `offer`, `configure` and `close` belong to the event loop, the rest to the engine."""

    def __init__(
        self, engine: "Engine", number: int, wearer: str, rig: Rig, on_answer: Callable[[Answer], None]
    ) -> None:
        self.number = number
        """Counts the connections of this service from 1."""
        self.wearer = wearer
        self.drops = 0
        """Frame sets that a newer one replaced before they were looked at."""
        self.answered: tuple[FrameMessage, Reply] | None = None
        """The newest answered frame set with its answer; one reference, replaced."""
        self._engine = engine
        self._rig = rig
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._slot: tuple[FrameMessage, int] | None = None
        self._regions = {camera: _Region() for camera in Camera}
        self._filter = OneEuroFilter(engine.config.filter)
        self._raw_N = np.zeros(CHANNEL_COUNT, np.float32)
        self._dt_N = np.zeros(CHANNEL_COUNT, np.float32)

    @property
    def head_version(self) -> int:
        """Version of the head that answers this wearer now."""
        return self._engine.heads.current(self.wearer).head_version

    def offer(self, message: FrameMessage, received_ns: int) -> None:
        """Puts a frame set into the slot; one that still waits there is dropped and counted.

        `received_ns`: time.perf_counter_ns() at receipt, from which the stage times count.
        """
        with self._lock:
            waiting, self._slot = self._slot, (message, received_ns)
            if waiting is not None:
                self.drops += 1
        if waiting is None:
            self._engine.wake(self)

    def configure(self, wearer: str | None, placements: Mapping[Camera, CameraPlacement] | None) -> None:
        """Another wearer, other places of cameras, from the next frame set on; None keeps what is."""
        if placements is not None:
            self._rig = Rig({**self._rig.placements, **placements})
        if wearer is not None:
            self.wearer = wearer

    def close(self) -> None:
        """Forgets the connection; a frame set under way may still be answered."""
        self._engine.forget(self)
        with self._lock:
            self._slot = None

    def _take(self) -> tuple[FrameMessage, int] | None:
        with self._lock:
            taken, self._slot = self._slot, None
        return taken


class Engine:
    """One runtime, one thread, any number of connections, served in turn."""

    def __init__(self, runtime: Runtime, heads: Heads, config: EngineConfig | None = None) -> None:
        self.heads = heads
        self.config = config or EngineConfig()
        self._runtime = runtime
        self._connections: dict[int, Connection] = {}
        self._count = 0
        self._closed_drops = 0
        self._waiting: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        """Each connection stands here at most once, so its length is bounded and every headset has its turn."""
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the inference thread is there."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The open connections, oldest first."""
        return tuple(self._connections.values())

    @property
    def drops(self) -> int:
        """Frame sets dropped since the start, over all connections."""
        return self._closed_drops + sum(connection.drops for connection in self.connections)

    def start(self) -> None:
        """Starts the inference thread."""
        cv2.setNumThreads(1)  # a pool for images of 128 px costs more than it saves
        self._thread = threading.Thread(target=self._work, name="mien-inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the inference thread after the frame set under way."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def connect(
        self, wearer: str, placements: Mapping[Camera, CameraPlacement] | None, on_answer: Callable[[Answer], None]
    ) -> Connection:
        """A connection of its own state; `on_answer` is called on the inference thread and must return at once."""
        self._count += 1
        connection = Connection(self, self._count, wearer, Rig(placements), on_answer)
        self._connections[connection.number] = connection
        return connection

    def forget(self, connection: Connection) -> None:
        """Takes a connection out of the list."""
        if self._connections.pop(connection.number, None) is not None:
            self._closed_drops += connection.drops

    def wake(self, connection: Connection) -> None:
        """Says that a connection's slot was filled."""
        self._waiting.put(connection)

    def _work(self) -> None:
        while (connection := self._waiting.get()) is not None:
            taken = connection._take()
            if taken is None:
                continue
            message, received_ns = taken
            answer: Answer
            try:
                answer = self._answer(connection, message, received_ns)
            except WireError as error:
                answer = error.of(message.sequence)
            except Exception as error:  # noqa: BLE001 - the last guard of the thread that every headset needs
                _log.exception("frame set %d of connection %d failed", message.sequence, connection.number)
                answer = WireError(ErrorCode.INTERNAL, "An answer.", type(error).__name__, "", message.sequence)
            else:
                connection.answered = (message, answer)
            connection._on_answer(answer)

    def _answer(self, connection: Connection, message: FrameMessage, received_ns: int) -> Reply:
        start_ns = time.perf_counter_ns()
        images = [(frame.camera, _decode(frame)) for frame in message.frames]
        decoded_ns = time.perf_counter_ns()
        seen = frozenset(camera for camera, _ in images)
        for camera, pixels_HW in images:
            connection._rig.crop(camera, pixels_HW, self._crop(camera))
        warped_ns = time.perf_counter_ns()
        if eyes := _EYES.get(seen - {Camera.MOUTH}):
            self._runtime.run_eyes(eyes)
        if Camera.MOUTH in seen:
            self._runtime.run_mouth()
        inferred_ns = time.perf_counter_ns()
        head = self.heads.current(connection.wearer)
        outputs = {camera: head[camera].apply(self._features(camera))[0] for camera in seen}
        headed_ns = time.perf_counter_ns()
        regions, values_N = _settle(connection, message, outputs, self.config)
        filtered_ns = time.perf_counter_ns()
        values = ExpressionValues(
            sequence=message.sequence,
            t_ns=message.t_ns,
            values_E=values_N[:EU_COUNT].clip(0.0, 1.0),
            gaze_deg=values_N[EU_COUNT:],
            regions=regions,
            bundle_digest=self._runtime.bundle_digest,
            head_version=head.head_version,
        )
        stages = StageTimes(
            wait_us=(start_ns - received_ns) // 1000,
            decode_us=(decoded_ns - start_ns) // 1000,
            warp_us=(warped_ns - decoded_ns) // 1000,
            inference_us=(inferred_ns - warped_ns) // 1000,
            head_us=(headed_ns - inferred_ns) // 1000,
            filter_us=(filtered_ns - headed_ns) // 1000,
            service_us=(time.perf_counter_ns() - received_ns) // 1000,
        )
        return Reply(values, connection.drops, connection._filter.lag_ms(), stages)

    def _crop(self, camera: Camera) -> NDArray[np.uint8]:
        crops_BHW = self._runtime.mouth_crop_BHW if camera is Camera.MOUTH else self._runtime.eye_crops_BHW
        crop_HW: NDArray[np.uint8] = crops_BHW[0 if camera is Camera.MOUTH else camera]
        return crop_HW

    def _features(self, camera: Camera) -> NDArray[np.float32]:
        if camera is Camera.MOUTH:
            return self._runtime.mouth_features_BF
        return self._runtime.eye_features_BF[camera : camera + 1]


def _decode(frame: EncodedFrame) -> NDArray[np.uint8]:
    """The image, uint8 [H, W]; a view of the message for raw ones. Raises WireError for a JPEG whose body is broken."""
    payload = np.frombuffer(frame.payload, np.uint8)
    if frame.encoding is Encoding.GRAY8:
        return payload.reshape(frame.height, frame.width)
    try:
        image = cv2.imdecode(payload, _GREY)
    except cv2.error:
        image = None
    if image is None or image.shape != (frame.height, frame.width):
        raise WireError(
            ErrorCode.JPEG,
            f"The JPEG of {frame.camera.label} should decode to {frame.width} x {frame.height} px.",
            "one that does not" if image is None else f"{image.shape[1]} x {image.shape[0]} px",
            "Send whole baseline or progressive JPEG files.",
        )
    return np.asarray(image, np.uint8)


def _settle(
    connection: Connection,
    message: FrameMessage,
    outputs: Mapping[Camera, NDArray[np.float32]],
    config: EngineConfig,
) -> tuple[tuple[RegionState, RegionState, RegionState], NDArray[np.float32]]:
    """Filters what is new, holds and fades what is not; states of the regions and a fresh float32 [60] of values.

    A frame that is not newer than the last of its camera moves nothing; a clock that jumps back far begins afresh.
    """
    raw_N, dt_N = connection._raw_N, connection._dt_N
    dt_N.fill(0.0)
    for frame in message.frames:
        camera, region = frame.camera, connection._regions[frame.camera]
        elapsed_s = AFRESH_S if region.t_ns is None else (frame.t_ns - region.t_ns) * 1e-9
        if abs(elapsed_s) > config.gap_s:
            elapsed_s = AFRESH_S
        if elapsed_s <= 0.0:
            continue
        region.t_ns = frame.t_ns
        out_O = outputs[camera]
        region.confidence = _sigmoid(float(out_O[-1]))
        eus, gaze = REGION_CHANNELS[camera]
        dt_N[eus] = dt_N[gaze] = elapsed_s
        if camera is Camera.MOUTH:
            raw_N[eus] = out_O[:-1]
        else:
            raw_N[eus] = out_O[:_EYE_EUS]
            raw_N[gaze] = out_O[_EYE_EUS : _EYE_EUS + 2]
            if camera is Camera.RIGHT_EYE:
                raw_N[gaze.start] *= -1  # heads give yaw towards the temple; positive is the wearer's left
    raw_N[:EU_COUNT].clip(0.0, 1.0, out=raw_N[:EU_COUNT])
    connection._filter.step(raw_N, dt_N)
    values_N = connection._filter.values_N.copy()
    live = {frame.camera for frame in message.frames}
    states = [
        _region_state(region, camera in live, message.t_ns, config) for camera, region in connection._regions.items()
    ]
    for (camera, region), (state, share) in zip(connection._regions.items(), states, strict=True):
        if share < 1.0:
            for channels in REGION_CHANNELS[camera]:
                values_N[channels] *= share
            if state is _UNSEEN:
                region.t_ns = None
    left_eye, right_eye, mouth = (state for state, _ in states)
    return (left_eye, right_eye, mouth), values_N


def _region_state(region: _Region, live: bool, now_ns: int, config: EngineConfig) -> tuple[RegionState, float]:
    """The state of a region and the share of its values that is left."""
    if live:
        return RegionState(Validity.LIVE, region.confidence), 1.0
    if region.t_ns is None:
        return _UNSEEN, 0.0
    late_ms = (now_ns - region.t_ns) * 1e-6 - config.hold_ms
    if late_ms <= 0:
        return RegionState(Validity.HELD, region.confidence), 1.0
    share = 1 - late_ms / config.fade_ms
    return (_UNSEEN, 0.0) if share <= 0 else (RegionState(Validity.FADING, region.confidence * share), share)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
