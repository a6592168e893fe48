"""A lively few seconds of one held-out wearer under a headset: every frame, a seamless loop, with exact labels.

Axes: T time, H W image, E expression units, 4 gaze angles.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_COUNT, EU_INDEX
from model_export.contract.frames import CROP_SIZE_PX
from model_export.faces.performance import Movement, evaluate, minimum_jerk, settle
from model_export.faces.render import Stage, draw_fit
from model_export.faces.shards import Rendered
from model_export.faces.wearer import HELD_OUT_SPACE, draw_wearer, gaze_degrees

_STORY: Final = (
    # names, sizes, start, onset, apex, offset: shares of the loop
    (("eyeBlinkLeft", "eyeBlinkRight"), (1.0, 1.0), 0.035, 0.016, 0.006, 0.030),
    (("browInnerUpLeft", "browInnerUpRight"), (0.8, 0.75), 0.07, 0.05, 0.05, 0.06),
    (
        ("browOuterUpLeft", "browOuterUpRight", "eyeWideLeft", "eyeWideRight"),
        (0.85, 0.9, 0.6, 0.6),
        0.07,
        0.05,
        0.05,
        0.06,
    ),
    (("mouthSmileLeft", "mouthSmileRight"), (0.9, 0.85), 0.19, 0.06, 0.08, 0.07),
    (
        ("cheekSquintLeft", "cheekSquintRight", "eyeSquintLeft", "eyeSquintRight"),
        (0.7, 0.7, 0.4, 0.4),
        0.20,
        0.06,
        0.07,
        0.07,
    ),
    (("eyeBlinkLeft", "eyeBlinkRight"), (1.0, 1.0), 0.375, 0.016, 0.006, 0.030),
    (("jawOpen",), (0.85,), 0.40, 0.06, 0.04, 0.06),
    (("mouthPucker",), (0.9,), 0.55, 0.05, 0.04, 0.05),
    (("mouthLeft",), (0.7,), 0.63, 0.04, 0.02, 0.04),
    (("browDownLeft", "browDownRight"), (0.8, 0.85), 0.60, 0.05, 0.06, 0.06),
    (("eyeBlinkLeft", "eyeBlinkRight"), (1.0, 1.0), 0.715, 0.016, 0.006, 0.030),
    (("jawOpen", "tongueOut"), (0.45, 0.9), 0.74, 0.06, 0.04, 0.06),
    (("eyeBlinkLeft",), (1.0,), 0.86, 0.025, 0.02, 0.03),
    (("mouthSmileLeft",), (0.6,), 0.85, 0.04, 0.02, 0.05),
)
_LOOKS_AT: Final = (
    # share of the loop, yaw share to the subject's left, pitch share
    (0.00, 0.0, 0.0),
    (0.10, 0.0, 0.45),
    (0.20, 0.0, 0.0),
    (0.28, 0.7, 0.05),
    (0.35, -0.75, 0.0),
    (0.41, 0.0, 0.0),
    (0.50, -0.5, -0.5),
    (0.58, 0.15, -0.2),
    (0.66, 0.6, 0.3),
    (0.73, 0.0, 0.0),
    (0.84, -0.25, 0.1),
    (0.92, 0.0, 0.0),
)


def story(rate_hz: float, length_s: float) -> NDArray[np.float32]:
    """EU values of the loop, float32 [T, 56]; first and following-last frame are at rest."""
    frames = round(rate_hz * length_s)
    times_s_T = np.arange(frames) / rate_hz
    movements = [
        Movement(
            tuple(EU_INDEX[name] for name in names),
            sizes,
            start * length_s,
            onset * length_s,
            apex * length_s,
            offset * length_s,
        )
        for names, sizes, start, onset, apex, offset in _STORY
    ]
    values_TE = evaluate(movements, times_s_T)
    way_T2 = np.zeros((frames, 2))
    for share, yaw, pitch in _LOOKS_AT:
        moved_T = minimum_jerk((times_s_T - share * length_s) / 0.06)[:, None]
        way_T2 += moved_T * (np.array([yaw, pitch]) - way_T2)
    looks = np.zeros((frames, EU_COUNT))
    for side, outward in (("Left", 1.0), ("Right", -1.0)):
        for name, course_T in (
            ("Out", outward * way_T2[:, 0]),
            ("In", -outward * way_T2[:, 0]),
            ("Up", way_T2[:, 1]),
            ("Down", -way_T2[:, 1]),
        ):
            looks[:, EU_INDEX[f"eyeLook{name}{side}"]] = np.maximum(0.0, course_T)
        # the pupil breathes; its slow wave closes with the loop
        looks[:, EU_INDEX[f"pupilDilate{side}"]] = 0.35 - 0.2 * np.cos(2 * np.pi * times_s_T / length_s)
    return settle(np.maximum(values_TE, looks))


def render_sample(stage: Stage, seed: int = 7, rate_hz: float = 90.0, length_s: float = 4.0) -> Rendered:
    """The loop of held-out wearer `seed`, clear pictures of a headset's infrared cameras."""
    wearer = draw_wearer(seed, HELD_OUT_SPACE, len(stage.anatomy.identity_IP3))
    dressed = stage.dress(wearer)
    rng = np.random.default_rng([wearer.space, wearer.seed, 20])
    fit = draw_fit(rng, wearer, "headset")
    near, outward = 4.2, np.radians(14.0)
    down = np.radians(-12.0)
    position_C3 = np.array(
        [[side * np.sin(outward) * np.cos(down), np.sin(down), np.cos(outward) * np.cos(down)] for side in (1.0, -1.0)]
        + [[0.0, np.sin(np.radians(-16.0)), np.cos(np.radians(16.0))]]
    ) * np.array([[near], [near], [6.5]])
    fitting = replace(
        fit.fitting,
        position_C3=position_C3.astype(np.float32),
        roll_C=np.zeros(3, np.float32),
        scale_C=np.ones(3, np.float32),
        shift_C2=np.zeros((3, 2), np.float32),
        surface_C=np.full(3, 1.2, np.float32),
        slip_3=np.zeros(3, np.float32),
        slip_turn_rad=0.0,
        infrared=True,
    )
    sensor = replace(
        fit.sensor,
        render_px=152,
        level=0.3,
        gain_C=np.ones(3, np.float32),
        flicker=0.002,
        black=0.02,
        contrast=1.05,
        gamma=0.55,
        vignetting=0.15,
        distortion=0.0,
        blur_px=0.4,
        motion_px=0.0,
        noise=0.006,
        sharpen=0.0,
        jpeg_quality=0,
        rim=0.0,
        spectacles=-1.0,
        hair=-1.0,
    )
    look = replace(
        fit.look, pupil=0.015, lights_CL8=_ring(position_C3), ambient_up=0.3, ambient_down=0.2, gloss=0.12, wrap=0.3
    )
    fit = replace(fit, fitting=fitting, sensor=sensor, look=look)
    values_TE = story(rate_hz, length_s)
    frames = len(values_TE)
    pixels_CTHW = np.empty((3, frames, CROP_SIZE_PX, CROP_SIZE_PX), np.uint8)
    gaze_T4 = np.empty((frames, 4), np.float32)
    for row in range(frames):
        pixels_CTHW[:, row] = stage.picture(dressed, fit, values_TE[row], 0.5, rng)
        gaze_T4[row] = gaze_degrees(wearer, values_TE[row])
    t_ns = np.round(np.arange(frames) * 1e9 / rate_hz).astype(np.int64)
    return Rendered(
        pixels_CTHW[0], pixels_CTHW[1], pixels_CTHW[2], values_TE, gaze_T4, t_ns, np.zeros(frames, np.int32)
    )


def _ring(position_C3: NDArray[np.float64]) -> NDArray[np.float32]:
    """Four LEDs around each camera, and the lamp in their middle that lights the skin."""
    lights_CL8 = np.zeros((3, 10, 8), np.float32)
    for camera in range(3):
        distance = float(np.linalg.norm(position_C3[camera]))
        for led, (right, up) in enumerate(((0.9, 0.6), (-0.9, 0.6), (0.9, -0.6), (-0.9, -0.6))):
            place_3 = position_C3[camera] + np.array([right, up, 0.0])
            lights_CL8[camera, led] = (*place_3, 1.0, 0.2, distance, 0.0015, 1.0)
        lights_CL8[camera, 4] = (*(position_C3[camera] + np.array([0.4, 0.8, 0.0])), 1.0, 0.75, distance, 0.002, 2.0)
    return lights_CL8
