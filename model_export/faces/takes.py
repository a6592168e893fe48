"""Calibrations of simulated wearers, rendered as take files with the truth in them.

One folder a wearer: `<nn>_<cue>.take` for each cue, all in one fitting (the headset is put on once and slips a little), then
`rest_after.take` and `free_after.take` in a second fitting of the same headset (taken off and on). A take depends on the
configuration, the rig and its wearer's seed alone, so an interrupted call resumes take by take.
Axes: T time, C camera, E expression units.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model_export.contract.cues import CUE_SET_VERSION, CUES, Cue, cue_by_name
from model_export.contract.expression_units import EU_INDEX, EU_NAMES
from model_export.contract.frames import CROP_SIZE_PX, Camera
from model_export.contract.take import Encoding, Take, write_take
from model_export.faces.errors import ConfigError, DatasetError
from model_export.faces.render import LOOKS, SPACES, DressedWearer, Fit, Stage, draw_fit
from model_export.faces.rig import load_rig
from model_export.faces.shards import write_whole
from model_export.faces.takes_performance import Manner, perform_cue, perform_freely
from model_export.faces.wearer import Wearer, draw_wearer, gaze_degrees

TAKES_VERSION: Final = 1
"""Raised when the same configuration renders other takes."""
WEARER_FILE: Final = "wearer.json"
_GAP_S: Final = 1.0
_SIDES: Final = ("Left", "Right")


@dataclass(frozen=True, slots=True)
class TakesConfig:
    """Which calibrations to render; equal configurations and rigs give equal takes."""

    wearers: int = 8
    """How many wearers, each one folder."""
    seed: int = 7000
    """First wearer's seed; wearer i has seed + i."""
    look: str = "near"
    """One of LOOKS; its seed space keeps these wearers apart from those trained on."""
    rate_hz: float = 30.0
    """Frame sets a second."""
    sloppy: float = 0.0
    """0: cues performed as people do; 1: shifted by up to half a second, one in twelve wrong, some weak."""
    free_s: float = 24.0
    """Length of free_after.take."""

    def __post_init__(self) -> None:
        if self.look not in LOOKS:
            raise ConfigError(f"look should be one of {', '.join(LOOKS)}. Found {self.look!r}.")
        for name, value, low, high in (
            ("wearers", self.wearers, 1, 1_000_000),
            ("seed", self.seed, 0, 2**31),
            ("rate_hz", self.rate_hz, 2, 240),
            ("sloppy", self.sloppy, 0, 1),
            ("free_s", self.free_s, 1, 600),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} should lie in {low}..{high}. Found {value}.")

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the versions that shape a take."""
        return {**asdict(self), "takes": TAKES_VERSION, "cue_set": CUE_SET_VERSION}


@dataclass(frozen=True, slots=True)
class Oddities:
    """What makes a wearer harder than most; drawn from the wearer's seed."""

    weak_side: str = ""
    """Left or Right: that half of the face moves a third as far; empty: neither."""
    droopy: bool = False
    """Lids hang a third closed at rest."""
    glasses: bool = False
    """Spectacle rims in the eye pictures."""


def draw_oddities(seed: int, look: str) -> Oddities:
    """One wearer in five is weak on one side, one in five has droopy lids, two in five of the far ones wear glasses."""
    rng = np.random.default_rng([SPACES[look], seed, 30])
    weak, droopy, glasses = rng.random(3)
    side = _SIDES[int(rng.integers(2))]
    return Oddities(side if weak < 0.2 else "", bool(droopy < 0.2), bool(look == "far" and glasses < 0.4))


def alter(wearer: Wearer, oddities: Oddities) -> Wearer:
    """The wearer with these oddities; values stay shares of the wearer's own range."""
    gain_E, rest_E = wearer.gain_E.copy(), wearer.rest_E.copy()
    if oddities.weak_side:
        for index, name in enumerate(EU_NAMES):
            half = name.endswith(oddities.weak_side) and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight")
            if half and not name.startswith(("eyeLook", "eyeBlink", "pupil")):
                gain_E[index] *= 0.35
    if oddities.droopy:
        for side in _SIDES:
            blink = EU_INDEX[f"eyeBlink{side}"]
            rest_E[blink] = 0.33
            gain_E[blink] = 1.02 - rest_E[blink]
    return replace(wearer, gain_E=gain_E, rest_E=rest_E)


