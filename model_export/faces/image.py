"""Image formation: radiance to the grey picture that a sensor, a codec and a crop leave of it.

Exposure, vignetting, lens distortion and crop in one warp, defocus and motion blur, shot and read noise, gamma, over-exposure,
sharpening, low resolution, JPEG. Parameters belong to a fitting; noise is drawn for each frame.
Axes: H W image, C camera.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract.frames import CROP_SIZE_PX
from model_export.faces.camera import Fitting


@dataclass(frozen=True, slots=True)
class Sensor:
    """What happens between the light and the crop, for the cameras of one fitting."""

    render_px: int
    """Size at which the picture is rendered; below the crop's size for cameras of low resolution."""
    level: float
    """Grey (linear) that the picture's mean is exposed to."""
    gain_C: NDArray[np.float32]
    flicker: float
    """Spread of exposure from frame to frame."""
    black: float
    contrast: float
    gamma: float
    vignetting: float
    distortion: float
    """Radial term of the lens: share by which the corner is pulled in."""
    blur_px: float
    motion_px: float
    motion_angle: float
    noise: float
    noise_grain: bool
    """Noise of neighbouring pixels goes together, as after a codec or a demosaicer."""
    sharpen: float
    jpeg_quality: int
    """0: none."""
    rim: float
    """Dark frame of a headset or glasses: share of the picture it covers at an edge; 0: none."""
    rim_angle: float
    spectacles: float
    """Brightness of a spectacle rim across the eye pictures; negative: none."""
    spectacles_shape: tuple[float, float, float]
    hair: float
    """Brightness of loose hair over the picture; negative: none."""
    hair_seed: int


def draw_sensor(rng: np.random.Generator, fitting: Fitting, far: bool) -> Sensor:
    """A sensor for a fitting."""
    uniform = rng.uniform
    poor = 0.55 if far else 0.35
    soft = rng.random() < poor
    return Sensor(
        render_px=int(rng.choice([72, 88, 104]) if soft else rng.choice([112, 128, 144], p=[0.3, 0.5, 0.2])),
        level=uniform(0.08, 0.55) if far else uniform(0.13, 0.46),
        gain_C=np.exp(rng.normal(0.0, 0.12, 3)).astype(np.float32),
        flicker=uniform(0.0, 0.04),
        black=uniform(0.0, 0.12) if rng.random() < 0.4 else 0.0,
        contrast=uniform(0.35, 1.0) if rng.random() < 0.35 else uniform(0.85, 1.25),
        gamma=uniform(0.4, 0.7) if rng.random() < 0.75 else uniform(0.7, 1.0),
        vignetting=uniform(0.0, 0.6) if fitting.headset else uniform(0.0, 0.12),
        distortion=uniform(-0.12, 0.05) if fitting.headset else uniform(-0.02, 0.02),
        blur_px=uniform(0.8, 2.6 if far else 2.0) if soft else uniform(0.0, 0.9),
        motion_px=uniform(1.0, 4.0) if rng.random() < 0.12 else 0.0,
        motion_angle=uniform(0.0, np.pi),
        noise=uniform(0.0, 0.035) if rng.random() < 0.3 else uniform(0.0, 0.012),
        noise_grain=bool(rng.random() < 0.4),
        sharpen=uniform(0.2, 1.2) if rng.random() < 0.2 else 0.0,
        jpeg_quality=int(rng.integers(25, 95)) if rng.random() < 0.4 else 0,
        rim=uniform(0.02, 0.16) if fitting.headset and rng.random() < 0.3 else 0.0,
        rim_angle=uniform(0.0, 2 * np.pi),
        spectacles=uniform(0.0, 0.9) if not fitting.headset and rng.random() < 0.12 else -1.0,
        spectacles_shape=(uniform(2.0, 2.7), uniform(1.5, 2.3), uniform(0.06, 0.25)),
        hair=uniform(0.02, 0.5) if rng.random() < (0.10 if not fitting.headset else 0.04) else -1.0,
        hair_seed=int(rng.integers(2**31)),
    )


