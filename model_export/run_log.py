"""What a run says while it runs: a progress bar for the reader, JSON lines for later.

Axes: E task (losses.TASK_NAMES).
"""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from torch import Tensor
from tqdm import tqdm

from model_export.checkpoint import write_file
from model_export.losses import TASK_NAMES

LOG_FILE: Final = "log.jsonl"
_EVERY: Final = 20
"""Steps between lines."""


class RunLog:
    """Appends to `folder`/log.jsonl and draws a bar on stderr; a quiet one does neither."""

    def __init__(self, folder: Path, first_step: int, steps: int | None, minutes: float | None, *, quiet: bool) -> None:
        self._path = folder / LOG_FILE
        self._quiet = quiet
        self._timed = steps is None
        self._since: tuple[int, float] | None = None
        if not quiet:
            _forget_after(self._path, first_step)
        total = round(60 * (minutes or 0)) if steps is None else steps
        self._bar = tqdm(total=total, unit="s" if self._timed else "step", disable=quiet, desc="train", mininterval=1)
        if not self._timed:
            self._bar.update(first_step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def note(self, step: int, elapsed_s: float, crops: int, *, rate: float, losses_E: Tensor, points: Tensor) -> None:
        """A step was done; every twentieth is written down."""
        if self._since is None:
            self._since = (step, elapsed_s)
        self._bar.update(round(elapsed_s) - self._bar.n if self._timed else 1)
        if step % _EVERY:
            return
        speed = (step - self._since[0]) * crops / max(elapsed_s - self._since[1], 1e-9)
        self._since = (step, elapsed_s)
        self._bar.set_postfix(loss=f"{float(losses_E.mean()):.4f}", crops_per_s=f"{speed:.0f}")
        self.say(
            step=step,
            elapsed_s=round(elapsed_s, 3),
            learning_rate=rate,
            crops_per_s=round(speed, 1),
            loss=float(losses_E.mean()),
            points=round(float(points), 6),
            losses=dict(zip(TASK_NAMES, [round(float(loss), 6) for loss in losses_E], strict=True)),
        )

    def say(self, **fields: Any) -> None:
        """Writes one line."""
        if not self._quiet:
            with self._path.open("a") as stream:
                stream.write(json.dumps(fields) + "\n")


def _forget_after(path: Path, step: int) -> None:
    """Drops the lines of steps that a killed run did after its last checkpoint, and a line cut off by the kill."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    write_file(path, "".join(line + "\n" for line in kept).encode())
