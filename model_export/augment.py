"""What a headset may do to a crop: light, exposure, focus, sensor, slip; and crops that no one could read.

Axes: H W image. Everything happens on uint8 crops, a crop costs about 0.1 ms. The geometric part also mirrors, so that
mirroring is free.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, NO_SLIP, Slip

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Ranges from which each crop's changes are drawn."""

    shift: float = 0.06
    """Largest shift either way, share of the crop."""
    scale: float = 0.14
    """Largest change of scale, share."""
    rotation_deg: float = 8.0
    """Largest rotation."""
    spoiled: float = 0.06
    """Share of crops made unreadable, to teach the confidence."""
    photometric: float = 0.75
    """Share of crops whose skin, light, focus and noise are changed beyond what was rendered: real skin is never as smooth."""
    placed: float = 0.65
    """Share of crops cut where the face is, where that is known; the others teach what to say of faces that nobody placed."""
    compared: float = 0.7
    """Share of crops that the network sees beside a neutral map: of the face at rest, or partly of it as it moves."""
    moving: float = 0.55
    """Share of those whose neutral map is of the face as it moves, by any part: of other frames of the fitting."""
    least_own: float = 0.4
    """Smallest share of what sets such a face apart from the mean one that its neutral map keeps; the largest is all of it."""
    moved_px: float = 1.0
    """Standard deviation of what a headset moves from frame to frame of one fitting: px each way, degrees, per cent of scale."""
    placed_range: float = 0.6
    """Geometric ranges of a placed crop, share of the others': what a place is read wrongly by, and a headset slips in use."""

    def __post_init__(self) -> None:
        if not (
            0 <= self.shift < 0.5
            and 0 <= self.scale < 1
            and 0 <= self.spoiled < 1
            and 0 <= self.photometric <= 1
            and 0 <= self.placed <= 1
            and 0 <= self.placed_range <= 1
            and 0 <= self.compared <= 1
            and 0 <= self.moving <= 1
            and 0 <= self.least_own <= 1
            and self.moved_px >= 0
            and self.rotation_deg >= 0
        ):
            raise ValueError(f"Shares should lie in [0, 1), a shift below 0.5, angles from 0. Found {self}.")

    def scaled(self, share: float) -> "AugmentConfig":
        """The same with its geometric ranges multiplied; light and focus change as often, as many crops are spoiled."""
        return replace(self, shift=share * self.shift, scale=share * self.scale, rotation_deg=share * self.rotation_deg)


NO_AUGMENTATION: Final = AugmentConfig(
    shift=0.0,
    scale=0.0,
    rotation_deg=0.0,
    spoiled=0.0,
    photometric=0.0,
    placed=1.0,
    compared=1.0,
    moving=0.0,
    moved_px=0.0,
)
"""Crops as they are rendered, or as they are placed."""

_NOISE_SIDE: Final = 2 * CROP_SIZE_PX
_NOISE_SIGMAS: Final = (2.0, 4.0, 7.0, 11.0)
_NOISE_LHW: Final = np.stack(
    [np.random.default_rng(7).normal(0, sigma, (_NOISE_SIDE, _NOISE_SIDE)).astype(np.int16) for sigma in _NOISE_SIGMAS]
)
"""Sensor noise, from which windows are cut: drawing it afresh for each crop would cost three times the rest."""


def _fractal_noise(seed: int) -> NDArray[np.int16]:
    """Noise of equal power in each octave, as skin, stubble and shadows have it: amplitude 1/f, standard deviation 32."""
    spectrum_HW = np.fft.fft2(np.random.default_rng(seed).standard_normal((_NOISE_SIDE, _NOISE_SIDE)))
    frequency_HW = np.hypot(*np.meshgrid(np.fft.fftfreq(_NOISE_SIDE), np.fft.fftfreq(_NOISE_SIDE)))
    field_HW = np.real(np.fft.ifft2(spectrum_HW / np.maximum(frequency_HW, 1 / _NOISE_SIDE)))
    return np.asarray(32 * field_HW / field_HW.std(), np.int16)


