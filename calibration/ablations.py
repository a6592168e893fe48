"""What each part of a calibration is worth: the same simulated wearers calibrate with one thing taken away or changed.

Every variant (calibration.variants) is judged as calibration.evaluate judges methods, on free_after.take against its truth, and
compared with the universal head and with the full method. What takes show is measured once for a wearer.

Axes: E expression unit, V variant (order of ROWS), W wearer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import OLD, RESTED, CalibrateConfig, calibrate
from calibration.evaluate import AFTER_FILE, takes_in
from calibration.evaluation_report import EYES, WORSE_BY
from calibration.features import TakeFeatures, answers_of, features_of
from calibration.prompted import true_targets
from calibration.realign import moved_back
from calibration.variants import FULL, VARIANTS, measure, variants_of
from model_export.contract import EU_NAMES, Bundle, Head, read_take
from model_export.metrics import number, rmse

ABLATIONS_FORMAT: Final = "mien-calibration-ablations"
ABLATIONS_VERSION: Final = 2
"""1: caveat, bundle, what (each variant in a sentence), sets of wearers with `variants` and `each_wearer`. 2: without free
movement."""
UNIVERSAL: Final = "universal"
ROWS: Final = (UNIVERSAL, *VARIANTS)
_LEGEND: Final = (
    "Against full: points of per cent that a variant is behind the full method, with the standard error over wearers. "
    "Full better: wearers for whom the full method is better. "
    f"EUs worse: than with the universal head by more than {WORSE_BY}, mean over wearers; on average: whose mean is. "
    "Refused: takes; changed: outputs that took a fitted head."
)


@dataclass(frozen=True, slots=True)
class AblatedWearer:
    """What the variants give one wearer; rows in order of ROWS, E in order of EU_NAMES."""

    name: str
    rmse_VE: NDArray[np.float64]
    refused_V: NDArray[np.int64]
    changed_V: NDArray[np.int64]
    """Outputs that took a fitted head."""


def ablate_wearer(bundle: Bundle, folder: Path, config: CalibrateConfig | None = None) -> AblatedWearer:
    """All variants on one wearer; under two minutes of one core."""
    takes = takes_in(folder)
    after = read_take((folder / AFTER_FILE).read_bytes())
    measured, truth_TE = measure(takes, bundle), true_targets(after).values_TE
    variants = variants_of(measured, bundle, config or CalibrateConfig())
    seen_after: dict[tuple[bool, bool], TakeFeatures] = {}

    def error(head: Head) -> NDArray[np.float64]:
        looks = bool(head.slip), bool(head.neutral)  # of one wearer, heads that look differently differ in these
        if looks not in seen_after:
            seen_after[looks] = features_of(moved_back(after, head.slip), bundle, head.neutral)
        return rmse(answers_of(head, seen_after[looks], bundle.eye_pair).values_TE, truth_TE)

    rows_VE = [error(bundle.head)]
    refused, changed = [0], [0]
    for name in VARIANTS:
        one = variants[name]
        found = calibrate(
            one.takes,
            one.head,
            config=one.config,
            rest=one.looked.rest,
            resting=one.resting,
            slips=one.looked.slips,
        )
        rows_VE.append(error(found.head))
        refused.append(one.refused)
        changed.append(sum(eu["source"] not in (OLD, RESTED) for eu in found.report["eus"].values()))
    return AblatedWearer(folder.name, np.stack(rows_VE), np.array(refused), np.array(changed))


def summary(wearers: Sequence[AblatedWearer]) -> dict[str, Any]:
    """Means over wearers, JSON values: each variant against the universal head and against the full method."""
    rmse_WVE = np.stack([wearer.rmse_VE for wearer in wearers])
    mean_WV = rmse_WVE.mean(axis=2)
    mean_V, eyes_V, mouth_V = (
        part_WVE.mean(axis=(0, 2)) for part_WVE in (rmse_WVE, rmse_WVE[..., :EYES], rmse_WVE[..., EYES:])
    )
    worse_WVE = rmse_WVE - rmse_WVE[:, :1]
    full = ROWS.index(FULL)
    behind_WV = (mean_WV - mean_WV[:, full, None]) / mean_V[0]
    error_V = behind_WV.std(axis=0, ddof=1) / np.sqrt(len(wearers)) if len(wearers) > 1 else None
    variants = {}
    for v, name in enumerate(ROWS):
        worse_E = worse_WVE[:, v].mean(axis=0)
        variants[name] = {
            "rmse": number(mean_V[v]),
            "rmse_eyes": number(eyes_V[v]),
            "rmse_mouth": number(mouth_V[v]),
            "change": number(mean_V[v] / mean_V[0] - 1),
            "change_eyes": number(eyes_V[v] / eyes_V[0] - 1),
            "change_mouth": number(mouth_V[v] / mouth_V[0] - 1),
            "against_full": number(behind_WV[:, v].mean()),
            "against_full_error": None if error_V is None else number(error_V[v]),
            "full_better": int((mean_WV[:, full] < mean_WV[:, v]).sum()),
            "same_as_full": int(sum(np.array_equal(one_VE[v], one_VE[full]) for one_VE in rmse_WVE)),
            "eus_worse": number((worse_WVE[:, v] > WORSE_BY).sum(axis=1).mean()),
            "eus_worse_on_average": {
                EU_NAMES[e]: number(worse_E[e]) for e in np.argsort(-worse_E) if worse_E[e] > WORSE_BY
            },
            "refused_takes": number(np.mean([wearer.refused_V[v] for wearer in wearers])),
            "outputs_changed": number(np.mean([wearer.changed_V[v] for wearer in wearers])),
        }
    return {
        "wearers": len(wearers),
        "variants": variants,
        "each_wearer": {
            wearer.name: {name: number(wearer.rmse_VE[v].mean()) for v, name in enumerate(ROWS)} for wearer in wearers
        },
    }


def table(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """The summaries of several sets of wearers as Markdown."""
    lines = []
    for name, found in sets.items():
        count, start = found["wearers"], found["variants"][UNIVERSAL]
        lines += [
            f"### {name}: {count} wearers",
            "",
            (
                f"RMSE of the universal head on free movement: {start['rmse']:.4f}, eyes {start['rmse_eyes']:.4f}, mouth "
                f"{start['rmse_mouth']:.4f}; all, eyes and mouth are what the variants change of it."
            ),
            "",
            f"| | all | eyes | mouth | against full | full better, of {count} | EUs worse | on average | refused | changed |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for variant, one in found["variants"].items():
            if variant == UNIVERSAL:
                continue
            error = "" if one["against_full_error"] is None else f" +- {100 * one['against_full_error']:.2f}"
            against = "" if variant == FULL else f"{100 * one['against_full']:+.2f}{error}"
            if variant != FULL and one["same_as_full"] == count:
                against = "the same"
            better = "" if variant == FULL else f"{one['full_better']}"
            lines.append(
                f"| {variant} | {one['change']:+.1%} | {one['change_eyes']:+.1%} | {one['change_mouth']:+.1%} | {against} | "
                f"{better} | {one['eus_worse']:.1f} | {len(one['eus_worse_on_average'])} | {one['refused_takes']:.1f} | "
                f"{one['outputs_changed']:.1f} |"
            )
        lines.append("")
    lines += [_LEGEND, "", *(f"- {variant}: {what}" for variant, what in VARIANTS.items())]
    return "\n".join([*lines, ""])
