"""Evaluation on wearers never seen: RMSE, r and ICC of each EU, gaze, rest, confidence, beside the mean baseline.

Axes: T frame, E expression unit, 4 gaze, 3 camera.

Evaluation versions (JSON, "format": "mien-evaluation")
    1   bundles, wearers, clips; a figure of several bundles is their mean, with "std" beside it.
    2   wearers.reliability: for each bundle, how often crops of a confidence can be read; expected_calibration_error.
    3   wearers.summary.rested_*: when each fitting's face at rest was seen before; None for a bundle that does not use it.
    4   wearers.summary.placed_*: when the crops follow each fitting's face, found from how it moves in its own frames; clips
        likewise, placed_median_r.
    5   wearers.summary.uneven_rmse, wink_rmse: of faces whose sides differ, which eyes that read each other could even out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.confidence import confidence_figures, reliability, spoiled_answers
from model_export.contract import EU_INDEX, EU_NAMES, EYE_MOVEMENTS, Bundle, Head
from model_export.data import Shard, ShardEntry, data_digest, list_shards, open_shard
from model_export.errors import EvaluationError
from model_export.estimates import Estimates, estimate, placed_head, rested_heads, seconds_of
from model_export.metrics import icc31, number, pearson, rmse
from model_export.wearer_names import names_in

CAVEAT: Final = "No images from inside a real headset were available; nothing here says how well it works in one."
MOVES_FROM: Final = 0.02
"""An EU whose true value is below this is taken to be not moving."""
UNEVEN_FROM: Final = 0.3
"""The sides of a face differ on an EU when its values differ by more."""
SIDED: Final = tuple(name for name in EYE_MOVEMENTS if not name.startswith(("eyeLook", "pupil")))
"""Lids and brows, which the sides of a face can move apart."""
_GAZE_EUS: Final = tuple(index for name, index in EU_INDEX.items() if "eyeLook" in name or "pupil" in name)


def unseen_shards(bundles: Sequence[Bundle], data: Path) -> tuple[ShardEntry, ...]:
    """The shards in `data` of wearers that none of the bundles was trained on; raises EvaluationError when none is."""
    seen: set[str] = set()
    for bundle in bundles:
        try:
            seen |= names_in(str(wearer) for wearer in bundle.training["data"]["trained_wearers"])
        except (KeyError, TypeError):
            raise EvaluationError(
                f"The training record of bundle {bundle.name!r} should list its `trained_wearers`. Found none; "
                "whether a wearer was seen cannot be known. Export the bundle again."
            ) from None
    entries = tuple(entry for entry in list_shards(data) if entry.wearer not in seen)
    if not entries:
        raise EvaluationError(
            f"{data} should hold wearers never trained on. Found none. Render some with another seed."
        )
    return entries


def evaluate_wearers(bundles: Sequence[Bundle], data: Path, frames_per_wearer: int = 200) -> dict[str, Any]:
    """Figures on unseen wearers, at most so many frame sets of each, evenly spread; JSON values only."""
    entries = unseen_shards(bundles, data)
    shards = [open_shard(entry) for entry in entries]
    picks = [np.unique(np.linspace(0, len(shard) - 1, frames_per_wearer).astype(int)) for shard in shards]
    truth_TE = np.concatenate([shard.values_TE[pick] for shard, pick in zip(shards, picks, strict=True)])
    gaze_T4 = np.concatenate([shard.gaze_T4[pick] for shard, pick in zip(shards, picks, strict=True)])
    judged = _Judged(shards, picks, truth_TE, gaze_T4)
    found = [_figures(bundle, judged) for bundle in bundles]
    return {
        "data_sha256": data_digest(entries),
        "wearers": len(entries),
        "frame_sets": len(truth_TE),
        "summary": merged([figures["summary"] for figures in found]),
        "eus": {name: merged([figures["eus"][name] for figures in found]) for name in EU_NAMES},
        "reliability": [figures["reliability"] for figures in found],
    }


def merged(figures: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean of each figure over several bundles; with more than one, {"mean", "std"} (n - 1)."""
    result: dict[str, Any] = {}
    for name in figures[0]:
        values = [value for value in (figure[name] for figure in figures) if value is not None]
        if len(values) < len(figures):
            result[name] = None
        elif len(figures) == 1:
            result[name] = values[0]
        else:
            result[name] = {"mean": round(float(np.mean(values)), 4), "std": round(float(np.std(values, ddof=1)), 4)}
    return result