def put_on_again(rng: np.random.Generator, fit: Fit) -> Fit:
    """The same headset and light after it was taken off and on: it sits a few millimetres and degrees elsewhere."""
    fitting = fit.fitting
    headset_shift_3 = rng.normal(0.0, 0.12, 3)
    turn_rad = float(rng.normal(0.0, np.radians(1.5)))
    framing_2 = rng.normal(0.0, 0.015, 2)
    fitting = replace(
        fitting,
        position_C3=(fitting.position_C3 + headset_shift_3).astype(np.float32),
        roll_C=fitting.roll_C + np.float32(turn_rad),
        shift_C2=(fitting.shift_C2 + framing_2).astype(np.float32),
        scale_C=fitting.scale_C * np.float32(rng.normal(1.0, 0.015)),
        slip_3=(fitting.slip_3 * rng.normal(0.0, 1.0, 3)).astype(np.float32),
        slip_turn_rad=float(rng.normal(0.0, np.radians(1.0))),
    )
    sensor = replace(fit.sensor, level=float(np.clip(fit.sensor.level * rng.normal(1.0, 0.05), 0.05, 0.6)))
    return replace(fit, fitting=fitting, sensor=sensor)


@dataclass(frozen=True, slots=True)
class _Part:
    """One take of a calibration: what, when, in which fitting."""

    file: str
    cue: Cue
    fitting: int
    seconds: float
    start_s: float
    phase: tuple[float, float]
    """First and last phase of the fitting's slip."""


def _parts(config: TakesConfig) -> list[_Part]:
    lengths = [(f"{number:02d}_{cue.name}.take", cue, 0, cue.seconds) for number, cue in enumerate(CUES)]
    lengths += [
        ("rest_after.take", cue_by_name("rest"), 1, 2.0),
        ("free_after.take", cue_by_name("free"), 1, config.free_s),
    ]
    totals = [sum(seconds for *_, fitting, seconds in lengths if fitting == number) for number in (0, 1)]
    parts, start_s, done = [], 1.0, [0.0, 0.0]
    for file, cue, fitting, seconds in lengths:
        phase = (done[fitting] / totals[fitting], (done[fitting] + seconds) / totals[fitting])
        parts.append(_Part(file, cue, fitting, seconds, start_s, phase))
        done[fitting] += seconds
        start_s += seconds + _GAP_S + (20.0 if file.endswith("free.take") else 0.0)
    return parts


def render_calibration(stage: Stage, config: TakesConfig, index: int, folder: Path, rig_sha256: str) -> int:
    """Render the missing takes of the configuration's wearer `index` into a folder; gives how many were rendered."""
    seed = config.seed + index
    space = SPACES[config.look]
    oddities = draw_oddities(seed, config.look)
    wearer = alter(draw_wearer(seed, space, len(stage.anatomy.identity_IP3)), oddities)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, config, wearer, oddities, rig_sha256)
    missing = [part for part in _parts(config) if not (folder / part.file).is_file()]
    if not missing:
        return 0
    fits = _fits(wearer, config.look, oddities)
    dressed = stage.dress(wearer)
    for part in missing:
        rng = np.random.default_rng([space, seed, 32, *part.file.encode()])
        take = _render_take(stage, dressed, fits[part.fitting], part, config, rng)
        write_whole(folder / part.file, write_take(take))
    return len(missing)


def _fits(wearer: Wearer, look: str, oddities: Oddities) -> tuple[Fit, Fit]:
    rng = np.random.default_rng([wearer.space, wearer.seed, 31])
    fit = draw_fit(rng, wearer, look)
    # a look that mixes webcams and headsets is seen through its headsets here: calibrations are made under one
    while not fit.fitting.headset and look != "frontal":
        fit = draw_fit(rng, wearer, look)
    if oddities.glasses:
        fit = replace(fit, sensor=replace(fit.sensor, spectacles=float(rng.uniform(0.0, 0.9))))
    return fit, put_on_again(rng, fit)


