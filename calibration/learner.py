"""The learner of the calibration worker: targets from movement, heads from targets."""

from collections.abc import Mapping
from pathlib import Path

import cv2

from calibration.calibrate import calibrate_takes
from calibration.targets import targets_of
from calibration.worker_process import Learnt
from model_export.contract import Head, Take, read_bundle


class MovementLearner:
    """Judges and fits by movement. Final."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = read_bundle(bundle)
        cv2.setNumThreads(1)  # the other cores belong to the stream

    def judge(self, take: Take, rest: Take | None) -> str | None:
        """Why the take cannot be used, seen from the wearer's rest; about a second for three seconds of three cameras."""
        takes = [take] if rest is None or take.cue == "rest" else [rest, take]
        refused = [refusal for refusal in targets_of(takes).refused if refusal.cue == take.cue]
        return str(refused[0]) if refused else None

    def fit(self, takes: Mapping[str, Take], current: Head | None) -> Learnt:
        """A head where held-out repetitions say that it is better; a second or two."""
        found = calibrate_takes(list(takes.values()), self._bundle, current)
        return Learnt(found.head, found.better, found.report)