@dataclass(frozen=True, slots=True)
class _Judged:
    """What bundles are judged on."""

    shards: Sequence[Shard]
    picks: Sequence[NDArray[np.int_]]
    """Frames of each shard."""
    truth_TE: NDArray[np.float32]
    """Of the picked frames of all shards, one after the other."""
    gaze_T4: NDArray[np.float32]


def _figures(bundle: Bundle, judged: _Judged) -> dict[str, Any]:
    shards, picks, truth_TE, gaze_T4 = judged.shards, judged.picks, judged.truth_TE, judged.gaze_T4
    answers: list[Estimates] = []
    within: list[NDArray[np.float64]] = []
    for shard, pick in zip(shards, picks, strict=True):
        answers.append(estimate(bundle, shard.left_eye_THW[pick], shard.right_eye_THW[pick], shard.mouth_THW[pick]))
        within.append(pearson(answers[-1].values_TE, shard.values_TE[pick]))
    values_TE = np.concatenate([answer.values_TE for answer in answers])
    answer_T4 = np.concatenate([answer.gaze_T4 for answer in answers])
    mean_E = np.array(bundle.training["data"].get("values_mean_E", truth_TE.mean(0)), np.float32)
    r_E, icc_E, rmse_E = pearson(values_TE, truth_TE), icc31(values_TE, truth_TE), rmse(values_TE, truth_TE)
    baseline_E = rmse(np.broadcast_to(mean_E, truth_TE.shape), truth_TE)
    rest_E = [_rest95(values_TE[:, e], truth_TE[:, e] < MOVES_FROM) for e in range(len(EU_NAMES))]
    at_rest_T = np.delete(truth_TE, _GAZE_EUS, axis=1).max(1) < 0.1
    worst = int(np.nanargmin(r_E)) if np.isfinite(r_E).any() else 0
    confidence_N, intact_N = spoiled_answers(bundle, shards, picks)
    return {
        "reliability": reliability(confidence_N, intact_N),
        "summary": {
            "mean_r": number(np.nanmean(r_E)) if np.isfinite(r_E).any() else None,
            "mean_r_within_wearer": number(np.nanmean(within)) if np.isfinite(within).any() else None,
            "worst_r": number(r_E[worst]),
            "eus_below_r_0.75": float(np.sum(r_E < 0.75)),
            "mean_icc31": number(np.nanmean(icc_E)) if np.isfinite(icc_E).any() else None,
            "mean_rmse": number(rmse_E.mean()),
            "mean_rmse_of_mean_baseline": number(baseline_E.mean()),
            "not_moving_95th_percentile": _rest95(values_TE, truth_TE < MOVES_FROM),
            "face_at_rest_95th_percentile": _rest95(np.delete(values_TE[at_rest_T], _GAZE_EUS, axis=1), None),
            **_gaze_figures(answer_T4, gaze_T4, truth_TE),
            "uneven_rmse": _uneven_rmse(values_TE, truth_TE, SIDED),
            "wink_rmse": _uneven_rmse(values_TE, truth_TE, ("eyeBlink",)),
            **_figures_with("placed", _placed_heads, bundle, judged),
            **_figures_with("rested", _rested_heads, bundle, judged),
            **confidence_figures(confidence_N, intact_N),
        },
        "eus": {
            name: {
                "r": number(r_E[e]),
                "icc31": number(icc_E[e]),
                "rmse": number(rmse_E[e]),
                "rmse_of_mean_baseline": number(baseline_E[e]),
                "not_moving_95th_percentile": rest_E[e],
                "moving_share": number(np.mean(truth_TE[:, e] >= 0.1)),
            }
            for e, name in enumerate(EU_NAMES)
        },
    }


def _placed_heads(bundle: Bundle, shard: Shard) -> list[Head]:
    fittings = [np.flatnonzero(shard.fitting_T == fitting) for fitting in range(len(shard.rest_mouth_FHW))]
    return [placed_head(bundle, shard.crops(rows_N), seconds_of(shard.t_ns[rows_N])) for rows_N in fittings]


def _rested_heads(bundle: Bundle, shard: Shard) -> list[Head]:
    return rested_heads(bundle, shard.rests)


