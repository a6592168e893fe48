"""Methods of calibration over many wearers: means for each, as JSON values and as a table.

Axes: E expression unit, W wearer, M method.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import METHODS, SLIP_DEG, SLIP_PX, EvaluatedWearer
from model_export.contract import EU_NAMES, EYE_MOVEMENTS
from model_export.metrics import number

EYES: Final = 2 * len(EYE_MOVEMENTS)
"""So many of the EUs, the first, are of the eyes."""
WORSE_BY: Final = 0.001
"""RMSE by which an EU must be worse than with the universal head to be called so."""


def summary(wearers: Sequence[EvaluatedWearer]) -> dict[str, Any]:
    """Means over wearers, JSON values: each method's errors, and what ours closes of the way to the ceiling."""
    rmse_WME = np.stack([wearer.rmse_ME for wearer in wearers])
    mean_WM = rmse_WME.mean(axis=2)
    start_E = rmse_WME[:, 0].mean(axis=0)
    methods = {}
    for m, method in enumerate(METHODS):
        worse_E = rmse_WME[:, m].mean(axis=0) - start_E
        methods[method] = {
            "rmse": number(mean_WM[:, m].mean()),
            "rmse_eyes": number(rmse_WME[:, m, :EYES].mean()),
            "rmse_mouth": number(rmse_WME[:, m, EYES:].mean()),
            "r": number(np.nanmean([wearer.r_ME[m] for wearer in wearers])),
            "icc31": number(np.nanmean([wearer.icc_ME[m] for wearer in wearers])),
            "change": number(mean_WM[:, m].mean() / mean_WM[:, 0].mean() - 1),
            "wearers_better": number(np.mean(mean_WM[:, m] < mean_WM[:, 0])) if m else None,
            "eus_worse": {EU_NAMES[e]: number(worse_E[e]) for e in np.argsort(-worse_E) if worse_E[e] > WORSE_BY},
        }
    way = float(mean_WM[:, 0].mean() - mean_WM[:, METHODS.index("truth")].mean())
    ours = METHODS.index("movement")
    return {
        "wearers": len(wearers),
        "methods": methods,
        "way_closed": number((mean_WM[:, 0].mean() - mean_WM[:, ours].mean()) / way) if way > 0 else None,
        "slip": _slip_summary(mean_WM.mean(axis=0)),
        "targets_r": _mean_known([wearer.targets_r for wearer in wearers]),
        "targets_rmse": _mean_known([wearer.targets_rmse for wearer in wearers]),
        "refused_takes": number(np.mean([wearer.refused for wearer in wearers])),
        "outputs_changed": number(np.mean([wearer.eus_better for wearer in wearers])),
        "eus": {
            name: {method: number(rmse_WME[:, m, e].mean()) for m, method in enumerate(METHODS)}
            for e, name in enumerate(EU_NAMES)
        },
        "each_wearer": {
            wearer.name: {method: number(wearer.rmse_ME[m].mean()) for m, method in enumerate(METHODS)}
            for wearer in wearers
        },
    }


def _slip_summary(mean_M: NDArray[np.float64]) -> dict[str, float | None]:
    """What a slip costs ours, and what of that is left after a rest, as shares of ours without it; below 0 where it is better.

    Cost is against ours put on again and worn on, what is left against ours after a rest without that slip.
    """
    ours, again, slipped, slipped_again = (
        float(mean_M[METHODS.index(name)]) for name in ("movement", "movement again", "slipped", "slipped again")
    )
    return {"cost": number(slipped / ours - 1), "left_after_rest": number(slipped_again / again - 1)}


def table(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """The summaries of several sets of wearers as Markdown."""
    lines = []
    for name, found in sets.items():
        lines += [
            f"### {name}: {found['wearers']} wearers",
            "",
            "| | RMSE | eyes | mouth | r | ICC(3,1) | against universal | wearers better | EUs worse on average |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for method, figures in found["methods"].items():
            better = "" if figures["wearers_better"] is None else f"{figures['wearers_better']:.0%}"
            lines.append(
                f"| {method} | {figures['rmse']:.4f} | {figures['rmse_eyes']:.4f} | {figures['rmse_mouth']:.4f} | "
                f"{figures['r']:.3f} | {figures['icc31']:.3f} | {figures['change']:+.1%} | {better} | "
                f"{len(figures['eus_worse'])} |"
            )
        closed = "none to close" if found["way_closed"] is None else f"{found['way_closed']:.0%}"
        quality = "" if found["targets_r"] is None else f"r {found['targets_r']:.3f}, RMSE {found['targets_rmse']:.3f}"
        slip = found["slip"]
        lines += [
            "",
            (
                f"Of the way to true labels ours closes: {closed}. Movement targets against the truth: {quality}; "
                f"{found['refused_takes']:.1f} takes of a wearer refused; {found['outputs_changed']:.0f} outputs changed. "
                f"A slip of {SLIP_PX:g} px and {SLIP_DEG:g} degrees costs ours {slip['cost']:+.1%}; "
                f"after a rest {slip['left_after_rest']:+.1%}."
            ),
            "",
        ]
    return "\n".join(lines)


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return number(float(np.mean(known))) if known else None
