"""One movement's course from what a camera saw: templates, nuisances taken out, activations; pure numpy.

A frame's features are modelled as f = rest + a T + sum_n g_n N_n + noise: T the template of the movement asked for (features
at its apex minus features at rest), N_n what else happens (glances, other movements that come along), each of a known usual
size. The course a_t is the projection on T after whitening by I + N N^T / power, the best linear unbiased estimate for
Gaussian nuisances: features of glances and companions lose their say, and a template like a companion's keeps what is its own.
T itself is found without labels: from a first guess of the course, frames are divided in two (Otsu 1979), T is the difference
of their means, the course its projection; after six rounds nothing changes.
Axes: T frame, F feature, N nuisance, K template.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.movement import CELLS, FEATURES
from model_export.contract.cues import Cue
from model_export.contract.frames import Camera

APPEARANCE_WEIGHT: Final = 15.0
"""One pixel of flow counts as much as a change of brightness by 1/15 of the neutral picture's spread: with flow alone or
appearance alone r falls from .92 to .90 and .91 on the first two wearers (before nuisances)."""
NOISE_POWER: Final = 30.0
"""Power of what a nuisance of usual size must exceed to be taken out; 10 to 100 are alike."""
_ROUNDS: Final = 6
_SMOOTH_S: Final = 0.024

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Course:
    """How a movement went through a take."""

    activation_T: Floats
    """0 at rest, 1 at the mean apex; interpolated over frames that are not good."""
    template_F: Floats
    """Features of the apex minus features at rest, not whitened, of the whole picture."""
    rest_T: Bools
    apex_T: Bools
    strength: float
    """Length of the whitened template over sqrt(power): how far the movement stands out from nuisances and noise."""


def weighted(features_TF: NDArray[np.float32]) -> Floats:
    """Features with appearance on the scale of flow, float64 [T, 768]."""
    scaled_TF = features_TF.astype(np.float64)
    scaled_TF[..., 2 * CELLS * CELLS :] *= APPEARANCE_WEIGHT
    return scaled_TF


def region(cue_name: str, camera: Camera, half: str = "") -> Bools:
    """Which features may speak for a cue, bool [768]: the lids for lids, the brows for brows, one side of the mouth for a half.

    A wearer who raises the brows a little when opening the eyes wide must not have the lids read from the brows.
    """
    inside_RC = np.ones((CELLS, CELLS), bool)
    if camera is not Camera.MOUTH:
        inside_RC[:] = False
        if cue_name in ("eyes_closed", "eyes_wide", "look"):
            inside_RC[4:12, 1:15] = True
        elif cue_name == "squint":
            inside_RC[4:] = True
        else:
            inside_RC[:7] = True
    elif half:
        # the wearer's left is on the picture's right; the middle tells of both
        inside_RC[:, : CELLS // 2 - 1 if half == "Left" else 0] = False
        inside_RC[:, CELLS // 2 + 1 if half == "Right" else CELLS :] = False
    return np.concatenate([np.repeat(inside_RC.ravel(), 2), inside_RC.ravel()])


@dataclass(frozen=True, slots=True)
class Whitening:
    """Takes nuisances out of features."""

    basis_NF: Floats
    shrink_N: Floats

    def __call__(self, features_TF: Floats) -> Floats:
        """Features in which each nuisance has at most the power of noise."""
        if not len(self.basis_NF):
            return features_TF
        return features_TF - (features_TF @ self.basis_NF.T * self.shrink_N) @ self.basis_NF


def whitening(nuisance_NF: Floats, inside_F: Bools, power: float = NOISE_POWER) -> Whitening:
    """The whitening by (I + N^T N / power)^-1/2 within a region; rows of N are nuisances of usual size."""
    nuisance_NF = nuisance_NF * inside_F
    if not len(nuisance_NF) or not nuisance_NF.any():
        return Whitening(np.zeros((0, FEATURES)), np.zeros(0))
    size_N, basis_NF = principal(nuisance_NF)
    return Whitening(basis_NF, 1.0 - 1.0 / np.sqrt(1.0 + size_N**2 / power))


def principal(rows_NF: Floats) -> tuple[Floats, Floats]:
    """Singular values, falling, and right singular vectors of a few long rows, by the eigenvectors of N N^T."""
    power_N, turn_NN = np.linalg.eigh(rows_NF @ rows_NF.T)
    kept_N = power_N > 1e-9 * max(float(power_N[-1]), 1e-12)
    size_N = np.sqrt(power_N[kept_N])[::-1]
    basis_NF: Floats = (turn_NN[:, kept_N][:, ::-1].T @ rows_NF) / size_N[:, None]
    return size_N, basis_NF


def timetable(cue: Cue, frames: int) -> Floats:
    """When a wearer who keeps to the prompts moves, float64 [T]: 1 in the middle half of each slot, 0 at its ends."""
    share_T = (np.arange(frames) + 0.5) / frames * cue.repetitions % 1.0
    return np.where((share_T > 0.3) & (share_T < 0.75), 1.0, np.where((share_T < 0.12) | (share_T > 0.97), 0.0, 0.5))


def find_course(  # noqa: PLR0917 - the inputs of the method
    features_TF: Floats, good_T: Bools, inside_F: Bools, clean: Whitening, start_T: Floats, rate_hz: float
) -> Course:
    """The course of the one movement that divides a take's frames in two, from a first guess (0 rest, 1 moved)."""
    clean_TF = clean(features_TF * inside_F)
    rest_T, apex_T = good_T & (start_T < 0.25), good_T & (start_T > 0.75)
    if min(rest_T.sum(), apex_T.sum()) < 2:
        # too little is left of the timetable's own rest or apex: start from the distance to the first good frames
        first_F = clean_TF[np.flatnonzero(good_T)[:4]].mean(axis=0)
        rest_T, apex_T = divide(np.linalg.norm(clean_TF - first_F, axis=1), good_T)
    activation_T = np.zeros(len(features_TF))
    template_F = np.zeros(features_TF.shape[1])
    for _ in range(_ROUNDS):
        if not rest_T.any() or not apex_T.any():
            break
        rest_F = clean_TF[rest_T].mean(axis=0)
        template_F = clean_TF[apex_T].mean(axis=0) - rest_F
        power = float(template_F @ template_F)
        if power < 1e-9:
            break
        activation_T = smooth(bridge((clean_TF - rest_F) @ template_F / power, good_T), rate_hz)
        rest_T, apex_T = divide(activation_T, good_T)
    strength = float(np.linalg.norm(template_F)) / float(np.sqrt(NOISE_POWER))
    if not rest_T.any() or not apex_T.any():
        return Course(np.zeros(len(features_TF)), np.zeros(features_TF.shape[1]), good_T, np.zeros_like(good_T), 0.0)
    raw_F = features_TF[apex_T].mean(axis=0) - features_TF[rest_T].mean(axis=0)
    return Course(activation_T, raw_F, rest_T, apex_T, strength)


