"""Renders datasets: wearers from a seed, each in several fittings, to shards of labelled frame sets.

A wearer is the unit of work: it depends on the configuration, the rig and its own seed alone, so the number of workers and
the order of work change nothing. Axes: T time, C camera, E expression units.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model_export.contract.expression_units import EU_COUNT
from model_export.contract.frames import CROP_SIZE_PX
from model_export.faces.anatomy import Anatomy, study
from model_export.faces.camera import Fitting, View, draw_fitting, place_camera
from model_export.faces.errors import ConfigError, DatasetError
from model_export.faces.image import Sensor, draw_sensor, form_image
from model_export.faces.landmarks import Landmarks, choose_landmarks, place_landmarks
from model_export.faces.look import Look, draw_look
from model_export.faces.performance import perform, rest_values
from model_export.faces.puppet import Pose, Puppet
from model_export.faces.rig import FaceRig, load_rig
from model_export.faces.shading import Painter
from model_export.faces.shards import (
    DATASET_FILE,
    SHARD_VERSION,
    Rendered,
    Supplement,
    file_digest,
    read_shard_metadata,
    write_shard,
    write_whole,
)
from model_export.faces.skin import Canvas, make_canvas, paint_skin
from model_export.faces.wearer import FAR_SPACE, HELD_OUT_SPACE, TRAIN_SPACE, Wearer, draw_wearer, gaze_degrees
from model_export.points import EYE_POINTS, MOUTH_POINTS

LOOKS: Final = ("train", "near", "far", "frontal", "headset")
SPACES: Final = {
    "train": TRAIN_SPACE,
    "near": HELD_OUT_SPACE,
    "frontal": HELD_OUT_SPACE,
    "headset": HELD_OUT_SPACE,
    "far": FAR_SPACE,
}
"""Seed space of each look: only "train" draws training wearers; "near" is the same kind of picture of wearers never trained on,
"frontal" and "headset" its halves, "far" lies outside what training draws."""
RENDERER_VERSION: Final = 1
"""Raised when the same configuration renders other pictures, so that old shards are not mixed with new ones."""


@dataclass(frozen=True, slots=True)
class RenderConfig:
    """What to render; equal configurations and rigs give equal bytes."""

    wearers: int = 520
    """How many wearers, each one shard."""
    frames: int = 96
    """Frame sets of each wearer."""
    seed: int = 0
    """First wearer's seed; wearer i has seed + i."""
    look: str = "train"
    """One of LOOKS."""
    fittings: int = 8
    """Fittings of each wearer: fresh cameras, light, sensor and performance."""
    stride_s: float = 0.35
    """Time between two frame sets of a fitting, s; long enough for the face to have changed."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("wearers", self.wearers, 1, 1_000_000),
            ("frames", self.frames, 1, 100_000),
            ("seed", self.seed, 0, 2**31),
            ("fittings", self.fittings, 1, self.frames),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} should lie in {low}..{high}. Found {value}.")
        if self.look not in LOOKS:
            raise ConfigError(f"look should be one of {', '.join(LOOKS)}. Found {self.look!r}.")
        if not 0.001 <= self.stride_s <= 10.0:
            raise ConfigError(f"stride_s should lie in 0.001..10. Found {self.stride_s}.")

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the renderer's version."""
        return {**asdict(self), "renderer": RENDERER_VERSION}


@dataclass(frozen=True, slots=True)
class Dataset:
    """What render_dataset made."""

    folder: Path
    frames: int
    rendered: int
    """Shards rendered now."""
    kept: int
    """Shards kept from before."""


