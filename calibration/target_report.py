"""How good targets are: against the truth that rendered takes hold, EU by EU, beside binary labels from the prompts.

Only frames and EUs with a confidence of at least LABELLED count: those a fit learns from in earnest.
Axes: T frame set, E expression unit.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import takes_in
from calibration.prompted import AS_PEERS_TRAIN, prompted_targets
from calibration.take_targets import TakeTargets
from calibration.targets import CalibrationTargets, targets_of
from model_export.contract import EU_NAMES
from model_export.contract.cues import cue_by_name
from model_export.contract.take import Take

LABELLED: Final = 0.25
"""Least confidence of what is judged as a label."""
Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TruthScore:
    """Targets of one EU in one take against the truth."""

    wearer: str
    cue: str
    eu: str
    r: float
    """Pearson correlation over the labelled frames; NaN where the truth or the target does not vary."""
    rmse: float
    labelled: float
    """Share of the take's frames with a label."""
    baseline_r: float
    """Of the binary labels, over the same frames."""
    baseline_rmse: float


def score_targets(wearer: str, targets: Iterable[TakeTargets], takes: Sequence[Take]) -> list[TruthScore]:
    """Scores of every EU with labels in targets, against the truth of the takes with the same cue and time."""
    scores: list[TruthScore] = []
    by_start = {(take.cue, int(take.t_ns[0])): take for take in takes}
    for one in targets:
        take = by_start[one.cue, int(one.t_ns[0])]
        if take.values_TE is None:
            raise ValueError(f"Take {take.cue!r} should hold its true values. Found none; use rendered takes.")
        binary = prompted_targets(take, AS_PEERS_TRAIN)
        for index, eu in enumerate(EU_NAMES):
            known_T = one.confidence_TE[:, index] >= LABELLED
            if not known_T.any() or one.cue == "rest":
                continue
            truth_T = take.values_TE[known_T, index]
            value_T, binary_T = one.values_TE[known_T, index], binary.values_TE[known_T, index]
            scores.append(
                TruthScore(
                    wearer,
                    one.cue,
                    eu,
                    correlation(value_T, truth_T),
                    _rmse(value_T, truth_T),
                    float(known_T.mean()),
                    correlation(binary_T, truth_T),
                    _rmse(binary_T, truth_T),
                )
            )
    return scores


def report(
    folders: Sequence[Path], make_targets: Callable[[Sequence[Take]], CalibrationTargets] = targets_of
) -> Report:
    """The quality of the targets of all wearers in folders as JSON values: overall, for each EU, and the refusals."""
    scores: list[TruthScore] = []
    refusals: Counter[str] = Counter()
    asked = taught = 0
    for folder in folders:
        takes = takes_in(folder)
        targets = make_targets(takes)
        scores += score_targets(folder.name, targets.accepted, takes)
        refusals.update(f"{refusal.cue}: {refusal.reason}" for refusal in targets.refused)
        asked += len(takes)
        taught += len(targets.accepted)
    return summary(scores) | {
        "wearers": len(folders),
        "takes": asked,
        "accepted": taught,
        "refusals": dict(sorted(refusals.items())),
    }


def summary(scores: Sequence[TruthScore]) -> Report:
    """Means over takes, of EUs in their own cue."""
    own = [score for score in scores if is_own(score)]
    names = [name for name in EU_NAMES if any(score.eu == name for score in own)]
    return {
        "own_cue": _means(own),
        "share_of_takes_with_r_at_least_.93": _round(float(np.mean([score.r >= 0.93 for score in own])))
        if own
        else None,
        "eus": {name: _means([score for score in own if score.eu == name]) for name in names},
    }


def is_own(score: TruthScore) -> bool:
    """Whether a score is of an EU that the take's cue asked for, or of gaze in the take of the dots."""
    cue = cue_by_name(score.cue)
    return score.eu in cue.eus or bool(cue.dots_deg)


def correlation(one_T: NDArray[np.float32], other_T: NDArray[np.float32]) -> float:
    """Pearson's r; NaN where one does not vary."""
    if len(one_T) < 3 or one_T.std() < 1e-6 or other_T.std() < 1e-6:
        return float("nan")
    return float(np.corrcoef(one_T, other_T)[0, 1])


def _rmse(one_T: NDArray[np.float32], other_T: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((one_T.astype(np.float64) - other_T) ** 2)))


def _means(scores: Sequence[TruthScore]) -> Report:
    if not scores:
        return {}
    fields = ("r", "rmse", "labelled", "baseline_r", "baseline_rmse")
    means = {}
    for field in fields:
        values = np.array([getattr(score, field) for score in scores])
        means[field] = _round(float(np.nanmean(values))) if np.isfinite(values).any() else None
    return {"scores": len(scores), **means}


def _round(value: float) -> float:
    return round(value, 4)


def print_report(folder: Path) -> None:
    """Print the report of all wearers in a folder, one JSON line."""
    wearers = sorted(path for path in folder.iterdir() if any(path.glob("[0-9]*.take")))
    print(json.dumps(report(wearers)))  # noqa: T201 - this function's purpose
