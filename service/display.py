"""What `mien stream` and `mien demo` show in a terminal: values as bars, rate, latency, drops. Pure text, no I/O."""

import shutil
import sys
import time
from dataclasses import dataclass
from typing import Final, TextIO

from model_export.contract.expression_units import EU_NAMES
from model_export.contract.frames import Camera
from service.wire_messages import Reply

REDRAW_S: Final = 0.2
LINE_S: Final = 2.0
"""Between lines where there is no terminal."""
_COLUMN: Final = 34
_BAR: Final = 10
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Status:
    """How a stream is doing at one moment."""

    title: str
    seconds: float
    rate_hz: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    """From the planned send time to the arrival of the answer."""
    sent: int
    drops: int
    unanswered: int
    connected: bool
    reply: Reply | None
    """The newest."""


def bar(value: float, width: int = _BAR) -> str:
    """A value in [0, 1] as a bar of `width` characters."""
    eighths = round(min(1.0, max(0.0, value)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def summary(status: Status) -> str:
    """Rate, latency and drops in one line."""
    state = "" if status.connected else "  NOT CONNECTED, trying again"
    return (
        f"{status.seconds:6.1f} s  {status.rate_hz:5.1f} frame sets/s  latency p50 {status.p50_ms:.2f} ms  "
        f"p99 {status.p99_ms:.2f} ms  sent {status.sent}  drops {status.drops}{state}"
    )


def line(status: Status) -> str:
    """One line for a log: the summary and the four strongest values."""
    if status.reply is None:
        return summary(status)
    values = status.reply.values.values_E.tolist()
    strongest = sorted(zip(values, EU_NAMES, strict=True), reverse=True)[:4]
    return f"{summary(status)}  " + "  ".join(f"{name} {value:.2f}" for value, name in strongest)


def screen(status: Status, width: int, height: int) -> list[str]:
    """The lines of a whole terminal of `width` x `height` characters; what does not fit is left out."""
    lines = [status.title, summary(status)]
    if status.reply is not None:
        values = status.reply.values
        left_yaw, left_pitch, right_yaw, right_pitch = values.gaze_deg.tolist()
        lines.append(
            f"gaze left {left_yaw:+6.1f} {left_pitch:+6.1f} deg   right {right_yaw:+6.1f} {right_pitch:+6.1f} deg   "
            + "   ".join(
                f"{camera.label} {state.validity.name.lower()} {state.confidence:.2f}"
                for camera, state in zip(Camera, values.regions, strict=True)
            )
        )
        lines.append("")
        lines.extend(_table(values.values_E.tolist(), max(1, (width - 1) // _COLUMN)))
    return [text[: width - 1] for text in lines[: height - 1]]


def _table(values: list[float], columns: int) -> list[str]:
    """The values in columns, each read from top to bottom."""
    rows = -(-len(values) // columns)
    cells = [f"{name:<19}{bar(value)}{value:4.2f} " for name, value in zip(EU_NAMES, values, strict=True)]
    return ["".join(cells[row::rows]) for row in range(rows)]


class Display:
    """Shows a stream on stderr: a live screen in a terminal, a line every two seconds elsewhere, nothing when quiet."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._live = self._stream.isatty()
        self._next_s = 0.0
        self._drawn = 0

    @property
    def due(self) -> bool:
        """Whether it is time to show something: building a Status costs more than asking."""
        return not self._quiet and time.monotonic() >= self._next_s

    def show(self, status: Status) -> None:
        """Shows the status now, unless it is quiet."""
        if self._quiet:
            return
        self._next_s = time.monotonic() + (REDRAW_S if self._live else LINE_S)
        if not self._live:
            self._stream.write(line(status) + "\n")
        else:
            width, height = shutil.get_terminal_size()
            lines = screen(status, width, height)
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            self._stream.write(up + "".join(f"\x1b[2K{text}\n" for text in lines))
            self._drawn = len(lines)
        self._stream.flush()
