"""What the service knows of one headset's face between frame sets: signals, filter, confidence, capture times.

Axes: S signal, P signal of the two eyes, E expression unit.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.frames import Camera
from model_export.contract.resting import Resting
from model_export.contract.values import ExpressionValues, RegionState, Validity
from model_export.runtime import Runtime
from service.errors import ErrorCode, WireError
from service.filters import FilterConfig, OneEuro
from service.heads import FoldedHead
from service.paired_eyes import BOTH_EYES, PairedEyes
from service.placer import Placer
from service.regions import LIVE, RegionClock, Seen
from service.rig import Rig
from service.signals import EUS_S, GAZE_S, REGION_SIGNALS, SIGNAL_COUNT
from service.slip_watch import SlipWatch
from service.wire_messages import EncodedFrame, FrameMessage

TOGETHER_NS: Final = 25_000_000
"""Two eyes seen within this read each other: a pair of 40 Hz cameras that come apart; a saccade takes 30 ms and more."""
_NONE: Final = (0.0, 0.0, 0.0)


class Face:
    """The state of one headset on the live path; only the inference thread touches it, and it never grows."""

    def __init__(
        self,
        config: FilterConfig,
        wearer: str,
        resting: Resting | None = None,
        paired_eyes: PairedEyes | None = None,
        *,
        places: bool = True,
    ) -> None:
        self.wearer = wearer
        self.slip_watch = SlipWatch(resting)
        self.placer = Placer(resting if places else None)
        self._paired_eyes = paired_eyes
        self._own_P: NDArray[np.float32] = np.zeros(BOTH_EYES, np.float32)
        self._eye_t_ns: list[int | None] = [None, None]
        self._config = config
        self._reset_gap_ns = round(config.reset_gap_s * 1e9)
        self._raw_S: NDArray[np.float32] = np.zeros(SIGNAL_COUNT, np.float32)
        self._filter = OneEuro(config)
        self._clocks = tuple(RegionClock() for _ in Camera)
        self._confidences = [0.0, 0.0, 0.0]

    def newer(self, frames: Iterable[EncodedFrame]) -> list[EncodedFrame]:
        """The frames that are newer than what was seen of their camera; a late one is answered, but changes nothing."""
        return [frame for frame in frames if not self._clocks[frame.camera].is_late(frame.t_ns)]

    def apply(self, head: FoldedHead, frames: Iterable[EncodedFrame], runtime: Runtime) -> None:
        """Turns the features of these frames' cameras into raw signals and confidences."""
        for frame in frames:
            camera = frame.camera
            features_BF = runtime.mouth_features_BF if camera is Camera.MOUTH else runtime.eye_features_BF
            features_F = features_BF[0] if camera is not Camera.RIGHT_EYE else features_BF[1]
            self._confidences[camera] = confidence = head.apply(camera, features_F, self._raw_S)
            self.placer.look(camera, frame.t_ns, head.head, features_F, confidence)
            self.slip_watch.look(camera, frame.t_ns, head.head, features_F, self._raw_S)
        if self._paired_eyes is not None:
            self._read_both([frame for frame in frames if frame.camera is not Camera.MOUTH], self._paired_eyes)
        if not isfinite(float(np.dot(self._raw_S, self._raw_S))):
            self._raw_S[:] = self._filter.value_S  # a NaN must not stay in the filter for ever
            self._eye_t_ns = [None, None]  # nor be what the other eye reads
            raise WireError(ErrorCode.INTERNAL, "The head should give finite numbers.", "others", "Fit the head again.")

    def _read_both(self, eyes: list[EncodedFrame], paired_eyes: PairedEyes) -> None:
        """The raw signals of these eyes' frames, read from both where both are known of about the same time."""
        for frame in eyes:
            signals = REGION_SIGNALS[frame.camera]
            self._own_P[signals] = self._raw_S[signals]
            self._eye_t_ns[frame.camera] = frame.t_ns
        left_ns, right_ns = self._eye_t_ns
        if not eyes or left_ns is None or right_ns is None or abs(left_ns - right_ns) > TOGETHER_NS:
            return
        both_P = paired_eyes.read(self._own_P, *self._confidences[:2])
        for frame in eyes:
            signals = REGION_SIGNALS[frame.camera]
            self._raw_S[signals] = both_P[signals]

    def smooth(self, frames: Iterable[EncodedFrame]) -> None:
        """Moves the filter on to these frames, each camera by its own capture times."""
        steps_s = list(_NONE)
        for frame in frames:
            steps_s[frame.camera] = step_s = self._clocks[frame.camera].step(frame.t_ns, self._reset_gap_ns)
            if step_s == 0.0:
                self._filter.restart(frame.camera, self._raw_S)
        self._filter.advance(self._raw_S, (steps_s[0], steps_s[1], steps_s[2]))

    def values(
        self, message: FrameMessage, newer: Iterable[EncodedFrame], rig: Rig, digest: str, head_version: int
    ) -> ExpressionValues:
        """The answer to a frame set after its `newer` frames went through the filter; its arrays are its own."""
        sequence, t_ns = message.sequence, message.t_ns
        live = {frame.camera for frame in newer}
        seen = [LIVE if camera in live else self._state(camera, t_ns, rig) for camera in Camera]
        signals_S = self._filter.value_S
        if any(state.weight != 1.0 for state in seen):
            signals_S = signals_S.copy()
            for camera, state in zip(Camera, seen, strict=True):
                signals_S[REGION_SIGNALS[camera]] *= state.weight
        left, right, mouth = (
            RegionState(state.validity, state.weight * confidence)
            for state, confidence in zip(seen, self._confidences, strict=True)
        )
        return ExpressionValues(
            sequence, t_ns, signals_S[EUS_S], signals_S[GAZE_S], (left, right, mouth), digest, head_version
        )

    def lag_ms(self) -> tuple[float, float, float, float]:
        """What the filter adds now, milliseconds, in the order of FILTER_GROUPS."""
        return self._filter.lag_ms()

    def _state(self, camera: Camera, t_ns: int, rig: Rig) -> Seen:
        placement = rig.get(camera)
        state = self._clocks[camera].state(t_ns, placement.rate_hz if placement is not None else None)
        if state.validity is Validity.UNSEEN:
            self._confidences[camera] = 0.0
        return state
