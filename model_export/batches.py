"""Batches as a pure function of seed, step and rank: what makes a killed run resume exactly.

Axes: N frame sets of a batch, B crops of a batch, H W image, E expression unit, O gaze yaw and pitch, K point.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from model_export.augment import AugmentConfig, augment
from model_export.contract import CROP_SIZE_PX, EYE_MOVEMENTS, MOUTH_EUS, Camera, Slip
from model_export.data import Shard, ShardEntry, open_shard
from model_export.places import Places
from model_export.points import EYE_POINTS, MOUTH_POINTS, MOUTH_POINTS_MIRROR, carried

_EYES: Final = len(EYE_MOVEMENTS)


def _other_side(name: str) -> str:
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


MOUTH_MIRROR: Final = np.array([MOUTH_EUS.index(_other_side(name)) for name in MOUTH_EUS])
"""values_E[MOUTH_MIRROR] are the mouth EUs of the mirrored face: left and right change places."""


@dataclass(frozen=True, slots=True)
class Batch:
    """N frame sets as crops with labels; B = 2 N for eyes (left eyes, then right eyes mirrored), N for mouths."""

    eye_pixels_BHW: Tensor
    eye_values_BE: Tensor
    """float32 [2 N, 12] in [0, 1], order of EYE_MOVEMENTS."""
    eye_gaze_BO: Tensor
    """float32 [2 N, 2] degrees: yaw towards the temple, pitch up."""
    eye_intact_B: Tensor
    """float32, 1 for a crop that can be read, 0 for a spoiled one."""
    mouth_pixels_BHW: Tensor
    mouth_values_BE: Tensor
    """float32 [N, 32] in [0, 1], order of MOUTH_EUS."""
    mouth_intact_B: Tensor
    eye_points_BK4: Tensor
    """float32 [2 N, 33, 4] px (model_export.points), of right eyes mirrored as their crops are."""
    mouth_points_BK4: Tensor
    """float32 [N, 48, 4]."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def eye_labels(shard: Shard, t: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values [2, 12] and gaze [2, 2] of the left eye and of the right eye seen as a left one."""
    values_2E = shard.values_TE[t, : 2 * _EYES].reshape(2, _EYES)
    gaze_22 = shard.gaze_T4[t].reshape(2, 2) * np.array([[1, 1], [-1, 1]], np.float32)
    return values_2E, gaze_22


class BatchSource(Dataset[Batch]):
    """source[step] is the batch of that step for this rank; opened again, not copied, in loader processes."""

    def __init__(
        self,
        entries: Sequence[ShardEntry],
        frame_sets: int,
        augmentation: AugmentConfig,
        places: Places | None = None,
        *,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._entries = tuple(entries)
        self._frame_sets = frame_sets
        self._augmentation = augmentation
        self._seed, self._rank, self._ranks = seed, rank, ranks
        counts = [entry.frames for entry in entries]
        self._shard_N = np.repeat(np.arange(len(counts)), counts)
        self._frame_N = np.concatenate([np.arange(count) for count in counts])
        self._shards: list[Shard] | None = None
        self._places = places
        self._slips: dict[int, dict[Camera, list[Slip]]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_shards": None, "_slips": {}}

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every frame set is seen about once, over all ranks."""
        return max(1, round(len(self._shard_N) / (self._frame_sets * self._ranks)))

    def __getitem__(self, step: int) -> Batch:
        if self._shards is None:
            cv2.setNumThreads(1)
            self._shards = [open_shard(entry) for entry in self._entries]
        rng = np.random.default_rng([self._seed, step, self._rank])
        count = self._frame_sets
        eyes_BHW = np.empty((2 * count, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
        mouths_BHW = np.empty((count, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
        eye_values_BE = np.empty((2 * count, _EYES), np.float32)
        eye_gaze_BO = np.empty((2 * count, 2), np.float32)
        mouth_values_BE = np.empty((count, len(MOUTH_EUS)), np.float32)
        eye_intact_B, mouth_intact_B = np.empty(2 * count, np.float32), np.empty(count, np.float32)
        eye_points_BK4 = np.empty((2 * count, EYE_POINTS, 4), np.float32)
        mouth_points_BK4 = np.empty((count, MOUTH_POINTS, 4), np.float32)
        mirror_B = rng.random(count) < (0.5 if self._augmentation.shift else 0.0)
        first = (step * self._ranks + self._rank) * count
        for n in range(count):
            index = self._index(first + n)
            number, t = int(self._shard_N[index]), int(self._frame_N[index])
            shard, slips = self._shards[number], self._slips_of(number, t)
            values_2E, gaze_22 = eye_labels(shard, t)
            for eye, crop_HW in ((0, shard.left_eye_THW[t]), (1, shard.right_eye_THW[t])):
                b, slip = n + eye * count, slips.get((Camera.LEFT_EYE, Camera.RIGHT_EYE)[eye])
                seen = augment(crop_HW, rng, self._augmentation, mirrored=eye == 1, slip=slip)
                eyes_BHW[b], eye_intact_B[b], way_23 = seen
                eye_points_BK4[b] = carried(shard.eye_points_T2K4[t, eye], way_23)
                eye_values_BE[b], eye_gaze_BO[b] = values_2E[eye], gaze_22[eye]
            mirrored = bool(mirror_B[n])
            slip = slips.get(Camera.MOUTH)
            seen = augment(shard.mouth_THW[t], rng, self._augmentation, mirrored=mirrored, slip=slip)
            mouths_BHW[n], mouth_intact_B[n], way_23 = seen
            values_E, points_K4 = shard.values_TE[t, 2 * _EYES :], shard.mouth_points_TK4[t]
            mouth_values_BE[n] = values_E[MOUTH_MIRROR] if mirrored else values_E
            mouth_points_BK4[n] = carried(points_K4[MOUTH_POINTS_MIRROR] if mirrored else points_K4, way_23)
        return Batch(
            *map(
                torch.from_numpy,
                (
                    *(eyes_BHW, eye_values_BE, eye_gaze_BO, eye_intact_B),
                    *(mouths_BHW, mouth_values_BE, mouth_intact_B),
                    *(eye_points_BK4, mouth_points_BK4),
                ),
            )
        )

    def _slips_of(self, number: int, t: int) -> dict[Camera, Slip]:
        """Where the face of this shard is in the crops of a frame; nothing where nobody knows."""
        if self._places is None or self._shards is None:
            return {}
        shard = self._shards[number]
        if number not in self._slips:
            self._slips[number] = self._places.of(shard)
        fitting = int(shard.fitting_T[t])
        return {camera: slips[fitting] for camera, slips in self._slips[number].items()}

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self._shard_N))
        return int(_order(self._seed, epoch, len(self._shard_N))[place])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 1 << 40, epoch]).permutation(count)


class _StepsFrom(Sampler[int]):
    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        step = self._first
        while True:
            yield step
            step += 1


def batches(source: BatchSource, first_step: int, workers: int) -> Iterator[Batch]:
    """The batches from `first_step` on, without end; made by `workers` processes, or here when 0."""
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=_StepsFrom(first_step),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)
