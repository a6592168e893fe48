"""What a calibration is worth: simulated wearers calibrate, put the headset on again and move freely; every method in one table.

Methods, all on the same takes, judged on free_after.take against its truth:
    universal       the bundle's head as it is                                                             (a)
    placed          the same, its crops following the face and compared with what its movement there tells: the service unasked
    rest offset     the universal head, re-centred on the calibration's rest take
    rested          the universal head, placed by that rest, compared with it and moved by what it tells, no other cue
    min max         running minimum and maximum of each EU, as Project Babble scales                       (b)
    binary peers    labels 1 while a prompt asks, no regulariser, no early stop, no gate, as Baballonia    (c)
    binary best     transitions dropped, apex at .85; our fit, pull and gate                               (c at its best)
    movement        targets of the movement metric; our fit, pull and gate                                 (d, ours)
    truth           true values of the same frames; our fit, pull and gate                                 (e, the ceiling)
    rested again    the same on two seconds of rest after the headset was put on again
    movement again  ours, after these two seconds: crops follow the face, offsets what rest tells
    truth again     true values, the same
    slipped         ours, the headset slipped by 6 px and 3 degrees; each wearer's in a direction of its own
    slipped again   ours, after two seconds of rest after that

Axes: T frame, E expression unit, W wearer.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import OLD, RESTED, CalibrateConfig, calibrate
from calibration.crops import crops_of
from calibration.errors import CalibrationError
from calibration.features import TakeFeatures, answers_of, features_of
from calibration.fit import FitConfig
from calibration.material import FitTake
from calibration.prompted import AS_PEERS_TRAIN, AT_ITS_BEST, prompted_targets, true_targets
from calibration.realign import moved_back, placed, realigned
from calibration.recentre import recentre
from calibration.rested import neutral_of, rest_features
from calibration.take_targets import TakeTargets
from calibration.targets import targets_of
from model_export.contract import EU_NAMES, SCRIPT, Bundle, Camera, Head, Slip, Take, read_take, rested
from model_export.estimates import placed_head, seconds_of
from model_export.metrics import icc31, pearson, rmse

EVALUATION_FORMAT: Final = "mien-calibration-evaluation"
EVALUATION_VERSION: Final = 5
"""1: caveat, bundle, sets of wearers with methods, way_closed, targets, eus. 2: slipped, slipped again. 3: both against movement
again in `slip`; a rest places the face in the crops. 4: placed. 5: without the take of free movement."""
METHODS: Final = (
    *("universal", "placed", "rest offset", "rested", "min max", "binary peers", "binary best", "movement", "truth"),
    *("rested again", "movement again", "truth again", "slipped", "slipped again"),
)
AFTER_FILE: Final = "free_after.take"
REST_AFTER_FILE: Final = "rest_after.take"
CAVEAT: Final = "Simulated wearers, one renderer; nothing here says how well it works on people."
LOOK_EVERY: Final = 3
"""The service looks at a face ten times a second: every so many frames of a take of 30 Hz."""
SLIP_PX: Final = 6.0
SLIP_DEG: Final = 3.0
_TRUSTED: Final = 0.3
"""Confidence from which on a target of a cue's own EUs is compared with the truth."""


@dataclass(frozen=True, slots=True)
class EvaluatedWearer:
    """What the methods say of one wearer, E in order of EU_NAMES, rows in order of METHODS."""

    name: str
    rmse_ME: NDArray[np.float64]
    r_ME: NDArray[np.float64]
    icc_ME: NDArray[np.float64]
    targets_r: float | None
    """Mean r of movement targets with the truth, over the EUs of accepted cues."""
    targets_rmse: float | None
    refused: int
    """Takes that the movement metric refused."""
    eus_better: int
    """EUs that ours changed."""


def as_peers_train(config: CalibrateConfig) -> CalibrateConfig:
    """Without all that keeps a fit from harm; the pull that is left keeps the equations solvable."""
    return replace(
        config,
        material=replace(config.material, own_always=False, quiet_weight=0.0),
        fit=FitConfig(eye_pull=1.0, mouth_pull=1.0),
        use_gate=False,
    )


def wearer_folders(takes: Path) -> list[Path]:
    """Folders under `takes` that hold a whole rendered calibration; raises CalibrationError when there is none."""
    folders = sorted(folder for folder in takes.iterdir() if (folder / AFTER_FILE).is_file())
    if not folders:
        raise CalibrationError(
            f"{takes.name} should hold folders of wearers with {AFTER_FILE}.", "none", "Render some: mien render-takes."
        )
    return folders


def takes_in(folder: Path) -> list[Take]:
    """The takes of one calibration in a wearer's folder: what its script asks for, and nothing after it."""
    asked = {cue.name for cue in SCRIPT}
    takes = [read_take(path.read_bytes()) for path in sorted(folder.glob("[0-9]*.take"))]
    return [take for take in takes if take.cue in asked]


