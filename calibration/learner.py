"""The learner of the calibration worker: targets from movement, heads from targets."""

from collections.abc import Mapping
from pathlib import Path

import cv2

from calibration.calibrate import calibrate_takes
from calibration.observed import Observed
from calibration.targets import targets_from
from calibration.worker_process import Learnt
from model_export.contract import Head, Take, read_bundle


class MovementLearner:
    """Judges and fits by movement. Final."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = read_bundle(bundle)
        self._observed = Observed(self._bundle)
        cv2.setNumThreads(1)  # the other cores belong to the stream

    def judge(self, take: Take, rest: Take | None) -> str | None:
        """Why the take cannot be used, seen from the wearer's rest; about a second for three seconds of three cameras.

        An accepted one is seen through the backbones at once, because after the last cue the wearer waits.
        """
        takes = [take] if rest is None or take.cue == "rest" else [rest, take]
        refused = [refusal for refusal in targets_from(self._observed.sight(takes)).refused if refusal.cue == take.cue]
        if refused:
            return str(refused[0])
        self._observed.features(take, take if take.cue == "rest" else rest)
        return None

    def fit(self, takes: Mapping[str, Take], current: Head | None) -> Learnt:
        """A head where held-out repetitions say that it is better; a second or two."""
        recordings = list(takes.values())
        self._observed.keep(recordings)
        found = calibrate_takes(recordings, self._bundle, current, observed=self._observed)
        return Learnt(found.head, found.better, found.report)
