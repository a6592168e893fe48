"""Wearers that a small network can learn in seconds: discs and bars whose place and size are the values.

Not faces: they prove that training, judging and resuming work, nothing about accuracy on people.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from model_export.contract import EU_COUNT, EU_INDEX
from model_export.points import EYE_POINTS, MOUTH_POINTS

MOVING = ("eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight")
"""The EUs that these wearers show; the others stay 0."""


def _eye(rng: np.random.Generator, blink: float, yaw_deg: float, pitch_deg: float, skin: int) -> NDArray[Any]:
    """A dark pupil where the eye looks, below a lid that comes down; the wearer's left is at the right."""
    image_HW = np.full((128, 128), skin, np.uint8)
    cv2.circle(image_HW, (64 + round(yaw_deg * 1.5), 64 - round(pitch_deg * 1.5)), 14, 20, cv2.FILLED)
    cv2.rectangle(image_HW, (0, 0), (127, round(20 + 70 * blink)), skin - 40, cv2.FILLED)
    return cv2.add(image_HW, rng.normal(0, 3, image_HW.shape).astype(np.int16), dtype=cv2.CV_8U)


def _mouth(rng: np.random.Generator, values: dict[str, float], skin: int) -> NDArray[Any]:
    """A dark opening that grows with the jaw and moves sideways, and two bright corners that rise."""
    image_HW = np.full((128, 128), skin, np.uint8)
    across = 64 + round(30 * (values["mouthLeft"] - values["mouthRight"]))
    cv2.ellipse(image_HW, (across, 80), (26, 3 + round(28 * values["jawOpen"])), 0, 0, 360, 25, cv2.FILLED)
    for side, column in (("Left", 112), ("Right", 16)):
        cv2.circle(image_HW, (column, 90 - round(60 * values[f"mouthSmile{side}"])), 9, 245, cv2.FILLED)
    return cv2.add(image_HW, rng.normal(0, 3, image_HW.shape).astype(np.int16), dtype=cv2.CV_8U)


def _points(values_TE: NDArray[Any], gaze_T4: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The pupil and the smile's corners; all other points stay in the middle."""
    frames = len(values_TE)
    eye_points_T2K4 = np.zeros((frames, 2, EYE_POINTS, 4), np.float16)
    eye_points_T2K4[:, :, -1, :2] = gaze_T4.reshape(frames, 2, 2) * (1.5, -1.5)
    mouth_points_TK4 = np.zeros((frames, MOUTH_POINTS, 4), np.float16)
    for side, first, column in (("Left", 0, 48), ("Right", MOUTH_POINTS // 2, -48)):
        mouth_points_TK4[:, first, 0] = column
        mouth_points_TK4[:, first, 1] = 26 - 60 * values_TE[:, EU_INDEX[f"mouthSmile{side}"]]
    return {"eye_points_T2K4": eye_points_T2K4, "mouth_points_TK4": mouth_points_TK4}


def write_wearer(folder: Path, wearer_seed: int, frames: int) -> dict[str, object]:
    """Writes one shard and gives its line of dataset.json."""
    rng = np.random.default_rng(wearer_seed)
    skin = int(rng.integers(90, 190))
    values_TE = np.zeros((frames, EU_COUNT), np.float32)
    for name in MOVING:
        values_TE[:, EU_INDEX[name]] = rng.uniform(0, 1, frames) * (rng.random(frames) < 0.6)
    gaze_T4 = rng.uniform(-15, 15, (frames, 4)).astype(np.float32)
    crops: dict[str, list[NDArray[Any]]] = {"left_eye": [], "right_eye": [], "mouth": []}
    for values_E, gaze_4 in zip(values_TE, gaze_T4, strict=True):
        values = {name: float(values_E[EU_INDEX[name]]) for name in MOVING}
        crops["left_eye"].append(_eye(rng, values["eyeBlinkLeft"], gaze_4[0], gaze_4[1], skin))
        crops["right_eye"].append(_eye(rng, values["eyeBlinkRight"], gaze_4[2], gaze_4[3], skin))
        crops["mouth"].append(_mouth(rng, values, skin))
    packed = save(
        {
            **{name: np.stack(images) for name, images in crops.items()},
            "values_TE": values_TE,
            "gaze_T4": gaze_T4,
            "t_ns": np.arange(frames, dtype=np.int64) * 11_111_111,
            "fitting_T": np.zeros(frames, np.int32),
            **_points(values_TE, gaze_T4),
            "rest_eyes": np.full((2, 1, 128, 128), skin, np.uint8),
            "rest_mouth": np.full((1, 128, 128), skin, np.uint8),
        },
        {"format": "mien-shard", "version": "2", "config": "{}", "wearer": "{}", "seed": str(wearer_seed)},
    )
    file = f"wearer_{wearer_seed:05d}.safetensors"
    (folder / file).write_bytes(packed)
    return {
        "file": file,
        "sha256": hashlib.sha256(packed).hexdigest(),
        "frames": frames,
        "wearer_seed": wearer_seed,
    }


def write_dataset(folder: Path, wearers: int, frames: int) -> Path:
    """Writes `wearers` shards of `frames` frame sets and their dataset.json; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [write_wearer(folder, seed, frames) for seed in range(1, wearers + 1)]
    dataset = {"format": "mien-dataset", "version": 1, "config": {"drawn": "discs"}, "rig_sha256": "", "shards": shards}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder
