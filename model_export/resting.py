"""What a face at rest tells, learnt from rendered wearers that a bundle's network was not trained on.

Axes: T frame, H W image, F feature, M feature of the map, N fitting, O head output, 4 of a slip; F of rests and of what they tell
counts the last layer's alone. L a mean over the first frames of a fitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.batches import MOUTH_MIRROR, eye_labels
from model_export.contract import (
    EYE_MOVEMENTS,
    LAST_COUNT,
    MAP_COUNT,
    Bundle,
    Camera,
    Resting,
    Slip,
    read_bundle,
    write_bundle,
)
from model_export.contract.head import OUTPUT_COUNT
from model_export.data import Shard, ShardEntry, data_digest, list_shards, open_shard
from model_export.errors import DataError
from model_export.estimates import seconds_of
from model_export.onnx_features import onnx_features
from model_export.placing import placings, seen_through

SLIP_PX: Final = 8.0
"""Slips are learnt up to this, to the right and down each."""
SLIP_DEG: Final = 5.0
SLIP_SCALE: Final = 1.14
_BATCH: Final = 8
_FOLDS: Final = 5
_STRENGTHS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Of the ridge, shares of the mean square of a rest's features summed over fittings."""
_LENGTHS: Final = (0.25, 0.5, 1.0)
"""Parts of a fitting whose means tell how the share of them that is the face's own grows with time."""
_SLIP_STRENGTH: Final = 0.03
"""The same for slips: best of .003 to 3 on wearers left out."""


@dataclass(frozen=True, slots=True)
class Fittings:
    """Fittings of one region: features of the face at rest, and how far off the answers to the moving face were on average."""

    rest_NF: NDArray[np.float64]
    off_NO: NDArray[np.float64]
    wearer_N: NDArray[np.intp]
    rest_NM: NDArray[np.float32]
    """Maps of the faces at rest."""
    moving_NLM: NDArray[np.float32]
    """Mean maps of the same faces as they move, over a growing part of the fitting, the whole at last."""
    seconds_NL: NDArray[np.float64]
    """How long each of those is over."""


def resting_of(bundle: Bundle, data: Path, frames: int = 12) -> Resting:
    """What rest tells, from the first `frames` frames of each fitting of all wearers of `data`: half a second of CPU a wearer.

    Ridge regression over fittings; its strength is the one that predicts best for wearers left out (5-fold), output by output.
    """
    entries = list_shards(data)
    places = _places_of(bundle, entries, frames)
    eyes = _eye_fittings(bundle, entries, frames, places)
    mouths = _mouth_fittings(bundle, entries, frames, places)
    eye_mean_F, eye_shift_FO = solve(eyes)
    mouth_mean_F, mouth_shift_FO = solve(mouths)
    return replace(
        places,
        eye_share_2=own_share(eyes),
        mouth_share_2=own_share(mouths),
        eye_mean_F=eye_mean_F,
        eye_shift_FO=eye_shift_FO,
        mouth_mean_F=mouth_mean_F,
        mouth_shift_FO=mouth_shift_FO,
        fittings=sum(len(np.unique(open_shard(entry).fitting_T)) for entry in entries),
    )


def _places_of(bundle: Bundle, entries: Sequence[ShardEntry], frames: int) -> Resting:
    """What a face tells of its place alone: offsets are learnt from faces that are in it."""
    (eye_slip_M4, eye_place_M), (mouth_slip_M4, mouth_place_M) = slips_of(bundle, entries)
    eye_moving_M, mouth_moving_M = moving_of(bundle, entries, frames)
    nothing: dict[str, NDArray[np.float32]] = {}
    for part, camera in (("eye", Camera.LEFT_EYE), ("mouth", Camera.MOUTH)):
        nothing[f"{part}_mean_F"] = np.zeros(LAST_COUNT, np.float32)
        nothing[f"{part}_shift_FO"] = np.zeros((LAST_COUNT, OUTPUT_COUNT[camera]), np.float32)
        nothing[f"{part}_share_2"] = np.zeros(2, np.float32)
    return Resting(
        **nothing,
        eye_slip_M4=eye_slip_M4,
        mouth_slip_M4=mouth_slip_M4,
        eye_place_M=eye_place_M,
        mouth_place_M=mouth_place_M,
        eye_moving_M=eye_moving_M,
        mouth_moving_M=mouth_moving_M,
        fittings=0,
    )


_Slipping = tuple[NDArray[np.float32], NDArray[np.float32]]
"""What a map tells of a slip, [1024, 4]: px right, px down, degrees clockwise, log of scale; and the mean map at rest, [1024]."""


