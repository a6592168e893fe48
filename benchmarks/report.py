"""The latency report for people: tables as text, and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from service.wire import STAGES

_ROWS: Final = ("client late", "transport", *STAGES)


def _number(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    aligned = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join("  ".join(line) for line in aligned)


def _percentiles_ms(latency_us: Mapping[str, float | None]) -> list[str]:
    return [_number(None if value is None else value / 1000) for value in latency_us.values()]


def text_report(result: Mapping[str, Any]) -> str:
    """All tables of a result as readable text; times in milliseconds unless they say otherwise."""
    percentiles = ["p50", "p90", "p99", "p99.9", "max"]
    closed = result["closed_loop"]
    rows = []
    for name, measured in closed.items():
        compared = measured.get("against_bare") or {}
        over = compared.get("over_us")
        rows.append(
            [
                name,
                str(measured["answered"]),
                *_percentiles_ms(measured["latency_us"]),
                _number(compared.get("ratio")),
                "-" if over is None else f"{over:+.0f}",
            ]
        )
    material = result["material"]
    bytes_sent = f"{material['raw_bytes']} bytes raw, {material['jpeg_bytes']} bytes JPEG"
    parts = [
        f"material: {material['source']}, {material['frame_sets']} frame sets, {bytes_sent}",
        "",
        f"CLOSED LOOP, one headset, medians of {result['rounds']} rounds that take turns; ms",
        _table(["", "frame sets", *percentiles, "x bare", "us over bare"], rows),
    ]
    if result["open_loop"]:
        header = ["Hz", "headsets", "frames", "sent", "unanswered", "drops", *percentiles, "client late p99", "CPU %"]
        rows = [
            [
                f"{run['rate_hz']:g}",
                str(run["headsets"]),
                run["encoding"],
                str(run["sent"]),
                str(run["unanswered"]),
                str(run["drops"]),
                *_percentiles_ms(run["latency_us"]),
                _number(run["stages_us"].get("client late", {}).get("p99", 0) / 1000),
                _number(run["cpu_percent"], 0),
            ]
            for run in result["open_loop"]
        ]
        parts += ["", "OPEN LOOP, latency from the time a frame set was due; ms", _table(header, rows)]
        parts += [f"p99.9 is given from {result['tail_frames']} frame sets on; CPU % of one core, the service alone."]
    for rate, bare in result["bare_paced"].items():
        compared = bare["against_bare"]
        through = f"{_number(compared['ratio'])} x, {compared['over_us']:+.0f} us"
        parts += [f"Bare runtime at {rate} Hz: p50 {_number(bare['p50_us'] / 1000)} ms; one headset, raw: {through}."]
    runs = [("closed " + name, run) for name, run in closed.items() if run.get("stages_us")]
    runs += [(f"{run['rate_hz']:g} Hz x{run['headsets']} {run['encoding']}", run) for run in result["open_loop"]]
    rows = [[name, *(_number(run["stages_us"].get(row, {}).get("p50"), 0) for row in _ROWS)] for name, run in runs]
    parts += ["", "STAGES, medians in us; service = receipt to encoding, transport = answer - sent - service"]
    parts += [_table(["", *_ROWS], rows)]
    memory = result["service"]["memory_mb"]
    parts += ["", f"service memory: RSS {_number(memory['rss'], 0)} MB, PSS {_number(memory['pss'], 0)} MB", ""]
    parts += [
        f"{'met   ' if target['met'] else 'MISSED'}  {target['name']}: {target['found']} (at most {target['at_most']})"
        for target in result["targets"]
    ]
    return "\n".join(parts)


def plot_report(result: Mapping[str, Any], path: Path) -> None:
    """Percentiles of every load and the stages of one headset, as a picture; needs matplotlib."""
    import matplotlib as mpl  # a benchmark without a plot must not pay for it

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(3, 2), layout="constrained")
    runs = [(f"closed loop, {name}", run) for name, run in result["closed_loop"].items()]
    runs += [
        (f"{run['rate_hz']:g} Hz, {run['headsets']} headset{'s' * (run['headsets'] > 1)}, {run['encoding']}", run)
        for run in result["open_loop"]
    ]
    names = [name for name, _ in runs][::-1]
    for row, (_, run) in enumerate(reversed(runs)):
        times_ms = {name: value / 1000 for name, value in run["latency_us"].items() if value is not None}
        left.plot([times_ms["p50"], times_ms["p99"]], [row, row], color="#9aa7b5", lw=2, zorder=1)
        for name, colour in (("p50", "#1f8a9e"), ("p90", "#7d62d9"), ("p99", "#d9822b"), ("p99.9", "#c0392b")):
            if name in times_ms:
                left.scatter(times_ms[name], row, color=colour, s=34, zorder=2, label=name if row == 0 else None)
    left.set_yticks(range(len(names)), names)
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.set_xlabel("latency, ms (open loop: from the time it was due)")
    left.grid(axis="x", which="both", alpha=0.3)
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)
    staged = [(name, run) for name, run in runs if run.get("stages_us")]
    ends = [0.0] * len(staged)
    for stage in ("client late", "transport", *STAGES[:-1]):
        widths = [max(0.0, run["stages_us"].get(stage, {}).get("p50", 0.0)) for _, run in staged]
        right.barh(range(len(staged)), widths, left=ends, label=stage)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    right.set_yticks(range(len(staged)), [name for name, _ in staged])
    right.invert_yaxis()
    right.set_xlabel("median of each stage, us")
    right.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, frameon=False)
    machine = result["machine"]
    figure.suptitle(f"{machine['processor']}, {machine['usable_cores']} cores, {machine['revision']}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