class Stage:
    """A rig, studied once: renders any wearer of it. One a process."""

    def __init__(self, rig: FaceRig) -> None:
        self.anatomy: Anatomy = study(rig)
        eyes_23 = np.stack([self.anatomy.neutral_P3[eyeball].mean(axis=0) for eyeball in self.anatomy.eyeball_P])
        lips_3 = self.anatomy.neutral_P3[list(self.anatomy.lips_P)].mean(axis=0)
        self.canvas: Canvas = make_canvas(rig, eyes_23, lips_3)
        self._painters = [Painter(mesh) for mesh in self.anatomy.meshes_C]
        self._landmarks: Landmarks = choose_landmarks(self.anatomy)

    def dress(self, wearer: Wearer) -> "DressedWearer":
        """A wearer ready to be rendered."""
        return DressedWearer(wearer, Puppet(self.anatomy, wearer), paint_skin(self.canvas, wearer))

    def picture(
        self,
        dressed: "DressedWearer",
        fit: "Fit",
        values_E: NDArray[np.float32],
        phase: float,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """The three crops of one moment, `phase` 0..1 through the fitting's slip."""
        return self.shoot(dressed, fit, self.arrange(dressed, fit, values_E, phase), rng)

    def arrange(self, dressed: "DressedWearer", fit: "Fit", values_E: NDArray[np.float32], phase: float) -> "Scene":
        """The face and the cameras of one moment."""
        pose = dressed.puppet.pose(values_E)
        rest_lips_3 = dressed.puppet.rest.lips_3
        targets = (
            pose.eyes[0].shell_centre_3,
            pose.eyes[1].shell_centre_3,
            rest_lips_3 + fit.fitting.follow_3 * (pose.lips_3 - rest_lips_3),
        )
        views = [
            place_camera(fit.fitting, camera, target_3, phase, fit.sensor.render_px)
            for camera, target_3 in enumerate(targets)
        ]
        return Scene(pose, targets, (views[0], views[1], views[2]))

    def shoot(
        self, dressed: "DressedWearer", fit: "Fit", scene: "Scene", rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """The three crops of a scene."""
        crops = []
        for camera, (target_3, view) in enumerate(zip(scene.targets, scene.views, strict=True)):
            radiance_HW = self._painters[camera].paint(
                scene.pose, view, fit.look, camera, texture_SS5=dressed.texture_SS5, target_3=target_3
            )
            crops.append(form_image(radiance_HW, fit.sensor, camera, rng))
        return crops[0], crops[1], crops[2]

    def landmarks(
        self, dressed: "DressedWearer", fit: "Fit", scene: "Scene"
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Where points of the face are in the crops of a scene: eyes float16 [2, K, 4], mouth [K, 4] (faces.landmarks)."""
        placed = [
            place_landmarks(
                self._landmarks.points_C[camera],
                scene.pose,
                dressed.puppet.rest,
                view=scene.views[camera],
                distortion=fit.sensor.distortion,
                camera=camera,
            )
            for camera in range(3)
        ]
        return np.stack(placed[:2]), placed[2]


@dataclass(frozen=True, slots=True)
class DressedWearer:
    """A wearer with the costly parts made once."""

    wearer: Wearer
    puppet: Puppet
    texture_SS5: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment before it is painted: a posed face, what the cameras look at, and where they stand."""

    pose: Pose
    targets: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    views: tuple[View, View, View]


@dataclass(frozen=True, slots=True)
class Fit:
    """One fitting with its light and sensor."""

    fitting: Fitting
    look: Look
    sensor: Sensor


def draw_fit(rng: np.random.Generator, wearer: Wearer, look: str) -> Fit:
    """A fitting of a wearer with light and sensor."""
    fitting = draw_fitting(rng, look)
    return Fit(fitting, draw_look(rng, wearer, fitting), draw_sensor(rng, fitting, look == "far"))


def render_wearer(stage: Stage, config: RenderConfig, index: int) -> tuple[Wearer, Rendered, Supplement]:
    """All frame sets of the configuration's wearer `index`, and what is known of them beside the labels."""
    wearer = draw_wearer(config.seed + index, SPACES[config.look], len(stage.anatomy.identity_IP3))
    dressed = stage.dress(wearer)
    frames = config.frames
    pixels_CTHW = np.empty((3, frames, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
    values_TE = np.empty((frames, EU_COUNT), np.float32)
    gaze_T4 = np.empty((frames, 4), np.float32)
    t_ns = np.empty(frames, np.int64)
    fitting_T = np.empty(frames, np.int32)
    eye_points_T2K4 = np.empty((frames, 2, EYE_POINTS, 4), np.float16)
    mouth_points_TK4 = np.empty((frames, MOUTH_POINTS, 4), np.float16)
    rest_CFHW = np.empty((3, config.fittings, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
    start_ns = 0
    for number, rows in enumerate(np.array_split(np.arange(frames), config.fittings)):
        rng = np.random.default_rng([wearer.space, wearer.seed, 10, number])
        fit = draw_fit(rng, wearer, config.look)
        times_s_T = np.arange(len(rows), dtype=np.float64) * config.stride_s
        performed_TE = perform(rng, times_s_T)
        for place, row in enumerate(rows):
            phase = place / max(1, len(rows) - 1)
            scene = stage.arrange(dressed, fit, performed_TE[place], phase)
            pixels_CTHW[:, row] = stage.shoot(dressed, fit, scene, rng)
            eye_points_T2K4[row], mouth_points_TK4[row] = stage.landmarks(dressed, fit, scene)
            values_TE[row] = performed_TE[place]
            gaze_T4[row] = gaze_degrees(wearer, performed_TE[place])
            t_ns[row] = start_ns + round(float(times_s_T[place]) * 1e9)
            fitting_T[row] = number
        start_ns = int(t_ns[rows[-1]]) + 2_000_000_000
        # drawn from a generator of its own: a rest picture more changes no other picture
        rest_rng = np.random.default_rng([wearer.space, wearer.seed, 11, number])
        rest_CFHW[:, number] = stage.picture(dressed, fit, rest_values(rest_rng), rest_rng.uniform(), rest_rng)
    rendered = Rendered(pixels_CTHW[0], pixels_CTHW[1], pixels_CTHW[2], values_TE, gaze_T4, t_ns, fitting_T)
    return wearer, rendered, Supplement(eye_points_T2K4, mouth_points_TK4, rest_CFHW[:2], rest_CFHW[2])


def shard_name(index: int) -> str:
    """File name of wearer `index`."""
    return f"wearer_{index:05d}.safetensors"


def render_dataset(rig_path: Path, config: RenderConfig, out: Path, workers: int = 1) -> Dataset:
    """Render all wearers to `out`, keeping shards that are already there.

    Raises DatasetError, naming the difference, when `out` holds shards of another configuration or rig.
    """
    rig_sha256 = load_rig(rig_path).digest()
    out.mkdir(parents=True, exist_ok=True)
    kept = {index for index in range(config.wearers) if _is_done(out / shard_name(index), config, rig_sha256)}
    _refuse_strangers(out, config)
    (out / DATASET_FILE).unlink(missing_ok=True)
    missing = [index for index in range(config.wearers) if index not in kept]
    for _ in tqdm(
        _work(rig_path, rig_sha256, config, out, missing=missing, workers=workers),
        total=config.wearers,
        initial=len(kept),
        unit="wearer",
        desc="render",
    ):
        pass
    shards = [
        {
            "file": shard_name(index),
            "sha256": file_digest(out / shard_name(index)),
            "frames": config.frames,
            "wearer_seed": config.seed + index,
        }
        for index in range(config.wearers)
    ]
    document = {
        "format": "mien-dataset",
        "version": 1,
        "config": config.to_json(),
        "rig_sha256": rig_sha256,
        "shards": shards,
    }
    write_whole(out / DATASET_FILE, json.dumps(document, indent=1).encode())
    return Dataset(out, config.wearers * config.frames, len(missing), len(kept))


def _is_done(path: Path, config: RenderConfig, rig_sha256: str) -> bool:
    if not path.is_file():
        return False
    metadata = read_shard_metadata(path)
    found = json.loads(metadata["config"])
    for name, value in config.to_json().items():
        if name != "wearers" and found.get(name) != value:
            raise DatasetError(
                f"{path.name} should have been rendered with {name} = {value!r}. Found {found.get(name)!r}. "
                "Choose another folder, or remove the old shards."
            )
    if metadata["rig_sha256"] != rig_sha256:
        raise DatasetError(
            f"{path.name} should have been rendered from rig {rig_sha256[:12]}. Found {metadata['rig_sha256'][:12]}. "
            "Choose another folder, or remove the old shards."
        )
    return True


def _refuse_strangers(out: Path, config: RenderConfig) -> None:
    expected = {shard_name(index) for index in range(config.wearers)}
    strangers = sorted(path.name for path in out.glob("wearer_*.safetensors") if path.name not in expected)
    if strangers:
        raise DatasetError(
            f"the folder should hold the shards of {config.wearers} wearers. Found also {strangers[0]}. "
            "Choose another folder, or ask for at least as many wearers."
        )


def _work(
    rig_path: Path, rig_sha256: str, config: RenderConfig, out: Path, *, missing: list[int], workers: int
) -> Iterator[int]:
    if workers <= 1 or len(missing) <= 1:
        stage = Stage(load_rig(rig_path))
        for index in missing:
            yield _render_shard(stage, rig_sha256, config, out, index)
        return
    # spawn: forked children of a process with OpenCV or BLAS threads may hang
    context = multiprocessing.get_context("spawn")
    # BLAS reads this when a child imports numpy; threads of several workers would fight for the cores
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with ProcessPoolExecutor(workers, context, _start_worker, (rig_path,)) as pool:
        jobs = [pool.submit(_render_in_worker, rig_sha256, config, out, index) for index in missing]
        for job in as_completed(jobs):
            yield job.result()


_worker_stage: Stage | None = None


def _start_worker(rig_path: Path) -> None:
    global _worker_stage  # noqa: PLW0603 - a pool gives its workers no other place to keep the studied rig
    cv2.setNumThreads(1)
    _worker_stage = Stage(load_rig(rig_path))


def _render_in_worker(rig_sha256: str, config: RenderConfig, out: Path, index: int) -> int:
    assert _worker_stage is not None
    return _render_shard(_worker_stage, rig_sha256, config, out, index)


def _render_shard(stage: Stage, rig_sha256: str, config: RenderConfig, out: Path, index: int) -> int:
    wearer, rendered, supplement = render_wearer(stage, config, index)
    metadata = {
        "format": "mien-shard",
        "version": SHARD_VERSION,
        "config": json.dumps(config.to_json(), sort_keys=True),
        "wearer": json.dumps(wearer.summary(), sort_keys=True),
        "seed": str(wearer.seed),
        "rig_sha256": rig_sha256,
    }
    write_shard(out / shard_name(index), rendered, supplement, metadata)
    return index
