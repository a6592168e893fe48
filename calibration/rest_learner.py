"""The learner of a re-centring: what a few seconds of rest say of the head in use. Fits nothing."""

from collections.abc import Mapping
from pathlib import Path

import cv2

from calibration.recentre import recentre_take
from calibration.targets import targets_of
from calibration.worker_process import Learnt
from model_export.contract import Head, HeadError, Take, read_bundle


class RestLearner:
    """Judges a rest and moves offsets by it. Final."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = read_bundle(bundle)
        cv2.setNumThreads(1)  # the other cores belong to the stream

    def judge(self, take: Take, rest: Take | None) -> str | None:
        """Why the rest cannot be used; about a second."""
        del rest  # it is the first one
        refused = targets_of([take]).refused
        return str(refused[0]) if refused else None

    def fit(self, takes: Mapping[str, Take], current: Head | None) -> Learnt:
        """The head in use, its crops where the face is now, with the offsets that the rest tells and held-out frames ask for."""
        head = current or self._bundle.head
        if head.backbone_digest != self._bundle.backbone_digest:
            raise HeadError(
                f"The wearer's head should be fitted for backbones {self._bundle.backbone_digest[:12]}. "
                f"Found {head.backbone_digest[:12]}. Calibrate again with the bundle in use."
            )
        found = recentre_take(head, takes["rest"], self._bundle)
        return Learnt(found.head, found.better, found.report)
