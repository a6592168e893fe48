"""The cameras of a fitting: from a frontal webcam to the under-headset cameras a few centimetres from eye and mouth.

Every picture is framed like the canonical crop (an eye crop spans 5.3 cm around the eyeball's centre, a mouth crop 8.2 cm
around a point 0.4 cm below the middle of the lips), upright, not mirrored, with a little jitter.
Camera space: x right, y down, z forward.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SPAN_CM: Final = (5.3, 5.3, 8.2)
"""Width of the canonical crop of each camera at its target."""
MOUTH_DROP_CM: Final = 0.4


@dataclass(frozen=True, slots=True)
class Fitting:
    """How one headset (or webcam) sits: for each camera a place, and the error of its framing."""

    headset: bool
    position_C3: NDArray[np.float32]
    """Camera minus target in head space, cm."""
    roll_C: NDArray[np.float32]
    """Radians."""
    scale_C: NDArray[np.float32]
    """Share of the canonical span that the picture spans."""
    shift_C2: NDArray[np.float32]
    """Framing error as a share of the picture, right and down."""
    surface_C: NDArray[np.float32]
    """How far in front of the eyeball's centre the eye crop's target lies, cm."""
    follow_3: NDArray[np.float32]
    """Share of the lips' own movement that the mouth crop follows: near 1 in crops cut by a face tracker, 0 in a
    headset. Sideways it varies, as trackers differ in what they call the middle of the lips."""
    slip_3: NDArray[np.float32]
    """Slip of the headset over this fitting from first to last frame, cm."""
    slip_turn_rad: float
    infrared: bool


@dataclass(frozen=True, slots=True)
class View:
    """A pinhole camera."""

    position_3: NDArray[np.float32]
    """Head space, cm."""
    rotation_33: NDArray[np.float32]
    """Rows: the camera's right, down and forward in head space."""
    focal_px: float
    centre_px: tuple[float, float]
    size_px: int

    def to_camera(self, points_N3: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points in camera space."""
        moved: NDArray[np.float32] = (points_N3 - self.position_3) @ np.ascontiguousarray(self.rotation_33.T)
        return moved

    def project(self, points_N3: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels (column, row), float32 [N, 2]."""
        seen_N3 = self.to_camera(points_N3)
        pixels: NDArray[np.float32] = self.focal_px * seen_N3[:, :2] / seen_N3[:, 2:] + np.array(
            self.centre_px, np.float32
        )
        return pixels


def draw_fitting(rng: np.random.Generator, look: str) -> Fitting:
    """A fitting of a look: "frontal", "headset", or "train", "near", "far", which mix both half and half."""
    headset = {"frontal": False, "headset": True}.get(look, bool(rng.random() < 0.5))
    far = look == "far"
    wide = 1.5 if far else 1.0
    uniform = rng.uniform
    if headset:
        position_C3 = _headset_positions(rng, wide)
        scale_C = np.concatenate([[uniform(0.88, 1.16)] * 2, [uniform(0.88, 1.2)]]) * rng.normal(1.0, 0.03, 3)
        shift_C2 = rng.normal(0.0, 0.035 * wide, (3, 2))
        roll_C = rng.normal(0.0, np.radians(4.0 * wide), 3)
        surface = rng.uniform(0.8, 1.5)
    else:
        yaw, pitch = np.radians(np.clip(rng.normal(0.0, 9.0 * wide, 2), -28, 28))
        distance = uniform(35.0, 90.0)
        direction_3 = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        position_C3 = np.tile(direction_3 * distance, (3, 1))
        scale_C = uniform(0.93, 1.08) * rng.normal(1.0, 0.025, 3)
        shift_C2 = rng.normal(0.0, 0.022 * wide, (3, 2))
        roll_C = np.full(3, rng.normal(0.0, np.radians(4.0))) + rng.normal(0.0, np.radians(1.0), 3)
        surface = rng.uniform(0.3, 1.3)
    return Fitting(
        headset,
        position_C3.astype(np.float32),
        roll_C.astype(np.float32),
        scale_C.astype(np.float32),
        shift_C2.astype(np.float32),
        np.full(3, surface, np.float32),
        np.zeros(3, np.float32) if headset else np.array([uniform(0.0, 1.05), uniform(0.75, 1.05), 0.0], np.float32),
        rng.normal(0.0, 0.12 * wide if headset else 0.05, 3).astype(np.float32),
        float(rng.normal(0.0, np.radians(1.5 * wide))),
        bool(rng.random() < (0.85 if headset else 0.2)),
    )


def _headset_positions(rng: np.random.Generator, wide: float) -> NDArray[np.float64]:
    """Mirrored eye cameras anywhere in front of the eye, below, outward or inward, and a mouth camera below or before it."""
    uniform = rng.uniform
    near = uniform(2.3, 6.0)
    side, height = np.radians(uniform(-22, 48) * wide**0.5), np.radians(uniform(-38, 20) * wide**0.5)
    position_C3 = np.empty((3, 3))
    for camera, outward in ((0, 1.0), (1, -1.0)):
        away = side + rng.normal(0.0, 0.04)
        rise = height + rng.normal(0.0, 0.04)
        direction_3 = np.array([outward * np.sin(away) * np.cos(rise), np.sin(rise), np.cos(away) * np.cos(rise)])
        position_C3[camera] = direction_3 * near * rng.normal(1.0, 0.03)
    yaw = np.radians(rng.normal(0.0, 10.0))
    pitch = np.radians(uniform(-38, 25) * wide**0.5)
    direction_3 = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    position_C3[2] = direction_3 * uniform(3.6, 10.0)
    return position_C3


def place_camera(fitting: Fitting, camera: int, target_3: NDArray[np.float32], phase: float, size_px: int) -> View:
    """The view of a camera on its target (eyeball centre or middle of the lips), `phase` 0..1 through the fitting's slip."""
    focus_3 = target_3.astype(np.float64).copy()
    if camera < 2:
        focus_3[2] += fitting.surface_C[camera]
    else:
        focus_3[1] -= MOUTH_DROP_CM
    slip_3 = fitting.slip_3 * (phase - 0.5)
    position_3 = focus_3 + fitting.position_C3[camera]
    forward_3 = focus_3 - position_3
    distance = float(np.linalg.norm(forward_3))
    forward_3 /= distance
    right_3 = np.cross(forward_3, [0.0, 1.0, 0.0])
    right_3 /= np.linalg.norm(right_3)
    down_3 = np.cross(forward_3, right_3)
    roll = float(fitting.roll_C[camera]) + fitting.slip_turn_rad * (phase - 0.5)
    turned_right = np.cos(roll) * right_3 + np.sin(roll) * down_3
    turned_down = np.cos(roll) * down_3 - np.sin(roll) * right_3
    span_cm = SPAN_CM[camera] * float(fitting.scale_C[camera])
    focal_px = size_px * distance / span_cm
    shift_x, shift_y = fitting.shift_C2[camera]
    return View(
        (position_3 + slip_3).astype(np.float32),
        np.stack([turned_right, turned_down, forward_3]).astype(np.float32),
        focal_px,
        (size_px * (0.5 + float(shift_x)), size_px * (0.5 + float(shift_y))),
        size_px,
    )
