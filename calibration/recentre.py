"""Re-centring: a head's crops cut where the face is now, and its offsets moved so that it reads as rest; nothing is trained.

Axes: T frame set, F feature, O head output.

For output o, with r the outputs of the frames in which the wearer rests:     bias_o  <-  bias_o - median(r_o)

so that the resting face reads 0. The median leaves out the blinks of a few seconds of rest. What has no zero at rest stays as
it is: pupils, and the confidence. Used after a calibration's rest cue, when a headset was put on again, and as the baseline "rest
offset only" that every fit has to beat.

Before that, where the bundle knows what a face at rest tells (model_export.contract.resting), crops follow the slip that it shows
(calibration.realign), frames are compared with the new rest and the head is moved by what it tells: that was learnt from free
movement of other wearers, and nothing of it is for the rest itself to judge.

A shift moves every movement along with the rest, and weak heads answer a mean at rest: moving all outputs made free movement
worse (docs/experiments.md). So `recentre_judged` moves only those that a held-out half of the rest asks for: the shift of either
half has to bring the other half nearer to rest, in what is served, by a margin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.features import GAZE_OUTPUTS, TakeFeatures, features_of
from calibration.gate import OUTPUT_NAMES
from calibration.realign import Realigned, moved_back, realigned
from calibration.rested import LEAST_FRAMES, rest_features
from calibration.seen import neutrals_of
from model_export.contract import EYE_MOVEMENTS, FEATURE_COUNT, Bundle, Camera, Head, RegionHead, Take, rested
from model_export.contract.head import OUTPUT_COUNT

_NO_REST: Final = ("pupilDilate",)
RECENTRE_FORMAT: Final = "mien-recentring-report"
RECENTRE_VERSION: Final = 2
"""1: origin, rest_frames of each camera, eus (before, after, source), summary (outputs_judged, outputs_moved). 2: slip of each
camera whose place at rest the head knows (right_px, down_px, turn_deg, scale, followed)."""
ORIGIN: Final = "recentred"
"""Where a re-centred head, and each output that half of the rest asked to move, comes from; others are "rested" or "old", as in a
calibration's report."""


def recentre(head: Head, rest: Sequence[TakeFeatures]) -> Head:
    """The head with the offsets of this fitting; its version, parent and report stay, cameras without rest too."""
    regions: list[RegionHead] = []
    for camera in Camera:
        rows = [take.features[camera] for take in rest if camera in take.features]
        rest_TF = np.concatenate(rows) if rows else np.empty((0, FEATURE_COUNT), np.float32)
        regions.append(recentre_region(camera, head[camera], rest_TF[np.isfinite(rest_TF).all(axis=1)]))
    return replace(head, left_eye=regions[0], right_eye=regions[1], mouth=regions[2])


def recentre_region(camera: Camera, region: RegionHead, rest_TF: NDArray[np.float32]) -> RegionHead:
    """The same for one camera; `rest_TF` holds frames that were seen."""
    if len(rest_TF) < LEAST_FRAMES:
        return region
    shift_O = np.median(region.apply(rest_TF), axis=0)
    shift_O[~_resting_outputs(camera)] = 0.0
    return replace(region, bias_O=(region.bias_O - shift_O).astype(np.float32))


@dataclass(frozen=True, slots=True)
class RecentreConfig:
    """From where on an output is moved."""

    least_gain: float = 0.03
    """By how much a served EU has to come nearer to 0, as a share of the wearer's range; the noise of three seconds is .01."""
    least_gain_deg: float = 1.0
    """The same for gaze."""

    def __post_init__(self) -> None:
        if min(self.least_gain, self.least_gain_deg) <= 0:
            raise ValueError("`least_gain` and `least_gain_deg` should be positive.")


@dataclass(frozen=True, slots=True)
class Recentred:
    """What became of a head that was to be re-centred."""

    head: Head
    """The head itself where nothing asked to be moved."""
    report: Mapping[str, Any]
    """JSON values; the same stands in a new head's `report`."""
    better: bool
    """Whether `head` is a new one."""


def recentre_take(head: Head, rest: Take, bundle: Bundle, config: RecentreConfig | None = None) -> Recentred:
    """The same from a rest take with the rig's crops: first crops follow the face. Cameras that are covered in it stay."""
    _, covered = neutrals_of([rest])
    rest = replace(rest, images={camera: images for camera, images in rest.images.items() if camera not in covered})
    aligned = realigned(head, rest, bundle)
    begun = rested(aligned.head, rest_features([aligned.seen]), bundle.resting)
    seen = features_of(moved_back(rest, begun.slip), bundle, begun.neutral)
    found = recentre_judged(aligned.head, seen, config, begun)
    report = {**found.report, "slip": _slip_report(aligned)}
    if not found.better and not aligned.followed:
        return Recentred(head, report, better=False)
    new = replace(found.head, head_version=head.head_version + 1, parent=head.head_version, report=report)
    return Recentred(new, report, better=True)


def _slip_report(aligned: Realigned) -> dict[str, Any]:
    return {
        camera.label: {
            "right_px": round(slip.right_px, 1),
            "down_px": round(slip.down_px, 1),
            "turn_deg": round(slip.turn_deg, 1),
            "scale": round(slip.scale, 2),
            "followed": camera in aligned.followed,
        }
        for camera, slip in aligned.slips.items()
    }