_TEXTURES_LHW: Final = np.stack([_fractal_noise(seed) for seed in range(8)])


class Augmented(NamedTuple):
    """A changed copy of a crop."""

    pixels_HW: Pixels
    intact: bool
    """Whether it can still be read; False for a spoiled one."""
    way_23: NDArray[np.float64]
    """Where its points went: an affine map about the middle of the crop, px."""


def augment(
    pixels_HW: Pixels,
    rng: np.random.Generator,
    config: AugmentConfig,
    *,
    mirrored: bool,
    slip: Slip | None = None,
    own: np.random.Generator | None = None,
) -> Augmented:
    """A changed copy of a crop, mirrored if asked.

    `slip`: where the face is, upright and not mirrored; with it, some crops are cut there. None where nobody knows. What is this
    crop's alone - whether it is spoiled, what the headset moved since, the sensor's noise - is drawn from `own`: equal `rng` give
    frames of one fitting the same place, skin, light and focus.
    """
    own = own or rng
    if slip is not None and rng.random() < config.placed:
        config = config.scaled(config.placed_range)
    else:
        slip = NO_SLIP
    if config == NO_AUGMENTATION and slip == NO_SLIP:
        same_HW = np.ascontiguousarray(pixels_HW[:, ::-1]) if mirrored else pixels_HW
        return Augmented(same_HW, True, np.array([[-1.0 if mirrored else 1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    intact = bool(own.random() >= config.spoiled)
    spoil = "" if intact else str(own.choice(_SPOILS))
    slip = slip.then(_moved(own, config.moved_px)) if config.moved_px else slip
    changed_HW, way_23 = _place(pixels_HW, rng, config, slip, mirrored=mirrored, misframed=spoil == "misframed")
    if rng.random() >= config.photometric and not spoil:
        return Augmented(changed_HW, True, way_23)
    if rng.random() < 0.10:
        _cover_a_little(changed_HW, rng)
    if spoil == "covered":
        changed_HW = _covered(changed_HW, rng)
    elif spoil == "blurred":
        changed_HW = np.asarray(cv2.GaussianBlur(changed_HW, (0, 0), float(rng.uniform(9, 20))), np.uint8)
    elif spoil == "garbage":
        changed_HW = _texture(rng)
    changed_HW = _light(_matter(_skin(changed_HW, rng), rng), rng)
    if spoil == "exposure":
        changed_HW = _exposed_wrongly(changed_HW, rng)
    return Augmented(_sensor(changed_HW, rng, own), intact, way_23)


def _moved(own: np.random.Generator, deviation: float) -> Slip:
    right, down, turn, zoom = deviation * own.normal(size=4)
    return Slip(float(right), float(down), float(turn), math.exp(0.01 * zoom))


_SPOILS: Final = ("covered", "misframed", "blurred", "garbage", "exposure")


def _place(
    pixels_HW: Pixels, rng: np.random.Generator, config: AugmentConfig, slip: Slip, *, mirrored: bool, misframed: bool
) -> tuple[Pixels, NDArray[np.float64]]:
    centre = (CROP_SIZE_PX - 1) / 2
    turn, across, along, zoom = rng.uniform(-1, 1, 4)
    angle, scale = math.radians(turn * config.rotation_deg), math.exp(zoom * math.log1p(config.scale))
    shift_x, shift_y = across * config.shift * CROP_SIZE_PX, along * config.shift * CROP_SIZE_PX
    if misframed:
        kind = int(rng.integers(3))
        if kind == 0:
            direction = rng.uniform(0, 2 * math.pi)
            distance = rng.uniform(0.55, 0.9) * CROP_SIZE_PX
            shift_x, shift_y = distance * math.cos(direction), distance * math.sin(direction)
        elif kind == 1:
            scale = float(rng.choice([rng.uniform(0.2, 0.4), rng.uniform(3.0, 5.0)]))
        else:
            angle = math.radians(rng.uniform(70, 290))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    flip = -1.0 if mirrored else 1.0
    placed_33 = np.vstack([slip.inverse().matrix_23(), (0.0, 0.0, 1.0)])
    way_23 = np.array([[cos * flip, -sin, shift_x], [sin * flip, cos, shift_y]]) @ placed_33
    matrix_23 = way_23.copy()
    matrix_23[:, 2] += centre - way_23[:, :2] @ (centre, centre)
    border = cv2.BORDER_REPLICATE if rng.random() < 0.7 else cv2.BORDER_CONSTANT
    placed_HW = np.asarray(
        cv2.warpAffine(
            pixels_HW,
            matrix_23,
            (CROP_SIZE_PX, CROP_SIZE_PX),
            flags=cv2.INTER_LINEAR,
            borderMode=border,
            borderValue=int(rng.integers(0, 60)),
        ),
        np.uint8,
    )
    return placed_HW, way_23


def _cover_a_little(pixels_HW: Pixels, rng: np.random.Generator) -> None:
    """A patch of up to a tenth of the crop: a strand of hair, a cable, a smear on the lens."""
    centre = rng.integers(0, CROP_SIZE_PX, 2).tolist()
    axes = rng.integers(4, 26, 2).tolist()
    cv2.ellipse(pixels_HW, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(0, 256)), cv2.FILLED)


def _texture(rng: np.random.Generator) -> Pixels:
    """A picture of nothing: smooth or fine noise about some grey."""
    cells = int(rng.choice([2, 4, 8, 16, 64]))
    coarse_HW = rng.normal(rng.uniform(40, 200), rng.uniform(5, 60), (cells, cells)).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(coarse_HW, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=cv2.INTER_CUBIC), np.uint8)


def _covered(pixels_HW: Pixels, rng: np.random.Generator) -> Pixels:
    """A hand, a cloth or a shut lens cap over most of the crop."""
    over_HW, side = _texture(rng), int(rng.integers(4))
    kept = int(rng.uniform(0, 0.3) * CROP_SIZE_PX)
    if kept:
        edge = (slice(0, kept), slice(CROP_SIZE_PX - kept, None))[side % 2]
        where = (edge, slice(None)) if side < 2 else (slice(None), edge)
        over_HW[where] = pixels_HW[where]
    return over_HW


def _exposed_wrongly(pixels_HW: Pixels, rng: np.random.Generator) -> Pixels:
    """Nearly all white, or nearly all black under sensor noise."""
    if rng.random() < 0.5:
        percentile = float(np.percentile(pixels_HW, rng.uniform(0, 8)))
        return np.asarray(cv2.convertScaleAbs(pixels_HW, alpha=255.0 / max(percentile, 1.0)), np.uint8)
    return np.asarray(cv2.convertScaleAbs(pixels_HW, alpha=float(rng.uniform(0, 0.012))), np.uint8)


def _skin(pixels_HW: Pixels, rng: np.random.Generator) -> Pixels:
    """Blotches, pores and stubble of any size and strength, and lines like wrinkles or hairs: nothing a value may hang on."""
    if rng.random() < 0.6:
        side = int(rng.choice((24, 48, 96, 128)))
        row, column = rng.integers(0, _NOISE_SIDE - side, 2).tolist()
        window_HW = _TEXTURES_LHW[int(rng.integers(len(_TEXTURES_LHW))), row : row + side, column : column + side]
        texture_HW = cv2.resize(window_HW, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=cv2.INTER_LINEAR)
        strength = float(rng.uniform(-0.5, 0.5) * min(1.0, pixels_HW.std() / 40.0))  # a faint picture has faint skin
        pixels_HW = np.asarray(cv2.addWeighted(pixels_HW, 1.0, texture_HW, strength, 0.0, dtype=cv2.CV_8U), np.uint8)
    if rng.random() < 0.3:
        lines_HW = np.full((CROP_SIZE_PX, CROP_SIZE_PX), 128, np.uint8)
        for _ in range(int(rng.integers(1, 7))):
            middle_2, way_2 = rng.uniform(0, CROP_SIZE_PX, 2), rng.normal(0, 18, 2)
            bend_2 = rng.normal(0, 5, 2)
            line = np.stack([middle_2 - way_2, middle_2 + bend_2, middle_2 + way_2]).round().astype(np.int32)
            cv2.polylines(lines_HW, [line], False, int(rng.uniform(60, 175)), int(rng.integers(1, 3)), cv2.LINE_AA)
        lines_HW = np.asarray(cv2.GaussianBlur(lines_HW, (0, 0), float(rng.uniform(0.5, 1.5))), np.uint8)
        pixels_HW = np.asarray(cv2.multiply(pixels_HW, lines_HW, scale=1 / 128), np.uint8)
    return pixels_HW


def _matter(pixels_HW: Pixels, rng: np.random.Generator) -> Pixels:
    """Another look of every edge: mixed with a random convolution of itself, so that shape counts and local texture does not.

    Xu et al. 2021, "Robust and generalizable visual representation learning via random convolutions".
    """
    if rng.random() >= 0.25:
        return pixels_HW
    side = int(rng.choice((3, 5)))
    kernel = rng.normal(0.0, 1.0 / side, (side, side))
    kernel += (1.0 - kernel.sum()) / kernel.size  # keeps the mean grey
    mixed = float(rng.uniform(0.2, 1.0))
    kernel *= mixed
    kernel[side // 2, side // 2] += 1.0 - mixed
    return np.asarray(cv2.filter2D(pixels_HW, -1, kernel, borderType=cv2.BORDER_REFLECT), np.uint8)


def _light(pixels_HW: Pixels, rng: np.random.Generator) -> Pixels:
    """Gain, offset, gamma, and a slow field of illumination as from LEDs at the side."""
    gain, gamma = math.exp(rng.uniform(-0.6, 0.45)), math.exp(rng.uniform(-0.55, 0.55))
    curve = 255.0 * (gain * (np.arange(256) / 255.0) ** gamma + rng.uniform(-0.06, 0.10))
    pixels_HW = np.asarray(cv2.LUT(pixels_HW, curve.clip(0, 255).astype(np.uint8)), np.uint8)
    if rng.random() < 0.6:
        cells = int(rng.integers(2, 5))
        field = (128 * np.exp(rng.normal(0, rng.uniform(0.05, 0.45), (cells, cells)))).clip(20, 255).astype(np.uint8)
        field_HW = cv2.resize(field, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=cv2.INTER_LINEAR)
        pixels_HW = np.asarray(cv2.multiply(pixels_HW, field_HW, scale=1 / 128), np.uint8)
    return pixels_HW


def _sensor(pixels_HW: Pixels, rng: np.random.Generator, own: np.random.Generator) -> Pixels:
    """Focus and motion blur, fewer pixels, noise, JPEG."""
    kind = rng.random()
    if kind < 0.30:
        pixels_HW = np.asarray(cv2.GaussianBlur(pixels_HW, (0, 0), float(rng.uniform(0.5, 2.8))), np.uint8)
    elif kind < 0.38:
        length = int(rng.integers(2, 6))
        shape = (length, 1) if rng.random() < 0.5 else (1, length)
        pixels_HW = np.asarray(cv2.blur(pixels_HW, shape), np.uint8)
    elif kind < 0.60:
        side = int(rng.integers(32, 110))
        small_HW = cv2.resize(pixels_HW, (side, side), interpolation=cv2.INTER_AREA)
        pixels_HW = np.asarray(cv2.resize(small_HW, (CROP_SIZE_PX, CROP_SIZE_PX)), np.uint8)
    if rng.random() < 0.5:
        level = int(rng.integers(len(_NOISE_SIGMAS)))
        row, column = own.integers(0, _NOISE_SIDE - CROP_SIZE_PX, 2).tolist()
        noise_HW = _NOISE_LHW[level, row : row + CROP_SIZE_PX, column : column + CROP_SIZE_PX]
        pixels_HW = np.asarray(cv2.add(pixels_HW, noise_HW, dtype=cv2.CV_8U), np.uint8)
    if rng.random() < 0.08:
        _, packed = cv2.imencode(".jpg", pixels_HW, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        pixels_HW = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)
    return pixels_HW
