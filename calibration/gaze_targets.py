"""Where the eyes looked in the take of the dots; pure numpy.

The wearer follows dots whose places are known. A ridge regression from the features of the lids' region to the dots, fitted on
frames in which the eye has arrived (found by refitting without those far off), gives gaze between the dots too: when a
saccade starts and ends is read from the picture, not from the timetable. Axes: T frame, F feature, D dot.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.activation import Bools, region, weighted
from calibration.seen import Seen
from model_export.contract.cues import Cue
from model_export.contract.frames import Camera

RANGE_DEG: Final = {"In": 35.0, "Out": 35.0, "Up": 26.0, "Down": 26.0}
"""Rotation of an eye that counts as 1: the middle of what people reach. Nobody is asked to look as far as possible."""
_ARRIVED: Final = 0.5
"""Share of a dot's time after which the eyes are there: reaction and saccade take 0.2 to 0.4 s of 0.9 s."""
_FAR_DEG: Final = 6.0
_RIDGE: Final = 0.2
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class GazeTargets:
    """Gaze of one eye in the take of the dots."""

    gaze_T2: NDArray[np.float32]
    """float32 [T, 2]: yaw to the wearer's left and pitch up, degrees."""
    confidence_T: NDArray[np.float32]
    dot_T: NDArray[np.int32]
    """The dot shown."""
    error_deg: float
    """Median distance from the dots in frames in which the eye had arrived."""


def gaze_targets(seen: Seen, t_ns: NDArray[np.int64], cue: Cue, camera: Camera, good_T: Bools) -> GazeTargets | None:
    """The gaze of one eye in the take of a cue with dots; None where too few frames are good to tell."""
    dots_D2 = np.array(cue.dots_deg, np.float64)
    share_T = (t_ns - t_ns[0]) / max(1.0, float(t_ns[-1] - t_ns[0])) * len(dots_D2) * 0.9999
    dot_T = share_T.astype(np.int32)
    arrived_T = good_T & (share_T - dot_T > _ARRIVED)
    if len(np.unique(dot_T[arrived_T])) < min(5, len(dots_D2)):
        return None
    features_TF = weighted(seen.features_TF)
    lids_TF = features_TF * region("look", camera)
    lids_TF -= np.median(lids_TF[arrived_T], axis=0)
    use_T = arrived_T
    predicted_T2 = np.zeros((len(t_ns), 2))
    away_T = np.zeros(len(t_ns))
    for _ in range(_ROUNDS):
        inside_TF, goal_T2 = lids_TF[use_T], dots_D2[dot_T[use_T]]
        middle_2 = goal_T2.mean(axis=0)
        gram = inside_TF @ inside_TF.T
        ridge = _RIDGE * float(np.trace(gram)) / len(gram)
        weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), goal_T2 - middle_2)
        predicted_T2 = lids_TF @ inside_TF.T @ weights + middle_2
        away_T = np.hypot(*(predicted_T2 - dots_D2[dot_T]).T)
        use_T = arrived_T & (away_T < _FAR_DEG)
        if use_T.sum() < max(10, len(dots_D2)):
            return None
    # a frame far from its own dot although the eye should be there is believed less, one in a saccade half
    confidence_T = np.where(arrived_T, np.clip(1.5 - away_T / _FAR_DEG, 0.0, 1.0), 0.5) * good_T
    error_deg = float(np.median(away_T[arrived_T]))
    return GazeTargets(predicted_T2.astype(np.float32), confidence_T.astype(np.float32), dot_T, error_deg)


def look_values(gaze_T2: NDArray[np.float32], camera: Camera) -> dict[str, NDArray[np.float32]]:
    """Values of eyeLookIn, -Out, -Up and -Down of one eye for gaze in degrees, float32 [T] each."""
    outward = 1.0 if camera is Camera.LEFT_EYE else -1.0
    ways = {"Out": outward * gaze_T2[:, 0], "In": -outward * gaze_T2[:, 0], "Up": gaze_T2[:, 1], "Down": -gaze_T2[:, 1]}
    return {way: np.clip(course_T / RANGE_DEG[way], 0.0, 1.0).astype(np.float32) for way, course_T in ways.items()}