def divide(activation_T: Floats, good_T: Bools) -> tuple[Bools, Bools]:
    """The frames clearly at rest and those clearly at an apex, bool [T] each; no apex where all good frames are alike."""
    threshold = otsu(activation_T[good_T])
    high_T, low_T = good_T & (activation_T > threshold), good_T & (activation_T <= threshold)
    if not high_T.any() or not low_T.any():
        return good_T, np.zeros_like(good_T)
    low, high = float(np.median(activation_T[low_T])), float(np.median(activation_T[high_T]))
    rest_T = low_T & (activation_T <= low + 0.15 * (high - low))
    return rest_T, high_T & (activation_T >= high - 0.1 * (high - low))


def otsu(values_T: Floats) -> float:
    """The threshold that divides values into the two classes with the greatest variance between them (Otsu 1979)."""
    ordered_T = np.sort(values_T)
    count = len(ordered_T)
    least = max(1, count // 12)
    split_S = np.arange(least, count - least + 1)
    if not len(split_S):
        return float(ordered_T[-1])
    total_T = np.cumsum(ordered_T)
    low_S = total_T[split_S - 1] / split_S
    high_S = (total_T[-1] - total_T[split_S - 1]) / (count - split_S)
    between_S = split_S * (count - split_S) * (high_S - low_S) ** 2
    best = int(split_S[int(np.argmax(between_S))])
    return 0.5 * (float(ordered_T[best - 1]) + float(ordered_T[best]))


def bridge(values_T: Floats, good_T: Bools) -> Floats:
    """Values with those of frames that are not good interpolated from their neighbours."""
    if good_T.all() or not good_T.any():
        return values_T
    places_T = np.arange(len(values_T))
    return np.interp(places_T, places_T[good_T], values_T[good_T])


def smooth(values_T: Floats, rate_hz: float) -> Floats:
    """Values through a Gaussian of 24 ms (at 30 Hz about 1/4, 1/2, 1/4)."""
    spread = _SMOOTH_S * rate_hz
    reach = max(1, int(np.ceil(2.0 * spread)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(spread, 1e-3)) ** 2)
    padded_T = np.pad(values_T, reach, mode="edge")
    return np.convolve(padded_T, kernel / kernel.sum(), mode="valid")


def monotone(values_T: Floats, weight_T: Floats | None = None) -> Floats:
    """The rising sequence nearest to the values (isotonic regression by pooling adjacent violators; Ayer et al. 1955)."""
    weights = np.ones(len(values_T)) if weight_T is None else weight_T
    means: list[float] = []
    sizes: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values_T.tolist(), weights.tolist(), strict=True):
        means.append(value)
        sizes.append(weight)
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            size = sizes[-2] + sizes[-1]
            pooled = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size if size > 0 else means[-2]
            means[-2:], sizes[-2:], counts[-2:] = [pooled], [size], [counts[-2] + counts[-1]]
    return np.repeat(means, counts)
