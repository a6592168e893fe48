"""A worker process whose learner says what it was given, and dies or stalls when a cue tells it to."""

import argparse
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from calibration.errors import CalibrationError
from calibration.profiles import Profiles
from calibration.worker_process import Desk, Keep, Learnt, own_pipes, serve
from model_export.contract import Camera, Head, Take
from tests.bundles import make_head


class RecordingLearner:
    """Refuses frowns; dies over a jaw_open once; takes its time over a stretch."""

    def __init__(self, folder: Path) -> None:
        self._died = folder / "died"

    def judge(self, take: Take, rest: Take | None) -> str | None:
        if take.cue == "frown":
            return f"too weak, {len(take)} frames, rest {'here' if rest else 'missing'}"
        if take.cue == "jaw_open" and not self._died.exists():
            self._died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if take.cue == "stretch":
            time.sleep(60)
        return None

    def fit(self, takes: Mapping[str, Take], current: Head | None) -> Learnt:
        print("a library prints")  # noqa: T201 - must not get between the messages
        if "tongue" in takes:
            raise CalibrationError("Takes should be long.", "short ones", "Record again.")
        head = current or make_head(1, backbone_digest="ab" * 32)
        report = {cue: [len(take), sorted(camera.label for camera in take.images)] for cue, take in takes.items()}
        return Learnt(replace(head, report={"from": head.head_version}), "smile" in takes, report)


class RecordingRestLearner(RecordingLearner):
    """Moves whichever head is in use."""

    def fit(self, takes: Mapping[str, Take], current: Head | None) -> Learnt:
        head = current or make_head(1, backbone_digest="ab" * 32)
        report = {"from": head.head_version, "origin": "recentred"}
        return Learnt(replace(head, report=report), list(takes) == ["rest"], report)


class CountingGauge:
    """Rises by a tenth with each frame set, once there is a rest."""

    def __init__(self) -> None:
        self._rest: Take | None = None
        self._frames = 0

    def begin(self, cue: str, rest: Take | None) -> None:  # noqa: ARG002 - as LiveGauge has it
        self._rest, self._frames = rest, 0

    def update(self, images: Mapping[Camera, bytes]) -> float | None:  # noqa: ARG002 - as LiveGauge has it
        self._frames += 1
        return None if self._rest is None else min(1.0, self._frames / 10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--profiles", type=Path)
    parser.add_argument("--recentre", action="store_true")
    options = parser.parse_args()
    pipes = own_pipes()
    keep = None if options.profiles is None else Keep(Profiles(options.profiles), "ada")
    learner = (RecordingRestLearner if options.recentre else RecordingLearner)(options.folder)
    serve(Desk(learner, keep, CountingGauge()), *pipes)


if __name__ == "__main__":
    main()
