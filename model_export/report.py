"""The evaluation as a readable table and as plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from model_export.clips import MOVES_STD
from model_export.evaluate import CAVEAT, MOVES_FROM, UNEVEN_FROM

_SUMMARY: Final = {
    "mean_r": "mean Pearson r over the EUs",
    "mean_r_within_wearer": "mean Pearson r within each wearer",
    "worst_r": "worst EU's r",
    "eus_below_r_0.75": "EUs with r below 0.75",
    "mean_icc31": "mean ICC(3,1)",
    "mean_rmse": "mean RMSE",
    "mean_rmse_of_mean_baseline": "mean RMSE of always saying the training mean",
    "not_moving_95th_percentile": f"95th percentile of an EU that is not moving (truth < {MOVES_FROM})",
    "face_at_rest_95th_percentile": "95th percentile of any EU while the whole face rests (all below 0.1)",
    "gaze_median_deg": "gaze, median error, degrees (eyes less than half shut)",
    "gaze_90th_percentile_deg": "gaze, 90th percentile, degrees",
    "gaze_median_deg_of_mean_baseline": "gaze, median error of always looking in the mean direction, degrees",
    "uneven_rmse": f"RMSE of lids and brows while their sides differ by more than {UNEVEN_FROM}",
    "wink_rmse": "RMSE of blinks in winks (the same of eyeBlink)",
    "placed_mean_r": "mean r when the crops follow each fitting's face, found from how it moves",
    "placed_mean_rmse": "mean RMSE, crops following",
    "placed_face_at_rest_95th": "95th percentile of any EU while the whole face rests, crops following",
    "placed_gaze_deg": "gaze, median error, degrees, crops following",
    "rested_mean_r": "mean r when a picture of each fitting's face at rest was seen before",
    "rested_mean_rmse": "mean RMSE, rest seen",
    "rested_face_at_rest_95th": "95th percentile of any EU while the whole face rests, rest seen",
    "rested_gaze_deg": "gaze, median error, degrees, rest seen",
    "confidence_right_share": "share of crops told apart by confidence 0.5 (half of them spoiled)",
    "confidence_of_intact": "mean confidence of crops that can be read",
    "confidence_of_spoiled": "mean confidence of spoiled crops",
    "expected_calibration_error": "expected calibration error of the confidence",
}
_EU_COLUMNS: Final = ("r", "icc31", "rmse", "rmse_of_mean_baseline", "not_moving_95th_percentile", "moving_share")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{value['mean']:.3f} +- {value['std']:.3f}"
    return f"{value:.3f}"


def markdown(evaluation: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["# Evaluation", "", CAVEAT, ""]
    lines += [f"- bundle `{bundle['name']}`, digest `{bundle['digest']}`" for bundle in evaluation["bundles"]]
    if len(evaluation["bundles"]) > 1:
        lines += ["", "Figures are means over these bundles +- their standard deviation."]
    if wearers := evaluation.get("wearers"):
        lines += ["", f"## {wearers['wearers']} synthetic wearers never seen, {wearers['frame_sets']} frame sets", ""]
        lines += ["| figure | value |", "|---|---|"]
        lines += [f"| {text} | {_shown(wearers['summary'].get(key))} |" for key, text in _SUMMARY.items()]
        lines += ["", "| EU | r | ICC(3,1) | RMSE | RMSE of the mean | not moving, 95th pct | moving share |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for name, figures in wearers["eus"].items():
            lines.append(f"| {name} | " + " | ".join(_shown(figures[column]) for column in _EU_COLUMNS) + " |")
    if clips := evaluation.get("clips"):
        lines += ["", f"## {clips['clips']} clips of real faces, {clips['frames']} frames", ""]
        introduction = (
            "Pearson's r within each clip against a whole-face reference model that errs too; median over clips. "
            f"A clip is skipped for a channel whose reference has a standard deviation below {MOVES_STD} there. "
            "The first probe's figures were over 17 clips, of which only 6 can be seen here: not the same clips."
        )
        lines += [
            introduction,
            "",
            "| channel | median r | crops following | clips used | first probe | each clip |",
            "|---|---|---|---|---|---|",
        ]
        for name, figures in clips["channels"].items():
            each = ", ".join(f"{clip} {_shown(r)}" for clip, r in figures["clips"].items())
            probe = _shown(figures["first_probe_r"])
            medians = f"{_shown(figures['median_r'])} | {_shown(figures['placed_median_r'])}"
            lines.append(f"| {name} | {medians} | {figures['clips_used']} | {probe} | {each} |")
    return "\n".join(lines) + "\n"


def _middle(value: Any) -> float:
    if value is None:
        return 0.0
    return float(value["mean"] if isinstance(value, Mapping) else value)


def plot(evaluation: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes bars for each EU and each channel as PNG files; gives their paths."""
    from matplotlib.figure import Figure

    written = []
    if wearers := evaluation.get("wearers"):
        figure = Figure(figsize=(9, 13), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        names = list(wearers["eus"])[::-1]
        figures = [wearers["eus"][name] for name in names]
        left.barh(names, [_middle(row["r"]) for row in figures], color="tab:blue", label="r")
        left.barh(names, [_middle(row["icc31"]) for row in figures], color="black", height=0.25, label="ICC(3,1)")
        left.set(title="unseen wearers: r and ICC(3,1)", xlim=(-0.1, 1))
        right.barh(names, [_middle(row["rmse_of_mean_baseline"]) for row in figures], color="lightgrey", label="mean")
        right.barh(names, [_middle(row["rmse"]) for row in figures], color="tab:blue", height=0.5, label="bundle")
        right.set(title="RMSE, beside always saying the mean")
        for axes in (left, right):
            axes.legend(loc="lower right")
            axes.grid(axis="x", alpha=0.3)
            axes.tick_params(axis="y", labelsize=7)
        written.append(folder / "wearers.png")
        figure.savefig(written[-1], dpi=110)
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="lightgrey")
        for bundle, bins in zip(evaluation["bundles"], wearers["reliability"], strict=True):
            confidences, shares = ([row[key] for row in bins] for key in ("confidence", "intact_share"))
            axes.plot(confidences, shares, marker="o", label=bundle["name"])
        axes.set(title="reliability", xlabel="mean confidence", ylabel="share of crops that can be read")
        axes.legend(loc="lower right")
        written.append(folder / "reliability.png")
        figure.savefig(written[-1], dpi=110)
    if clips := evaluation.get("clips"):
        figure = Figure(figsize=(8, 6), layout="constrained")
        axes = figure.subplots()
        names = list(clips["channels"])[::-1]
        rows = [clips["channels"][name] for name in names]
        axes.barh(names, [_middle(row["median_r"]) for row in rows], color="tab:blue", label="bundle")
        axes.barh(names, [_middle(row["first_probe_r"]) for row in rows], color="orange", height=0.2, label="probe")
        axes.set(title="real clips: median r within a clip", xlim=(-0.2, 1))
        axes.legend(loc="lower right")
        axes.grid(axis="x", alpha=0.3)
        written.append(folder / "clips.png")
        figure.savefig(written[-1], dpi=110)
    return written