def recentre_judged(
    head: Head, rest: TakeFeatures, config: RecentreConfig | None = None, begun: Head | None = None
) -> Recentred:
    """The head with those outputs moved that are nearer to rest by it in frames not taken from it.

    `begun`: the head after it was moved by what the rest tells (contract.resting.rested), as `rest` was seen; by default nothing
    was told. The new head's version follows `head`'s, its parent is `head`.
    """
    config, begun = config or RecentreConfig(), begun or head
    outcomes = {camera: _judged(camera, head[camera], begun[camera], _seen(rest, camera), config) for camera in Camera}
    report = _report(outcomes)
    stays = all(
        camera in head.neutral and np.array_equal(map_M, head.neutral[camera])
        for camera, map_M in begun.neutral.items()
    )
    if stays and all(source == "old" for outcome in outcomes.values() for source in outcome.sources):
        return Recentred(head, report, better=False)
    new = replace(
        begun,
        left_eye=outcomes[Camera.LEFT_EYE].region,
        right_eye=outcomes[Camera.RIGHT_EYE].region,
        mouth=outcomes[Camera.MOUTH].region,
        head_version=head.head_version + 1,
        parent=head.head_version,
        report=report,
    )
    return Recentred(new, report, better=True)


@dataclass(frozen=True, slots=True)
class _Outcome:
    region: RegionHead
    frames: int
    sources: tuple[str, ...]
    """Where each output comes from: ORIGIN, "rested", "old"."""
    judged_O: NDArray[np.bool_]
    before_O: NDArray[np.float32]
    """Mean distance from rest of both held-out halves, as served: EUs 0 to 1, gaze in degrees."""
    after_O: NDArray[np.float32]
    """The same by the head that was made."""


def _judged(
    camera: Camera, in_use: RegionHead, begun: RegionHead, rest_TF: NDArray[np.float32], config: RecentreConfig
) -> _Outcome:
    resting_O = _resting_outputs(camera)
    sources = ["rested" if moved else "old" for moved in begun.bias_O != in_use.bias_O]
    if len(rest_TF) < 2 * LEAST_FRAMES:
        none_O, nothing_O = np.zeros_like(resting_O), np.zeros(len(resting_O), np.float32)
        return _Outcome(begun, len(rest_TF), tuple(sources), none_O, nothing_O, nothing_O)
    out_TO = begun.apply(rest_TF)
    middle = len(out_TO) // 2
    halves = (out_TO[:middle], out_TO[middle:])  # in time: neighbours are nearly the same picture
    before_2O = np.stack([_from_rest(camera, half_TO) for half_TO in halves])
    after_2O = np.stack(
        [
            _from_rest(camera, half_TO - np.median(other_TO, axis=0).astype(np.float32))
            for half_TO, other_TO in zip(halves, reversed(halves), strict=True)
        ]
    )
    margin_O = np.full(len(resting_O), config.least_gain)
    if camera is not Camera.MOUTH:
        margin_O[GAZE_OUTPUTS] = config.least_gain_deg
    moved_O = resting_O & ((before_2O - after_2O) >= margin_O).all(axis=0)
    shift_O = np.where(moved_O, np.median(out_TO, axis=0), 0.0)
    moved = replace(begun, bias_O=(begun.bias_O - shift_O).astype(np.float32)) if moved_O.any() else begun
    return _Outcome(
        moved,
        len(rest_TF),
        tuple(ORIGIN if moved else source for moved, source in zip(moved_O, sources, strict=True)),
        resting_O,
        _from_rest(camera, in_use.apply(rest_TF)),
        np.where(moved_O, after_2O.mean(axis=0), before_2O.mean(axis=0)),
    )


def _from_rest(camera: Camera, out_TO: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far frames are from rest on average as they would be served: an EU below 0 is served as 0 and is at rest."""
    away_TO = out_TO.clip(0, 1)
    if camera is not Camera.MOUTH:
        away_TO[:, GAZE_OUTPUTS] = np.abs(out_TO[:, GAZE_OUTPUTS])
    return np.asarray(away_TO.mean(axis=0), np.float32)


def _seen(rest: TakeFeatures, camera: Camera) -> NDArray[np.float32]:
    features_TF = rest.features.get(camera, np.empty((0, FEATURE_COUNT), np.float32))
    return features_TF[np.isfinite(features_TF).all(axis=1)]


def _report(outcomes: Mapping[Camera, _Outcome]) -> dict[str, Any]:
    eus: dict[str, Any] = {}
    for camera, outcome in outcomes.items():
        for o, name in enumerate(OUTPUT_NAMES[camera]):
            if outcome.judged_O[o]:
                eus[name] = {
                    "before": round(float(outcome.before_O[o]), 4),
                    "after": round(float(outcome.after_O[o]), 4),
                    "source": outcome.sources[o],
                }
    return {
        "format": RECENTRE_FORMAT,
        "version": RECENTRE_VERSION,
        "origin": ORIGIN,
        "rest_frames": {camera.label: outcome.frames for camera, outcome in outcomes.items()},
        "summary": {
            "outputs_judged": len(eus),
            "outputs_moved": sum(eu["source"] == ORIGIN for eu in eus.values()),
        },
        "eus": eus,
    }


def _resting_outputs(camera: Camera) -> NDArray[np.bool_]:
    """Outputs, bool [O], that are zero while the face rests and the eyes look ahead."""
    resting_O = np.ones(OUTPUT_COUNT[camera], bool)
    resting_O[-1] = False
    if camera is not Camera.MOUTH:
        resting_O[[EYE_MOVEMENTS.index(name) for name in _NO_REST]] = False
    return resting_O