def form_image(
    radiance_HW: NDArray[np.float32], sensor: Sensor, camera: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The canonical crop, uint8 [128, 128]."""
    size = CROP_SIZE_PX
    source = radiance_HW.shape[0]
    image = np.ascontiguousarray(radiance_HW)
    if sensor.distortion and abs(sensor.distortion) > 0.01:
        bend = _lens(source, size, round(sensor.distortion, 2))
        image = _single(cv2.remap(image, *bend, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT))
    elif source != size:
        way = cv2.INTER_AREA if source > size else cv2.INTER_CUBIC
        image = _single(cv2.resize(image, (size, size), interpolation=way))
    # cameras meter the middle of the picture
    metered = float(image[size // 8 : -size // 8, size // 8 : -size // 8].mean())
    exposure = sensor.level / max(0.02, metered) * float(sensor.gain_C[camera])
    exposure *= float(np.exp(rng.normal(0.0, sensor.flicker)))
    image = image * np.float32(exposure)
    if sensor.spectacles >= 0.0 and camera < 2:
        _draw_spectacles(image, sensor, camera)
    if sensor.hair >= 0.0:
        _draw_hair(image, sensor, camera)
    if sensor.vignetting:
        image *= _vignette(round(sensor.vignetting, 2))
    if sensor.rim:
        image *= _rim(sensor, camera)
    np.clip(image, 0.0, 1.3, out=image)
    if sensor.blur_px > 0.25:
        image = _single(cv2.GaussianBlur(image, (0, 0), sensor.blur_px))
    if sensor.motion_px:
        image = _single(cv2.filter2D(image, -1, _motion(sensor, rng)))
    np.clip(image, 0.0, 1.0, out=image)
    image = np.power(image, np.float32(sensor.gamma))
    if sensor.sharpen:
        image += np.float32(sensor.sharpen) * (image - _single(cv2.GaussianBlur(image, (0, 0), 1.2)))
    if sensor.noise:
        grain = rng.standard_normal((size, size), np.float32) * np.float32(sensor.noise)
        if sensor.noise_grain:
            grain = _single(cv2.GaussianBlur(grain, (3, 3), 0.7))
        image += grain
    middle = np.float32(image.mean())
    image = (image - middle) * np.float32(sensor.contrast) + middle
    image = image * np.float32(1.0 - sensor.black) + np.float32(sensor.black)
    pixels_HW: NDArray[np.uint8] = np.clip(image * np.float32(255.0) + np.float32(0.5), 0, 255).astype(np.uint8)
    if sensor.jpeg_quality:
        _, coded = cv2.imencode(".jpg", pixels_HW, [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg_quality])
        pixels_HW = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return pixels_HW


def _single(image: Any) -> NDArray[np.float32]:
    return np.asarray(image, np.float32)


_MAPS: dict[tuple[int, int, float], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
_VIGNETTES: dict[float, NDArray[np.float32]] = {}


def _radius_square(size: int) -> NDArray[np.float32]:
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    return np.asarray(axis[None, :] ** 2 + axis[:, None] ** 2, np.float32)


def _lens(source: int, size: int, distortion: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    key = (source, size, distortion)
    if key not in _MAPS:
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        bend = 1.0 + distortion * (_radius_square(size) - 0.5)
        columns = (axis[None, :] * bend + 1) / 2 * source - 0.5
        rows = (axis[:, None] * bend + 1) / 2 * source - 0.5
        _MAPS[key] = (columns.astype(np.float32), rows.astype(np.float32))
    return _MAPS[key]


def _vignette(strength: float) -> NDArray[np.float32]:
    if strength not in _VIGNETTES:
        _VIGNETTES[strength] = (1.0 - strength * 0.5 * _radius_square(CROP_SIZE_PX)).astype(np.float32)
    return _VIGNETTES[strength]


def _rim(sensor: Sensor, camera: int) -> NDArray[np.float32]:
    axis = (np.arange(CROP_SIZE_PX, dtype=np.float32) + 0.5) / CROP_SIZE_PX * 2 - 1
    sign = -1.0 if camera == 1 else 1.0
    toward = sign * axis[None, :] * np.cos(sensor.rim_angle) + axis[:, None] * np.sin(sensor.rim_angle)
    edge = 1.0 - 2.0 * sensor.rim
    return np.asarray(1.0 - 0.97 / (1.0 + np.exp(-(toward - edge) / 0.03)), np.float32)


def _draw_spectacles(image: NDArray[np.float32], sensor: Sensor, camera: int) -> None:
    """A rim around the eye, and a faint reflection on the glass."""
    half_width, half_height, thick = sensor.spectacles_shape
    pixels_cm = CROP_SIZE_PX / 5.3
    sign = -1.0 if camera == 1 else 1.0
    centre = ((CROP_SIZE_PX / 2 + sign * 0.15 * pixels_cm) * 8, (CROP_SIZE_PX / 2 + 0.15 * pixels_cm) * 8)
    axes = (half_width * pixels_cm * 8, half_height * pixels_cm * 8)
    middle, radii = (round(centre[0]), round(centre[1])), (round(axes[0]), round(axes[1]))
    width = max(1, round(thick * pixels_cm))
    cv2.ellipse(image, middle, radii, 0.0, 0.0, 360.0, sensor.spectacles, width, cv2.LINE_AA, 3)
    start = np.degrees(sensor.rim_angle)
    cv2.ellipse(
        image, middle, radii, 0.0, start, start + 40.0, sensor.spectacles + 0.5, max(1, width // 2), cv2.LINE_AA, 3
    )


def _draw_hair(image: NDArray[np.float32], sensor: Sensor, camera: int) -> None:
    """A bunch of loose hairs that stays where it is through a fitting."""
    rng = np.random.default_rng([sensor.hair_seed, camera])
    foot, head = rng.uniform(-0.2, 1.2), rng.uniform(-0.2, 1.2)
    for _ in range(int(rng.integers(2, 30))):
        share = np.linspace(-0.1, 1.1, 8)
        across = foot + (head - foot) * share + rng.normal(0.0, 0.06) + rng.normal(0.0, 0.1) * share * (1.0 - share)
        line = np.round(np.column_stack([across, share]) * CROP_SIZE_PX * 8).astype(np.int32)
        cv2.polylines(image, [line], False, float(sensor.hair * rng.uniform(0.5, 1.5)), 1, cv2.LINE_AA, 3)


def _motion(sensor: Sensor, rng: np.random.Generator) -> NDArray[np.float32]:
    length = sensor.motion_px * rng.uniform(0.2, 1.0)
    kernel = np.zeros((9, 9), np.float32)
    reach = np.array([np.cos(sensor.motion_angle), np.sin(sensor.motion_angle)]) * length / 2
    start, end = np.round((4 - reach) * 16).astype(int), np.round((4 + reach) * 16).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0, 1, cv2.LINE_AA, 4)
    total = float(kernel.sum())
    return kernel / total if total > 0 else np.eye(1, dtype=np.float32)
