"""Batches as a pure function of seed, step and rank: what makes a killed run resume exactly.

Axes: N frame sets of a batch, B crops of a batch, H W image, E expression unit, O gaze yaw and pitch, K point.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from model_export.augment import AugmentConfig, augment
from model_export.contract import EYE_MOVEMENTS, MOUTH_EUS, Camera, Slip
from model_export.data import Shard, ShardEntry, open_shard
from model_export.places import Places
from model_export.points import MOUTH_POINTS_MIRROR, carried

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
    eye_rests_RHW: Tensor
    """uint8 [2 R, 128, 128]: the faces of this batch's R fittings at rest, in the place and the light of their crops."""
    eye_of_rests_BR: Tensor
    """float32 [2 N, 2 R]: share of each rest's map in what a crop is compared with; all shares of a crop add to 1, or to 0."""
    eye_of_crops_BB: Tensor
    """float32 [2 N, 2 N]: the same of the crops' maps, of which some count against: what is known of a moving face is how it
    differs from others."""
    mouth_rests_RHW: Tensor
    mouth_of_rests_BR: Tensor
    mouth_of_crops_BB: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def eye_labels(shard: Shard, t: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values [2, 12] and gaze [2, 2] of the left eye and of the right eye seen as a left one."""
    values_2E = shard.values_TE[t, : 2 * _EYES].reshape(2, _EYES)
    gaze_22 = shard.gaze_T4[t].reshape(2, 2) * np.array([[1, 1], [-1, 1]], np.float32)
    return values_2E, gaze_22


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame set of a batch, and what it shares with the others of its fitting there."""

    shard: Shard
    t: int
    fitting: tuple[int, int]
    """Number of the shard, and of the fitting in it."""
    seed: int
    """What happens to the crops of this fitting in this batch is drawn from this."""
    slips: Mapping[Camera, Slip]
    """Where the face is in the crops; nothing where nobody knows."""

    def shared(self, camera: Camera) -> np.random.Generator:
        """A generator that draws the same for all frames of the fitting."""
        return np.random.default_rng([self.seed, camera])


class _Crops:
    """The crops of one region of a batch, as they are added, and what each is compared with."""

    def __init__(self, augmentation: AugmentConfig, rng: np.random.Generator) -> None:
        self._augmentation = augmentation
        self._of_rests = replace(augmentation, spoiled=0.0, moved_px=0.0)
        self._rng = rng
        self._pixels: list[NDArray[np.uint8]] = []
        self._intact: list[bool] = []
        self._rests: list[NDArray[np.uint8]] = []
        self._rest_of: dict[tuple[int, int, Camera], int] = {}
        self._rest_B: list[int] = []

    def add(self, frame: _Frame, camera: Camera, *, mirrored: bool) -> NDArray[np.float64]:
        """Changes the crop as the other ones of its fitting are; gives the way that its points went."""
        key, slip = (*frame.fitting, camera), frame.slips.get(camera)
        if key not in self._rest_of:
            self._rest_of[key] = len(self._rests)
            rest_HW, own = frame.shard.rests[camera][frame.fitting[1]], self._rng
            changed = augment(rest_HW, frame.shared(camera), self._of_rests, mirrored=mirrored, slip=slip, own=own)
            self._rests.append(changed.pixels_HW)
        crop_HW = frame.shard.images[camera][frame.t]
        changed = augment(
            crop_HW, frame.shared(camera), self._augmentation, mirrored=mirrored, slip=slip, own=self._rng
        )
        self._pixels.append(changed.pixels_HW)
        self._intact.append(changed.intact)
        self._rest_B.append(self._rest_of[key])
        return changed.way_23

    def tensors(self) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Pixels, which crops are intact, and: rests, shares of rests, shares of other crops."""
        count, rng, config = len(self._pixels), self._rng, self._augmentation
        rest_B, intact_B = np.array(self._rest_B), np.array(self._intact)
        others_BB = (rest_B[:, None] == rest_B) & intact_B & ~np.eye(count, dtype=bool)
        others_B = others_BB.sum(axis=1)
        known_B = rng.random(count) < config.compared
        moving_B = (rng.random(count) < config.moving) & (others_B > 0)
        rested_B = np.where(moving_B, rng.random(count), 1.0)
        # as in use (contract.resting): the mean map at rest, and a share of what sets this face apart from the batch's faces
        own_B = np.where(moving_B, rng.uniform(config.least_own, 1.0, count), 1.0)
        of_rests_BR = np.full((count, len(self._rests)), 1 / len(self._rests)) * (1 - own_B * rested_B)[:, None]
        of_rests_BR[np.arange(count), rest_B] += own_B * rested_B
        of_crops_BB = others_BB / np.maximum(others_B, 1)[:, None] - intact_B / max(intact_B.sum(), 1)
        of_crops_BB *= (own_B * (1 - rested_B))[:, None]
        return (
            torch.from_numpy(np.stack(self._pixels)),
            torch.from_numpy(intact_B.astype(np.float32)),
            (
                torch.from_numpy(np.stack(self._rests)),
                torch.from_numpy((known_B[:, None] * of_rests_BR).astype(np.float32)),
                torch.from_numpy((known_B[:, None] * of_crops_BB).astype(np.float32)),
            ),
        )


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
        together: int = 1,
    ) -> None:
        """`together`: how many frame sets of one fitting come after each other, to be compared with each other."""
        self._entries = tuple(entries)
        self._frame_sets = frame_sets
        self._augmentation = augmentation
        self._seed, self._rank, self._ranks, self._together = seed, rank, ranks, together
        counts = [entry.frames for entry in entries]
        self._shard_N = np.repeat(np.arange(len(counts)), counts)
        self._frame_N = np.concatenate([np.arange(count) for count in counts])
        self._shards: list[Shard] | None = None
        self._order: tuple[int, NDArray[np.intp]] | None = None
        self._places = places
        self._slips: dict[int, dict[Camera, list[Slip]]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_shards": None, "_order": None, "_slips": {}}

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every frame set is seen about once, over all ranks."""
        return max(1, round(len(self._shard_N) / (self._frame_sets * self._ranks)))

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self._seed, step, self._rank])
        first = (step * self._ranks + self._rank) * self._frame_sets
        frames = self._frames(range(first, first + self._frame_sets), rng)
        eyes, mouths = _Crops(self._augmentation, rng), _Crops(self._augmentation, rng)
        eye_labels_B, mouth_labels_B = [], []
        for eye, camera in enumerate((Camera.LEFT_EYE, Camera.RIGHT_EYE)):
            for frame in frames:
                way_23 = eyes.add(frame, camera, mirrored=eye == 1)
                values_2E, gaze_22 = eye_labels(frame.shard, frame.t)
                points_K4 = carried(frame.shard.eye_points_T2K4[frame.t, eye], way_23)
                eye_labels_B.append((values_2E[eye], gaze_22[eye], points_K4))
        for frame in frames:
            mirrored = self._augmentation.shift > 0 and frame.seed % 2 == 1
            way_23 = mouths.add(frame, Camera.MOUTH, mirrored=mirrored)
            values_E, points_K4 = frame.shard.values_TE[frame.t, 2 * _EYES :], frame.shard.mouth_points_TK4[frame.t]
            if mirrored:
                values_E, points_K4 = values_E[MOUTH_MIRROR], points_K4[MOUTH_POINTS_MIRROR]
            mouth_labels_B.append((values_E, carried(points_K4, way_23)))
        eye_values, eye_gaze, eye_points = _stacked(eye_labels_B)
        mouth_values, mouth_points = _stacked(mouth_labels_B)
        eye_pixels, eye_intact, eye_neutral = eyes.tensors()
        mouth_pixels, mouth_intact, mouth_neutral = mouths.tensors()
        return Batch(
            *(eye_pixels, eye_values, eye_gaze, eye_intact, mouth_pixels, mouth_values, mouth_intact),
            *(eye_points, mouth_points, *eye_neutral, *mouth_neutral),
        )

    def _frames(self, positions: Iterable[int], rng: np.random.Generator) -> list[_Frame]:
        if self._shards is None:
            cv2.setNumThreads(1)
            self._shards = [open_shard(entry) for entry in self._entries]
        seeds: dict[tuple[int, int], int] = {}
        frames = []
        for position in positions:
            index = self._index(self._shards, position)
            number, t = int(self._shard_N[index]), int(self._frame_N[index])
            shard = self._shards[number]
            fitting = (number, int(shard.fitting_T[t]))
            if fitting not in seeds:
                seeds[fitting] = int(rng.integers(1 << 62))
            frames.append(_Frame(shard, t, fitting, seeds[fitting], self._slips_of(number, fitting[1])))
        return frames

    def _slips_of(self, number: int, fitting: int) -> dict[Camera, Slip]:
        """Where the face of this shard is in the crops of a fitting; nothing where nobody knows."""
        if self._places is None or self._shards is None:
            return {}
        if number not in self._slips:
            self._slips[number] = self._places.of(self._shards[number])
        return {camera: slips[fitting] for camera, slips in self._slips[number].items()}

    def _index(self, shards: Sequence[Shard], position: int) -> int:
        epoch, place = divmod(position, len(self._shard_N))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._order_of(shards, epoch)
        return int(self._order[1][place])

    def _order_of(self, shards: Sequence[Shard], epoch: int) -> NDArray[np.intp]:
        """All frame sets, at random but for `together` of one fitting after each other."""
        rng = np.random.default_rng([self._seed, 1 << 40, epoch])
        count, together = len(self._shard_N), self._together
        fitting_N = np.concatenate([shard.fitting_T for shard in shards])
        _, fitting_N = np.unique(np.stack([self._shard_N, fitting_N]), axis=1, return_inverse=True)
        fitting_N = rng.permutation(int(fitting_N.max()) + 1)[fitting_N.reshape(-1)]
        order_N = np.lexsort((rng.random(count), fitting_N))
        whole = count - count % together
        return np.concatenate([rng.permutation(order_N[:whole].reshape(-1, together)).reshape(-1), order_N[whole:]])


def _stacked(labels_B: Sequence[tuple[NDArray[np.float32], ...]]) -> list[Tensor]:
    return [torch.from_numpy(np.stack(arrays)) for arrays in zip(*labels_B, strict=True)]


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