def evaluate_wearer(bundle: Bundle, folder: Path, config: CalibrateConfig | None = None) -> EvaluatedWearer:
    """All methods on one wearer; about a minute of one core."""
    config = config or CalibrateConfig()
    takes = takes_in(folder)
    after = read_take((folder / AFTER_FILE).read_bytes())
    truth_TE = true_targets(after).values_TE
    universal = bundle.head
    slips = placed(takes[0], bundle)
    rest = rest_features([features_of(moved_back(takes[0], slips), bundle)])
    seen = [features_of(moved_back(take, slips), bundle, neutral_of(rest)) for take in takes]
    calibrated = partial(calibrate, universal=universal, rest=rest, resting=bundle.resting, slips=slips)
    movement = targets_of(takes)
    ours = calibrated(_paired(seen, movement.accepted), config=config)
    best = calibrated(_paired(seen, [prompted_targets(take, AT_ITS_BEST) for take in takes]), config=config)
    peers = calibrated(
        _paired(seen, [prompted_targets(take, AS_PEERS_TRAIN) for take in takes]),
        config=as_peers_train(config),
        resting=None,
    )
    ceiling = calibrated(_paired(seen, [true_targets(take) for take in takes]), config=config)
    rest_after = read_take((folder / REST_AFTER_FILE).read_bytes())
    slip = slip_of(folder.name)
    slipped, slipped_rest = (moved_back(take, dict.fromkeys(Camera, slip.inverse())) for take in (after, rest_after))
    raw = [features_of(take, bundle) for take in takes]
    before_TE = _served(universal, bundle, after)
    values = (
        before_TE,
        _served(_placed_by_movement(bundle, after), bundle, after),
        _served(recentre(universal, [take for take in raw if take.cue == "rest"]), bundle, after),
        _again(universal, bundle, takes[0], after),
        min_max([answers_of(universal, take, bundle.eye_pair).values_TE for take in raw], before_TE),
        *(_served(outcome.head, bundle, after) for outcome in (peers, best, ours, ceiling)),
        *(_again(head, bundle, rest_after, after) for head in (universal, ours.head, ceiling.head)),
        _served(ours.head, bundle, slipped),
        _again(ours.head, bundle, slipped_rest, slipped),
    )
    found = [np.stack([measure(values_TE, truth_TE) for values_TE in values]) for measure in (rmse, pearson, icc31)]
    targets_r, targets_rmse = targets_quality(movement.accepted, takes)
    changed = sum(eu["source"] not in (OLD, RESTED) for eu in ours.report["eus"].values())
    return EvaluatedWearer(
        folder.name, found[0], found[1], found[2], targets_r, targets_rmse, len(movement.refused), changed
    )


def slip_of(name: str) -> Slip:
    """A wearer's slip: SLIP_PX long, SLIP_DEG to a side, directions drawn from the name."""
    drawn = zlib.crc32(name.encode())
    angle = 2 * np.pi * (drawn % 360) / 360
    turn_deg = SLIP_DEG if drawn // 360 % 2 else -SLIP_DEG
    return Slip(SLIP_PX * float(np.cos(angle)), SLIP_PX * float(np.sin(angle)), turn_deg)


def _again(head: Head, bundle: Bundle, rest: Take, after: Take) -> NDArray[np.float32]:
    """Values of a head in `after`, moved by what this rest says: crops follow the face, offsets what rest tells."""
    aligned = realigned(head, rest, bundle)
    return _served(rested(aligned.head, rest_features([aligned.seen]), bundle.resting), bundle, after)


def _placed_by_movement(bundle: Bundle, take: Take) -> Head:
    """The universal head with its crops where the face moves in this take, which the service looks at as often."""
    crops = crops_of(take)
    seen = {camera: crops[camera][0][crops[camera][1]][::LOOK_EVERY] for camera in Camera}
    return placed_head(bundle, seen, seconds_of(take.t_ns))


def _served(head: Head, bundle: Bundle, take: Take) -> NDArray[np.float32]:
    """Values of a head, the take's crops cut where it says that the face is and compared with the rest that it knows."""
    seen = features_of(moved_back(take, head.slip), bundle, head.neutral)
    return answers_of(head, seen, bundle.eye_pair).values_TE


def _paired(seen: Sequence[TakeFeatures], targets: Sequence[TakeTargets]) -> list[FitTake]:
    by_start = {(take.cue, int(take.t_ns[0])): take for take in seen}
    return [FitTake(by_start[one.cue, int(one.t_ns[0])], one) for one in targets]


def min_max(calibration: Sequence[NDArray[np.float32]], values_TE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values over the range seen so far, of the calibration and of each frame's past; an EU that hardly moved stays."""
    low_E = np.min([block_TE.min(axis=0) for block_TE in calibration], axis=0)
    high_E = np.max([block_TE.max(axis=0) for block_TE in calibration], axis=0)
    low_TE = np.minimum(np.minimum.accumulate(values_TE, axis=0), low_E)
    range_TE = np.maximum(np.maximum.accumulate(values_TE, axis=0), high_E) - low_TE
    return np.where(range_TE > 0.05, (values_TE - low_TE) / np.maximum(range_TE, 0.05), values_TE).astype(np.float32)


def targets_quality(targets: Sequence[TakeTargets], takes: Sequence[Take]) -> tuple[float | None, float | None]:
    """Mean r and RMSE of the targets of asked EUs with the truth, where they are trusted; None where nothing is."""
    by_start = {(take.cue, int(take.t_ns[0])): take for take in takes}
    found_r, found_rmse = [], []
    for one in targets:
        truth_TE = by_start[one.cue, int(one.t_ns[0])].values_TE
        asked = [e for e in range(len(EU_NAMES)) if one.cue != "rest" and one.confidence_TE[:, e].max() >= _TRUSTED]
        if truth_TE is None:
            continue
        for e in asked:
            known_T = one.confidence_TE[:, e] >= _TRUSTED
            if known_T.sum() >= 10 and truth_TE[known_T, e].max() >= 0.1:
                pair = one.values_TE[known_T, e, None], truth_TE[known_T, e, None]
                found_r.append(float(pearson(*pair)[0]))
                found_rmse.append(float(rmse(*pair)[0]))
    return (float(np.mean(found_r)), float(np.mean(found_rmse))) if found_r else (None, None)
