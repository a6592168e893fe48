"""What the backbones see in a take, and what a head says of it: the material of fitting and judging.

Axes: T frame set, F feature, O head output, E expression unit, 4 gaze.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.crops import crops_of
from model_export.contract import (
    EU_COUNT,
    EYE_MOVEMENTS,
    EYE_SIGNALS,
    FEATURE_COUNT,
    Bundle,
    Camera,
    EyePair,
    Head,
    Take,
)
from model_export.estimates import confidences, model_of
from model_export.onnx_features import onnx_features

_EYES: Final = len(EYE_MOVEMENTS)
REGION_EUS: Final = {
    Camera.LEFT_EYE: slice(0, _EYES),
    Camera.RIGHT_EYE: slice(_EYES, 2 * _EYES),
    Camera.MOUTH: slice(2 * _EYES, EU_COUNT),
}
"""Which EUs a camera's head gives, as places in EU_NAMES; they are the head's first outputs, in that order."""
GAZE_OUTPUTS: Final = slice(_EYES, _EYES + 2)
"""Outputs of an eye's head: yaw towards the temple, pitch up, degrees."""
_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class TakeFeatures:
    """The features of one take's frames."""

    cue: str
    t_ns: NDArray[np.int64]
    """int64 [T], capture times, rising."""
    features: Mapping[Camera, NDArray[np.float32]]
    """For each camera of the take float32 [T, 1280]; a row of NaN where it had no frame."""

    def __post_init__(self) -> None:
        for camera, features_TF in self.features.items():
            expected = (len(self.t_ns), FEATURE_COUNT)
            if features_TF.shape != expected or features_TF.dtype != np.float32:
                raise ValueError(
                    f"Features of {camera.label} should be float32 {list(expected)}. "
                    f"Found {features_TF.dtype} {list(features_TF.shape)}."
                )

    def __len__(self) -> int:
        return len(self.t_ns)

    def without(self, cameras: Collection[Camera]) -> "TakeFeatures":
        """The same as if these cameras had not been there."""
        left = {camera: features_TF for camera, features_TF in self.features.items() if camera not in cameras}
        return TakeFeatures(self.cue, self.t_ns, left)


def features_of(
    take: Take, bundle: Bundle, neutral: Mapping[Camera, NDArray[np.float32]] | None = None
) -> TakeFeatures:
    """Runs the bundle's backbones over a take, one thread: about 1 ms a frame set.

    `neutral`: the map [1024] that a camera's frames are compared with; frames of others are compared with nothing.
    """
    neutral = neutral or {}
    features: dict[Camera, NDArray[np.float32]] = {}
    for camera, (crops_THW, seen_T) in crops_of(take).items():
        mirrored_THW = crops_THW[:, :, ::-1] if camera is Camera.RIGHT_EYE else crops_THW
        features[camera] = np.full((len(take), FEATURE_COUNT), np.nan, np.float32)
        if seen_T.any():
            features[camera][seen_T] = onnx_features(
                model_of(bundle, camera), mirrored_THW[seen_T], _BATCH, neutral.get(camera)
            )
    return TakeFeatures(take.cue, take.t_ns, features)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a head says of the frames of a take, unfiltered; NaN where a camera had no frame."""

    values_TE: NDArray[np.float32]
    """float32 [T, 56] in [0, 1], order of EU_NAMES."""
    gaze_T4: NDArray[np.float32]
    """float32 [T, 4] degrees, as in ExpressionValues."""


def answers_of(head: Head, seen: TakeFeatures, eye_pair: EyePair | None = None) -> Answers:
    """The head's values for these features; eyes that were seen together read each other where `eye_pair` says how."""
    values_TE = np.full((len(seen), EU_COUNT), np.nan, np.float32)
    gaze_T4 = np.full((len(seen), 4), np.nan, np.float32)
    outputs = {camera: head[camera].apply(features_TF) for camera, features_TF in seen.features.items()}
    if eye_pair is not None and Camera.LEFT_EYE in outputs and Camera.RIGHT_EYE in outputs:
        _read_each_other(outputs[Camera.LEFT_EYE], outputs[Camera.RIGHT_EYE], eye_pair)
    for camera, out_TO in outputs.items():
        eus = REGION_EUS[camera]
        values_TE[:, eus] = out_TO[:, : eus.stop - eus.start].clip(0, 1)
        if camera is not Camera.MOUTH:
            gaze_T4[:, 2 * camera : 2 * camera + 2] = to_wearer(camera, out_TO[:, GAZE_OUTPUTS])
    return Answers(values_TE, gaze_T4)


def _read_each_other(left_TO: NDArray[np.float32], right_TO: NDArray[np.float32], eye_pair: EyePair) -> None:
    """In place, in frame sets with both eyes; elsewhere each stays as it is."""
    both_T = np.isfinite(left_TO[:, 0] + right_TO[:, 0])
    confidence_T2 = confidences(np.stack([left_TO[both_T, -1], right_TO[both_T, -1]], axis=1))
    left_TO[both_T, :EYE_SIGNALS], right_TO[both_T, :EYE_SIGNALS] = eye_pair.both(
        left_TO[both_T, :EYE_SIGNALS], right_TO[both_T, :EYE_SIGNALS], confidence_T2
    )


def to_wearer(camera: Camera, gaze_T2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Yaw towards the temple to yaw towards the wearer's left, and back: the right eye's changes sign."""
    return gaze_T2 * np.array([-1 if camera is Camera.RIGHT_EYE else 1, 1], np.float32)
