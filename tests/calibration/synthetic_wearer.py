"""A wearer without a face: features are random, and what the wearer's EUs are follows from them by a head of the wearer's own.

Axes: T frame, F feature, O head output.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.features import REGION_EUS, TakeFeatures
from calibration.material import FitTake
from calibration.take_targets import TakeTargets
from model_export.contract import EU_COUNT, FEATURE_COUNT, MAP_COUNT, Camera, Head, RegionHead, cue_by_name
from tests.bundles import make_head

FRAME_NS = 33_333_333
PERIOD = 20
"""Frames of one repetition: half of them at rest."""


def universal() -> Head:
    """A head that answers 0 at the features of a resting face, and moves by some tenths away from there."""
    head = make_head(0, backbone_digest="b" * 64)
    rest_F = np.ones((1, FEATURE_COUNT), np.float32)
    regions = [replace(head[camera], bias_O=head[camera].bias_O - head[camera].apply(rest_F)[0]) for camera in Camera]
    return replace(head, left_eye=regions[0], right_eye=regions[1], mouth=regions[2])


def own_head(head: Head, gain: float = 1.0, offset: float = 0.0) -> Head:
    """The head that is right for a wearer whose EUs all have another gain and resting offset."""

    def altered(region: RegionHead) -> RegionHead:
        return replace(
            region,
            weight_FO=(region.weight_FO * np.float32(gain)),
            bias_O=(region.bias_O * np.float32(gain) + np.float32(offset)),
        )

    return replace(head, left_eye=altered(head.left_eye), right_eye=altered(head.right_eye), mouth=altered(head.mouth))


def direction_of(head: Head, camera: Camera, output: int) -> NDArray[np.float32]:
    """The step in features that moves one output by 1 and the others of its region little; each has its own in the map."""
    last_F = np.linalg.pinv(head[camera].weight_FO.T)[:, output]
    map_M = np.random.default_rng([int(camera), output]).normal(0, 0.3, MAP_COUNT)
    return np.concatenate([last_F, map_M]).astype(np.float32)


def cue_take(
    head: Head, own: Head, cue_name: str, seed: int = 0, *, repetitions: int = 2, noise: float = 0.0
) -> FitTake:
    """A take in which the cue's EUs go up and down, with the truth of the wearer's own head and noise on it."""
    random = np.random.default_rng([seed, *cue_name.encode()])
    cue = cue_by_name(cue_name)
    count = PERIOD * repetitions
    course_T = np.sin(np.pi * ((np.arange(count) % PERIOD) / (PERIOD / 2)).clip(0, 1)) if cue.eus else np.zeros(count)
    features: dict[Camera, NDArray[np.float32]] = {}
    values_TE = np.zeros((count, EU_COUNT), np.float32)
    for camera in Camera:
        eus = REGION_EUS[camera]
        features_TF = 1 + random.normal(0, 0.02, (count, FEATURE_COUNT))
        for e in cue.eu_indices:
            if eus.start <= e < eus.stop:
                features_TF += 0.7 * course_T[:, None] * direction_of(head, camera, e - eus.start)
        features[camera] = features_TF.astype(np.float32)
        said_TE = own[camera].apply(features[camera])[:, : eus.stop - eus.start]
        values_TE[:, eus] = (said_TE + random.normal(0, noise, said_TE.shape)).clip(0, 1)
    t_ns = np.arange(count, dtype=np.int64) * FRAME_NS + seed * 10**12
    targets = TakeTargets(
        cue_name,
        t_ns,
        values_TE,
        np.ones((count, EU_COUNT), np.float32),
        (np.arange(count) // PERIOD).astype(np.int32),
    )
    return FitTake(TakeFeatures(cue_name, t_ns, features), targets)


def calibration_takes(head: Head, own: Head, noise: float = 0.03) -> list[FitTake]:
    """Rest and six cues, two repetitions each."""
    names = ("rest", "eyes_closed", "brows_up", "jaw_open", "smile", "pucker", "lips_in")
    return [cue_take(head, own, name, number, noise=noise) for number, name in enumerate(names)]


def with_targets(take: FitTake, **fields: NDArray[np.generic]) -> FitTake:
    """The same take with other targets."""
    return FitTake(take.seen, replace(take.targets, **fields))  # type: ignore[arg-type]  # names of its fields


def same_heads(one: Head, other: Head) -> bool:
    """Whether all numbers are equal."""
    names = ("down_FA", "down_bias_A", "up_AF", "weight_FO", "bias_O", "map_MO")
    return all(
        np.array_equal(getattr(one[camera], name), getattr(other[camera], name)) for camera in Camera for name in names
    )