def slips_of(bundle: Bundle, entries: Sequence[ShardEntry]) -> tuple[_Slipping, _Slipping]:
    """The same of eyes (right ones mirrored) and of mouths.

    From rest pictures of each fitting and the same moved, turned and scaled at random; ridge regression. 0.1 s of CPU a wearer.
    """
    rng = np.random.default_rng(0)
    eyes, mouths = [], []
    for entry in entries:
        shard = open_shard(entry)
        left_FHW, right_FHW = shard.rest_eyes_2FHW
        eyes.append(slipped_maps(bundle.eye_onnx, np.concatenate([left_FHW, right_FHW[:, :, ::-1]]), rng))
        mouth_FHW = shard.rest_mouth_FHW
        mouths.append(slipped_maps(bundle.mouth_onnx, np.concatenate([mouth_FHW, mouth_FHW[:, :, ::-1]]), rng))
    return slip_ridge(eyes), slip_ridge(mouths)


def moving_of(
    bundle: Bundle, entries: Sequence[ShardEntry], frames: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean maps [1024] of moving eyes (right ones mirrored) and mouths (both ways), over `frames` of each fitting."""
    eyes, mouths = [], []
    for entry in entries:
        shard = open_shard(entry)
        chosen = _chosen(shard, frames)
        eye_THW = np.concatenate([shard.left_eye_THW[chosen], shard.right_eye_THW[chosen][:, :, ::-1]])
        mouth_THW = shard.mouth_THW[chosen]
        eyes.append(_mean_map(bundle.eye_onnx, eye_THW))
        mouths.append(_mean_map(bundle.mouth_onnx, np.concatenate([mouth_THW, mouth_THW[:, :, ::-1]])))
    return np.mean(eyes, axis=0, dtype=np.float32), np.mean(mouths, axis=0, dtype=np.float32)


def _mean_map(model: bytes, crops_THW: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(onnx_features(model, crops_THW, _BATCH)[:, LAST_COUNT:].mean(axis=0))


SlippedMaps = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Maps at rest and by how much they changed, [N, 1024] each, and the slips that changed them, [N, 4]."""


def slipped_maps(model: bytes, rest_NHW: NDArray[np.uint8], rng: np.random.Generator) -> SlippedMaps:
    """Each picture's map against that of the same, moved, turned and scaled at random."""
    drawn_N4 = rng.uniform(-1, 1, (len(rest_NHW), 4)) * (SLIP_PX, SLIP_PX, SLIP_DEG, np.log(SLIP_SCALE))
    slips = [Slip(right, down, turn, float(np.exp(log_scale))) for right, down, turn, log_scale in drawn_N4.tolist()]
    moved_NHW = np.stack([seen_through(slip.inverse(), rest_HW) for slip, rest_HW in zip(slips, rest_NHW, strict=True)])
    before_NM, after_NM = (
        onnx_features(model, crops_NHW, _BATCH)[:, LAST_COUNT:] for crops_NHW in (rest_NHW, moved_NHW)
    )
    return before_NM, after_NM - before_NM, drawn_N4.astype(np.float32)


def slip_ridge(slipped: Sequence[SlippedMaps]) -> _Slipping:
    """Slips by changes of maps; no change tells no slip, hence no constant."""
    before_NM, changed_NM, slip_N4 = (np.concatenate(parts).astype(np.float64) for parts in zip(*slipped, strict=True))
    gram_MM = changed_NM.T @ changed_NM
    gram_MM[np.diag_indices(MAP_COUNT)] += max(_SLIP_STRENGTH * float(np.trace(gram_MM)) / MAP_COUNT, 1e-9)
    slip_M4 = np.linalg.solve(gram_MM, changed_NM.T @ slip_N4)
    return slip_M4.astype(np.float32), before_NM.mean(axis=0).astype(np.float32)


_Frames = tuple[NDArray[np.uint8], NDArray[np.intp]]
"""Crops [T, 128, 128], and the number of the fitting that each is of."""


def _chosen(shard: Shard, frames: int) -> NDArray[np.intp]:
    """The first `frames` frames of each fitting."""
    return np.concatenate(
        [np.flatnonzero(shard.fitting_T == fitting)[:frames] for fitting in np.unique(shard.fitting_T)]
    )


def _placed(
    model: bytes, places: Resting, camera: Camera, rest_NHW: NDArray[np.uint8], frames: _Frames
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of each fitting's rest, [N, 1280], and of frames of these fittings, [T, 1280], all placed by the rests.

    The frames are compared with the rests. Pictures as left eyes or mouths.
    """
    slips = placings(model, places, camera, rest_NHW)
    crops_THW, number_T = frames
    placed_NHW, placed_THW = (
        np.stack([seen_through(slip, crop_HW) for slip, crop_HW in zip(some, crops, strict=True)])
        for some, crops in ((slips, rest_NHW), ([slips[number] for number in number_T], crops_THW))
    )
    rest_NF = onnx_features(model, placed_NHW, _BATCH)
    features_TF = onnx_features(model, placed_THW, _BATCH, rest_NF[number_T, LAST_COUNT:])
    return rest_NF, features_TF


def _numbers(fitting_T: NDArray[np.int32]) -> NDArray[np.intp]:
    """The fittings counted from 0."""
    return np.unique(fitting_T, return_inverse=True)[1].reshape(-1)


def _eye_fittings(bundle: Bundle, entries: Sequence[ShardEntry], frames: int, places: Resting) -> Fittings:
    head, count = bundle.head.left_eye, len(EYE_MOVEMENTS)
    found = []
    for number, entry in enumerate(entries):
        shard = open_shard(entry)
        chosen = _chosen(shard, frames)
        labels = [eye_labels(shard, int(t)) for t in chosen]
        for eye, crops_THW in ((0, shard.left_eye_THW), (1, shard.right_eye_THW[:, :, ::-1])):
            rest_FHW = shard.rest_eyes_2FHW[eye] if eye == 0 else shard.rest_eyes_2FHW[eye, :, :, ::-1]
            frames_T = (crops_THW[chosen], _numbers(shard.fitting_T[chosen]))
            rest_NF, features_TF = _placed(bundle.eye_onnx, places, Camera.LEFT_EYE, rest_FHW, frames_T)
            values_TE = np.stack([values_2E[eye] for values_2E, _ in labels])
            gaze_T2 = np.stack([gaze_22[eye] for _, gaze_22 in labels])
            out_TO = head.apply(features_TF)
            off_TO = np.zeros_like(out_TO)
            off_TO[:, :count] = values_TE - out_TO[:, :count]
            off_TO[:, count : count + 2] = (gaze_T2 - out_TO[:, count : count + 2]) * (values_TE[:, :1] < 0.5)
            found.append(_fittings(rest_NF, features_TF, off_TO, shard=shard, chosen_T=chosen, wearer=number))
    return Fittings(*map(np.concatenate, zip(*found, strict=True)))


def _mouth_fittings(bundle: Bundle, entries: Sequence[ShardEntry], frames: int, places: Resting) -> Fittings:
    """Each mouth twice, as it is and mirrored: what rest tells of the left side it tells of the right one."""
    head, first, count = bundle.head.mouth, 2 * len(EYE_MOVEMENTS), len(MOUTH_MIRROR)
    found = []
    for number, entry in enumerate(entries):
        shard = open_shard(entry)
        chosen = _chosen(shard, frames)
        for mirrored in (False, True):
            step = -1 if mirrored else 1
            values_TE = shard.values_TE[chosen, first:]
            rest_NHW = shard.rest_mouth_FHW[:, :, ::step]
            frames_T = (shard.mouth_THW[chosen][:, :, ::step], _numbers(shard.fitting_T[chosen]))
            rest_NF, features_TF = _placed(bundle.mouth_onnx, places, Camera.MOUTH, rest_NHW, frames_T)
            out_TO = head.apply(features_TF)
            off_TO = np.zeros_like(out_TO)
            off_TO[:, :count] = (values_TE[:, MOUTH_MIRROR] if mirrored else values_TE) - out_TO[:, :count]
            found.append(_fittings(rest_NF, features_TF, off_TO, shard=shard, chosen_T=chosen, wearer=number))
    return Fittings(*map(np.concatenate, zip(*found, strict=True)))


def _fittings(
    rest_NF: NDArray[np.float32],
    features_TF: NDArray[np.float32],
    off_TO: NDArray[np.float32],
    *,
    shard: Shard,
    chosen_T: NDArray[np.intp],
    wearer: int,
) -> tuple[NDArray[Any], ...]:
    """The fields of Fittings, of one wearer's chosen frames."""
    fitting_T = shard.fitting_T[chosen_T]
    off, moving, seconds = [], [], []
    for fitting in np.unique(fitting_T):
        rows = np.flatnonzero(fitting_T == fitting)
        parts = [rows[: max(1, round(length * len(rows)))] for length in _LENGTHS]
        off.append(off_TO[rows].mean(axis=0))
        moving.append([features_TF[part, LAST_COUNT:].mean(axis=0) for part in parts])
        seconds.append([seconds_of(shard.t_ns[chosen_T[part]]) for part in parts])
    wearers = np.full(len(rest_NF), wearer)
    return rest_NF[:, :LAST_COUNT], np.stack(off), wearers, rest_NF[:, LAST_COUNT:], np.array(moving), np.array(seconds)


def own_share(fittings: Fittings) -> NDArray[np.float32]:
    """How much of what a mean map of movement is off tells best, in least squares, what the map at rest is off, [2].

    The share for a mean over a long time, and seconds until it is half of that: 1 / share = (1 + half_s / seconds) / last, as
    where faces differ in how they are made and what they do averages out (contract.resting).
    """
    rest_NM = fittings.rest_NM - fittings.rest_NM.mean(axis=0)
    seconds_L = fittings.seconds_NL.mean(axis=0)
    share_L = np.zeros(len(seconds_L))
    for length in range(len(seconds_L)):
        moving_NM = fittings.moving_NLM[:, length] - fittings.moving_NLM[:, length].mean(axis=0)
        share_L[length] = float((rest_NM * moving_NM).sum()) / max(float(np.square(moving_NM).sum()), 1e-9)
    alone = np.array([max(share_L[-1], 0.0), 0.0], np.float32)
    if share_L.min() <= 0 or not 0 < seconds_L[0] < seconds_L[-1]:
        return alone
    slope, intercept = np.polyfit(1 / seconds_L, 1 / share_L, 1).tolist()
    return np.array([1 / intercept, slope / intercept], np.float32) if slope > 0 < intercept else alone


def solve(fittings: Fittings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of the rests, and for each output the regression of the strength that predicts wearers left out best, or none."""
    fold_N = fittings.wearer_N % _FOLDS
    if len(np.unique(fold_N)) < 2:
        raise DataError("What rest tells needs 2 wearers or more. Found 1. Render more.")
    errors_SO = np.zeros((len(_STRENGTHS) + 1, fittings.off_NO.shape[1]))
    for fold in np.unique(fold_N):
        left_out_N = fold_N == fold
        mean_F, shifts = _ridges(fittings, ~left_out_N)
        off_NO = fittings.off_NO[left_out_N] - fittings.off_NO[~left_out_N].mean(axis=0)
        for number, shift_FO in enumerate(shifts):
            left_NO = off_NO - (fittings.rest_NF[left_out_N] - mean_F) @ shift_FO
            errors_SO[number] += (left_NO**2).sum(axis=0)
    mean_F, shifts = _ridges(fittings, np.ones(len(fold_N), bool))
    chosen_O = errors_SO.argmin(axis=0)
    shift_FO = np.stack(shifts)[chosen_O, :, np.arange(len(chosen_O))].T
    return mean_F.astype(np.float32), np.ascontiguousarray(shift_FO, np.float32)


def _ridges(fittings: Fittings, chosen_N: NDArray[np.bool_]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Mean of these fittings' rests, and the regression of each strength; last one that says nothing."""
    rest_NF, off_NO = fittings.rest_NF[chosen_N], fittings.off_NO[chosen_N]
    mean_F = rest_NF.mean(axis=0)
    x_NF = rest_NF - mean_F
    gram_FF = x_NF.T @ x_NF
    size_FF = max(float(np.trace(gram_FF)) / LAST_COUNT, 1e-9) * np.eye(LAST_COUNT)
    # an offset that all faces share is the head's own affair: only what differs between faces is learnt
    product_FO = x_NF.T @ (off_NO - off_NO.mean(axis=0))
    shifts = [np.asarray(np.linalg.solve(gram_FF + strength * size_FF, product_FO)) for strength in _STRENGTHS]
    return mean_F, [*shifts, np.zeros_like(product_FO)]


def add_resting(folder: Path, data: Path) -> Bundle:
    """Puts what rest tells into the bundle in `folder`, in place of any, and into its record what it is from.

    An eye pair goes: it was learnt from answers that the old rests had moved.
    """
    bundle, entries = read_bundle(folder, with_others=False), list_shards(data)
    resting = resting_of(bundle, data)
    others = {
        "data_sha256": data_digest(entries),
        "wearers": len({entry.wearer for entry in entries}),
        "rest_fittings": resting.fittings,
    }
    training = {name: value for name, value in bundle.training.items() if name != "eye_pair"}
    return write_bundle(folder, replace(bundle, training={**training, "others": others}, resting=resting))