def _figures_with(
    name: str, heads_of: Callable[[Bundle, Shard], list[Head]], bundle: Bundle, judged: _Judged
) -> dict[str, float | None]:
    """The same wearers once more, each fitting with a head of its own, of which no label is known."""
    if bundle.resting is None:
        return dict.fromkeys(f"{name}_{part}" for part in ("mean_r", "mean_rmse", "face_at_rest_95th", "gaze_deg"))
    truth_TE, gaze_T4 = judged.truth_TE, judged.gaze_T4
    values_TE, answer_T4 = np.empty_like(truth_TE), np.empty_like(gaze_T4)
    first = 0
    for shard, pick in zip(judged.shards, judged.picks, strict=True):
        heads = heads_of(bundle, shard)
        for fitting in np.unique(shard.fitting_T[pick]):
            rows = np.flatnonzero(shard.fitting_T[pick] == fitting)
            chosen = pick[rows]
            found = estimate(
                bundle,
                shard.left_eye_THW[chosen],
                shard.right_eye_THW[chosen],
                shard.mouth_THW[chosen],
                head=heads[fitting],
            )
            values_TE[first + rows], answer_T4[first + rows] = found.values_TE, found.gaze_T4
        first += len(pick)
    r_E, at_rest_T = pearson(values_TE, truth_TE), np.delete(truth_TE, _GAZE_EUS, axis=1).max(1) < 0.1
    return {
        f"{name}_mean_r": number(np.nanmean(r_E)) if np.isfinite(r_E).any() else None,
        f"{name}_mean_rmse": number(rmse(values_TE, truth_TE).mean()),
        f"{name}_face_at_rest_95th": _rest95(np.delete(values_TE[at_rest_T], _GAZE_EUS, axis=1), None),
        f"{name}_gaze_deg": _gaze_figures(answer_T4, gaze_T4, truth_TE)["gaze_median_deg"],
    }


def _uneven_rmse(values_TE: NDArray[np.float32], truth_TE: NDArray[np.float32], names: Sequence[str]) -> float | None:
    """RMSE of these EUs of both sides in frames in which their true values differ; None where they never do."""
    left, right = ([EU_INDEX[f"{name}{side}"] for name in names] for side in ("Left", "Right"))
    uneven_TN = np.abs(truth_TE[:, left] - truth_TE[:, right]) > UNEVEN_FROM
    off_TE = (values_TE - truth_TE).astype(np.float64) ** 2
    both = np.concatenate([off_TE[:, left][uneven_TN], off_TE[:, right][uneven_TN]])
    return number(np.sqrt(both.mean())) if both.size else None


def _rest95(values: NDArray[np.float32], where: NDArray[np.bool_] | None) -> float | None:
    chosen = values if where is None else values[where]
    return number(np.percentile(chosen, 95)) if chosen.size >= 20 else None


def gaze_error_deg(answer_T2: NDArray[np.floating], truth_T2: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angle between two directions given as yaw and pitch in degrees.

    cos(angle) = sin p sin q + cos p cos q cos(yaw difference), the great-circle distance (spherical law of cosines).
    """
    a_T2, b_T2 = np.radians(answer_T2.astype(np.float64)), np.radians(truth_T2.astype(np.float64))
    cos_T = np.sin(a_T2[:, 1]) * np.sin(b_T2[:, 1]) + np.cos(a_T2[:, 1]) * np.cos(b_T2[:, 1]) * np.cos(
        a_T2[:, 0] - b_T2[:, 0]
    )
    return np.asarray(np.degrees(np.arccos(cos_T.clip(-1, 1))))


def _gaze_figures(
    answer_T4: NDArray[np.float32], truth_T4: NDArray[np.float32], truth_TE: NDArray[np.float32]
) -> dict[str, float | None]:
    """Median angle of eyes that are less than half shut, and of looking at the mean direction always."""
    errors, baseline = [], []
    for eye, side in enumerate(("Left", "Right")):
        open_T = truth_TE[:, EU_INDEX[f"eyeBlink{side}"]] < 0.5
        truth_T2 = truth_T4[open_T, 2 * eye : 2 * eye + 2]
        errors.append(gaze_error_deg(answer_T4[open_T, 2 * eye : 2 * eye + 2], truth_T2))
        baseline.append(gaze_error_deg(np.broadcast_to(truth_T2.mean(0), truth_T2.shape), truth_T2))
    errors_T = np.concatenate(errors)
    return {
        "gaze_median_deg": number(np.median(errors_T)),
        "gaze_90th_percentile_deg": number(np.percentile(errors_T, 90)),
        "gaze_median_deg_of_mean_baseline": number(np.median(np.concatenate(baseline))),
    }
