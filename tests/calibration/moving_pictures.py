"""A face made of speckles that warps, so that movement is measured without a rig: takes of three cameras with known courses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract.cues import Cue, cue_by_name
from model_export.contract.expression_units import EU_COUNT, EU_INDEX
from model_export.contract.frames import CROP_SIZE_PX, Camera
from model_export.contract.take import Encoding, Take

Pictures = NDArray[np.uint8]
SIZE = CROP_SIZE_PX
DOWN_HW, RIGHT_HW = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


@cache
def speckles(seed: int, blur: float = 2.0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    fine_HW = np.asarray(cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), blur))
    grey_HW = fine_HW + 2 * np.asarray(cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), 8))
    return np.asarray(np.clip(110 + 38 * grey_HW / grey_HW.std(), 10, 245), np.uint8)


@cache
def bump(right: float, down: float, wide: float) -> NDArray[np.float32]:
    return np.asarray(np.exp(-((RIGHT_HW - right) ** 2 + (DOWN_HW - down) ** 2) / (2 * wide**2)), np.float32)


def moved(
    picture_HW: NDArray[np.uint8], right_HW: NDArray[np.float32] | float, down_HW: NDArray[np.float32] | float
) -> NDArray[np.uint8]:
    """The picture with what was at x now at x + (right, down), to first order."""
    from_right, from_down = (RIGHT_HW - right_HW).astype(np.float32), (DOWN_HW - down_HW).astype(np.float32)
    return np.asarray(
        cv2.remap(picture_HW, from_right, from_down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8
    )


CORNERS = (28.0, 100.0)
"""Columns of the wearer's right and left corner of the mouth in the picture."""


@cache
def _mouth(cue: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    none = np.zeros((SIZE, SIZE), np.float32)
    corners = bump(CORNERS[0], 60, 12) + bump(CORNERS[1], 60, 12)
    apart = bump(CORNERS[1], 60, 12) - bump(CORNERS[0], 60, 12)
    return {
        "smile": (2.5 * apart, -4.0 * corners),
        "frown": (none, 3.5 * corners),
        "jaw_open": (none, 7.0 * bump(64, 105, 18)),
        "pucker": (-4.0 * apart, none),
    }.get(cue, (none, none))


@cache
def _eye(cue: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    none = np.zeros((SIZE, SIZE), np.float32)
    brow = bump(40, 26, 14) + bump(80, 26, 14)
    return {"brows_up": (none, -4.0 * brow), "brows_down": (none, 3.5 * brow)}.get(cue, (none, none))


@dataclass
class Person:
    """Who performs: skin, and what can be disturbed."""

    seed: int = 0
    noise: float = 1.5
    rate_hz: float = 15.0
    unable: tuple[str, ...] = ()
    performs: dict[str, str] = field(default_factory=dict)
    """Another cue performed instead."""
    spoil: Callable[[str, Camera, int, NDArray[np.uint8]], NDArray[np.uint8] | None] | None = None
    """(cue, camera, frame, picture) to what the camera gives; None: no frame."""
    cameras: tuple[Camera, ...] = tuple(Camera)

    def take(self, name: str, start_s: float = 1.0) -> Take:
        """The take of a cue: two trapezoids, eyes that blink once in takes of the mouth, a slow slip of a pixel."""
        cue = cue_by_name(name)
        rng = np.random.default_rng([self.seed, *name.encode()])
        count = round(cue.seconds * self.rate_hz)
        times_s_T = np.arange(count) / self.rate_hz
        course_T = trapezoids(cue, times_s_T, (1.0, 0.8))
        performed = self.performs.get(name, name)
        if name in self.unable:
            course_T = np.zeros(count)
        blink_T = np.zeros(count)
        if name not in ("rest", "eyes_closed", "look", "brows_up", "brows_down"):
            blink_T = np.exp(-(((times_s_T - 1.5) / 0.07) ** 2))
        if performed == "eyes_closed":
            blink_T = course_T
        images: dict[Camera, tuple[bytes, ...]] = {}
        for camera in self.cameras:
            frames = [
                self._frame(camera, cue, performed, (course_T[t], blink_T[t]), times_s_T[t], rng) for t in range(count)
            ]
            given = [
                self.spoil(name, camera, t, frame) if self.spoil is not None else frame
                for t, frame in enumerate(frames)
            ]
            images[camera] = tuple(b"" if frame is None else frame.tobytes() for frame in given)
        values_TE = np.zeros((count, EU_COUNT), np.float32)
        for eu in cue_by_name(performed).eus:
            values_TE[:, EU_INDEX[eu]] = course_T
        t_ns = np.round((start_s + times_s_T) * 1e9).astype(np.int64)
        gaze_T4 = np.zeros((count, 4), np.float32)
        return Take(name, Encoding.GRAY8, t_ns, images, (SIZE, SIZE), values_TE, gaze_T4)

    def _frame(  # noqa: PLR0917 - all that a frame depends on
        self,
        camera: Camera,
        cue: Cue,
        performed: str,
        moves: tuple[float, float],
        time_s: float,
        rng: np.random.Generator,
    ) -> NDArray[np.uint8]:
        course, blink = moves
        right_HW, down_HW = _mouth(performed) if camera is Camera.MOUTH else _eye(performed)
        slip = 0.4 * np.sin(time_s)
        picture_HW = moved(speckles(10 * self.seed + int(camera)), course * right_HW + slip, course * down_HW - slip)
        grey_HW = picture_HW.astype(np.float32)
        if camera is not Camera.MOUTH:
            eye_HW = bump(64, 64, 11)
            if cue.dots_deg:
                place = min(int(time_s / cue.seconds * len(cue.dots_deg)), len(cue.dots_deg) - 1)
                yaw, pitch = cue.dots_deg[place]
                eye_HW = bump(64 + 0.5 * yaw, 64 - 0.4 * pitch, 11)
            open_HW = np.float32(1 - blink) * eye_HW
            grey_HW = grey_HW * (1 - open_HW) + 20 * open_HW
        return np.clip(grey_HW + rng.normal(0, self.noise, grey_HW.shape), 0, 255).astype(np.uint8)


def trapezoids(cue: Cue, times_s_T: NDArray[np.float64], sizes: tuple[float, float]) -> NDArray[np.float64]:
    """Repetitions of a cue: up in 0.25 s, held, down in 0.25 s."""
    course_T = np.zeros(len(times_s_T))
    if not cue.eus:
        return course_T
    slot_s = cue.seconds / cue.repetitions
    for number in range(cue.repetitions):
        since = times_s_T - number * slot_s
        up, down = np.clip((since - 0.25) / 0.25, 0, 1), np.clip((since - 1.05) / 0.25, 0, 1)
        course_T += sizes[number % 2] * (up - down)
    return course_T


CALIBRATION = ("rest", "eyes_closed", "brows_up", "brows_down", "look", "jaw_open", "smile", "frown", "pucker")


def calibration(person: Person, names: tuple[str, ...] = CALIBRATION) -> list[Take]:
    return [person.take(name, 1.0 + 10.0 * number) for number, name in enumerate(names)]
