"""What the cameras saw in the takes of one calibration, as movement from the wearer's neutral image; frames are not kept.

All takes of a call are of one fitting: a headset put on anew needs a new rest. Axes: T frame set, F feature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.crops import crops_of
from calibration.movement import FEATURES, Gate, MovementMeter, NeutralError, neutral_image
from model_export.contract.frames import Camera
from model_export.contract.take import Take

_FIRST_FRAMES: Final = 4
"""Frames at the start of each take that stand in for a rest: nobody moves before the prompt."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one camera saw in one take."""

    features_TF: NDArray[np.float32]
    """float32 [T, 768]: flow and appearance; of frames that are not good the last good ones."""
    good_T: NDArray[np.bool_]
    """Frames whose movement can be trusted."""
    gates: tuple[Gate | None, ...]
    """Why a frame is gated; None where it is good, or was never taken."""
    slip_px_T: NDArray[np.float32]
    """How far the picture slipped from the neutral image."""


@dataclass(frozen=True, slots=True)
class SeenTake:
    """What was seen in one take."""

    cue: str
    t_ns: NDArray[np.int64]
    cameras: Mapping[Camera, Seen]
    """Cameras of the take that have a neutral image."""

    def __len__(self) -> int:
        return len(self.t_ns)

    @property
    def rate_hz(self) -> float:
        """Frame sets a second."""
        return 1e9 / float(np.median(np.diff(self.t_ns))) if len(self.t_ns) > 1 else 1.0


@dataclass(frozen=True, slots=True)
class Sight:
    """All takes of a calibration as seen, and the cameras that could not be used."""

    takes: tuple[SeenTake, ...]
    unusable: Mapping[Camera, NeutralError]
    """Cameras without a neutral image, with the reason."""


def see(takes: Sequence[Take]) -> Sight:
    """Measure every frame of the takes against the neutral image of their rest; about 0.8 ms a frame and camera."""
    neutral, unusable = neutrals_of(takes)
    return Sight(tuple(see_take(take, neutral) for take in takes), unusable)


def neutrals_of(takes: Sequence[Take]) -> tuple[dict[Camera, NDArray[np.uint8]], dict[Camera, NeutralError]]:
    """The neutral image of each camera, from the rests among the takes or else from their beginnings, and why one has none."""
    rests = [take for take in takes if take.cue == "rest"]
    frames: dict[Camera, list[NDArray[np.uint8]]] = {}
    for take in rests or takes:
        for camera, (crops_THW, seen_T) in crops_of(take if rests else _start(take)).items():
            frames.setdefault(camera, []).extend(crops_THW[seen_T])
    neutral: dict[Camera, NDArray[np.uint8]] = {}
    unusable: dict[Camera, NeutralError] = {}
    for camera, crops in frames.items():
        try:
            neutral[camera] = neutral_image(crops)
        except NeutralError as error:
            unusable[camera] = error
    return neutral, unusable


def _start(take: Take) -> Take:
    images = {camera: images[:_FIRST_FRAMES] for camera, images in take.images.items()}
    return Take(take.cue, take.encoding, take.t_ns[:_FIRST_FRAMES], images, take.size_px)


def see_take(take: Take, neutral: Mapping[Camera, NDArray[np.uint8]]) -> SeenTake:
    """Measure every frame of one take against these neutral images."""
    cameras = {
        camera: see_camera(MovementMeter(camera, neutral[camera]), crops_THW, seen_T)
        for camera, (crops_THW, seen_T) in crops_of(take).items()
        if camera in neutral
    }
    return SeenTake(take.cue, take.t_ns, cameras)


def see_camera(meter: MovementMeter, crops_THW: NDArray[np.uint8], seen_T: NDArray[np.bool_]) -> Seen:
    """What a meter measures in the crops of one camera and take; `seen_T` says which crops are frames."""
    count = len(crops_THW)
    features_TF = np.zeros((count, FEATURES), np.float32)
    good_T = np.zeros(count, bool)
    slip_px_T = np.zeros(count, np.float32)
    gates: list[Gate | None] = [None] * count
    last_F = np.zeros(FEATURES, np.float32)
    for row in range(count):
        if seen_T[row]:
            movement = meter.measure(crops_THW[row])
            gates[row] = movement.gate
            slip_px_T[row] = movement.slip.length_px
            if movement.gate is None:
                good_T[row] = True
                last_F = movement.features()
        features_TF[row] = last_F
    return Seen(features_TF, good_T, tuple(gates), slip_px_T)