def _render_take(  # noqa: PLR0917 - all that a take depends on
    stage: Stage, dressed: DressedWearer, fit: Fit, part: _Part, config: TakesConfig, rng: np.random.Generator
) -> Take:
    times_s_T = np.arange(round(part.seconds * config.rate_hz), dtype=np.float64) / config.rate_hz
    if part.fitting and part.cue.name == "free":
        values_TE = perform_freely(rng, times_s_T)
    else:
        values_TE = perform_cue(rng, dressed.wearer, part.cue, times_s_T, Manner.of(config.sloppy))
    first, last = part.phase
    sway, period_s, start = rng.uniform(0.0, 0.06), rng.uniform(0.8, 3.0), rng.uniform(0.0, 6.28)
    phase_T = first + (last - first) * times_s_T / part.seconds
    phase_T = phase_T + sway * np.sin(2 * np.pi * times_s_T / period_s + start)
    images: tuple[list[bytes], ...] = ([], [], [])
    gaze_T4 = np.empty((len(times_s_T), 4), np.float32)
    for row, values_E in enumerate(values_TE):
        crops = stage.picture(dressed, fit, values_E, float(phase_T[row]), rng)
        for camera, crop_HW in enumerate(crops):
            images[camera].append(crop_HW.tobytes())
        gaze_T4[row] = gaze_degrees(dressed.wearer, values_E)
    return Take(
        cue=part.cue.name,
        encoding=Encoding.GRAY8,
        t_ns=np.round((part.start_s + times_s_T) * 1e9).astype(np.int64),
        images={camera: tuple(images[camera]) for camera in Camera},
        size_px=(CROP_SIZE_PX, CROP_SIZE_PX),
        values_TE=values_TE,
        gaze_T4=gaze_T4,
    )


def _claim(folder: Path, config: TakesConfig, wearer: Wearer, oddities: Oddities, rig_sha256: str) -> None:
    """Say in the folder what its takes are rendered from; raises DatasetError where that is something else already."""
    own = {name: value for name, value in config.to_json().items() if name not in ("wearers", "seed")}
    document = {
        "format": "mien-wearer-takes",
        "config": {**own, "seed": wearer.seed},
        "rig_sha256": rig_sha256,
        "oddities": asdict(oddities),
        "wearer": wearer.summary(),
    }
    path = folder / WEARER_FILE
    if path.is_file():
        found = json.loads(path.read_text())
        for name in ("config", "rig_sha256"):
            if found.get(name) != document[name]:
                raise DatasetError(
                    f"{folder.name} should hold takes with {name} {document[name]!r}. Found {found.get(name)!r}. "
                    "Choose another folder, or remove the old takes."
                )
        return
    write_whole(path, json.dumps(document, indent=1).encode())


def wearer_folder(out: Path, seed: int) -> Path:
    """Where the takes of a wearer's seed lie."""
    return out / f"wearer_{seed:05d}"


def render_takes(rig_path: Path, config: TakesConfig, out: Path, workers: int = 1) -> int:
    """Render the calibrations of all wearers to `out`, keeping takes that are there; gives how many were rendered."""
    done = tqdm(_work(rig_path, config, out, workers), total=config.wearers, unit="wearer", desc="render-takes")
    return sum(done)


def _work(rig_path: Path, config: TakesConfig, out: Path, workers: int) -> Iterator[int]:
    if workers <= 1 or config.wearers == 1:
        rig = load_rig(rig_path)
        stage, digest = Stage(rig), rig.digest()
        for index in range(config.wearers):
            yield render_calibration(stage, config, index, wearer_folder(out, config.seed + index), digest)
        return
    # spawned, and one BLAS thread each, for the reasons in render.py
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (rig_path,)) as pool:
        jobs = [pool.submit(_render_in_worker, config, index, out) for index in range(config.wearers)]
        for job in as_completed(jobs):
            yield job.result()


_worker_stage: tuple[Stage, str] | None = None


def _start_worker(rig_path: Path) -> None:
    global _worker_stage  # noqa: PLW0603 - a pool gives its workers no other place to keep the studied rig
    cv2.setNumThreads(1)
    rig = load_rig(rig_path)
    _worker_stage = Stage(rig), rig.digest()


def _render_in_worker(config: TakesConfig, index: int, out: Path) -> int:
    assert _worker_stage is not None
    stage, digest = _worker_stage
    return render_calibration(stage, config, index, wearer_folder(out, config.seed + index), digest)


def take_pixels(take: Take, camera: Camera) -> NDArray[np.uint8]:
    """The pictures of a rendered take, uint8 [T, H, W]."""
    return np.stack([np.frombuffer(image, np.uint8).reshape(take.size_px) for image in take.images[camera]])
