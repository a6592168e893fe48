"""How far a face has moved from rest, from the images of one camera alone: the movement metric's raw material.

Flow from the wearer's neutral image (DIS, Kroeger et al. 2016, ultrafast preset with finest scale 1: presets stop at quarter
resolution on images this small, and one more scale halves the error for 0.3 ms), minus the headset's slip; and appearance,
the change of brightness that is left when slip and exposure are undone, for what shows by changing rather than by moving:
lids, lips rolled in, teeth, tongue. One frame at a time, the same code live and from files. One instance serves one camera
and one thread.

Axes: H W image; R C rows and columns of cells; K 2, right and down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationError
from model_export.contract.frames import CROP_SIZE_PX, Camera
from model_export.contract.slip import Slip

CELLS: Final = 16
"""Cells across a crop, 8 px each."""
LEAST_NEUTRAL_FRAMES: Final = 10
_CELL_PX: Final = CROP_SIZE_PX // CELLS
_HALF_PX: Final = CROP_SIZE_PX // 2
_ROUNDS: Final = 4
"""Reweightings of the rigid fit; the fifth changes the slip by less than 0.02 px."""


class NeutralError(CalibrationError):
    """The frames of a rest from which no neutral image can be made."""


class Gate(StrEnum):
    """Why nothing is said of the movement in a frame."""

    DARK = "the picture is dark"
    COVERED = "the camera is covered or sees something else"
    BLINK = "the eye is closed"
    RESIDUAL = "the picture is not a moved neutral image"
    SLIPPED = "the headset moves"
    DISAGREES = "flow forward and backward disagree"


@dataclass(frozen=True, slots=True)
class MeterLimits:
    """From where on a frame is gated."""

    least_grey: float = 6.0
    """Mean grey of 255."""
    least_likeness: float = 0.25
    """Correlation of 8 px cells with the neutral image's, slip undone."""
    residual: float = 0.55
    """Mean difference of the neutral image and the frame warped onto it, as a share of the neutral image's spread."""
    rigid_px: float = 7.0
    """Residual of the rigid fit on the skin that should be still."""
    slip_px_per_frame: float = 2.5
    """Slip from one frame to the next; the headset is being moved."""
    disagreement_px: float = 8.0
    """Median of |forward + backward| over textured cells."""


@dataclass(frozen=True, slots=True)
class Movement:
    """What one frame shows of movement; arrays are the caller's own."""

    flow_RCK: NDArray[np.float32]
    """float32 [16, 16, 2] px: mean flow of each cell from the neutral image, slip removed."""
    appearance_RC: NDArray[np.float32]
    """float32 [16, 16]: change of brightness, slip and exposure undone, as a share of the neutral image's spread."""
    slip: Slip
    gate: Gate | None
    """None where the movement can be trusted."""
    speed_px: float
    """Mean movement of the cells since the frame before, px; 0 for the first."""
    likeness: float
    """Correlation with the neutral image in -1..1."""
    residual: float
    rigid_px: float
    disagreement_px: float

    def features(self) -> NDArray[np.float32]:
        """Flow and appearance in one vector, float32 [768]."""
        return np.concatenate([self.flow_RCK.ravel(), self.appearance_RC.ravel()])


FEATURES: Final = CELLS * CELLS * 3
"""Length of `Movement.features`."""


def neutral_image(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The mean of the frames of a rest that show the face still, eyes open: uint8 [128, 128].

    Frames far from the median picture (blinks, glances, stray movement) are left out. Raises NeutralError for fewer than ten good
    frames, for darkness, and for a rest in which the face never was still.
    """
    if len(frames) < LEAST_NEUTRAL_FRAMES:
        raise _neutral_error(f"{len(frames)}")
    stack_THW = np.stack([cv2.resize(frame, (_HALF_PX, _HALF_PX), interpolation=cv2.INTER_AREA) for frame in frames])
    median_HW = np.median(stack_THW, axis=0)
    if median_HW.mean() < MeterLimits().least_grey:
        raise _neutral_error("dark pictures")
    away_T = np.abs(stack_THW - median_HW).mean(axis=(1, 2))
    middle = float(np.median(away_T))
    spread = 1.4826 * float(np.median(np.abs(away_T - middle)))
    good_T = away_T <= middle + 3.0 * spread + 0.4
    if int(good_T.sum()) < LEAST_NEUTRAL_FRAMES or middle > 0.3 * float(median_HW.std()) + 1.0:
        raise _neutral_error(f"{int(good_T.sum())} of {len(frames)} frames alike")
    chosen_THW = np.stack([frame for frame, good in zip(frames, good_T, strict=True) if good])
    neutral_HW: NDArray[np.uint8] = np.round(chosen_THW.mean(axis=0)).astype(np.uint8)
    return neutral_HW


def _neutral_error(found: str) -> NeutralError:
    return NeutralError(
        f"A rest should hold {LEAST_NEUTRAL_FRAMES} or more bright frames of a still face.",
        found,
        "Look ahead and relax for three seconds.",
    )


class MovementMeter:
    """Measures the frames of one camera against the wearer's neutral image.

    `remove_slip=False` leaves slip in flow and appearance, to find out what removing it is worth; gates know it all the same.
    """

    def __init__(
        self,
        camera: Camera,
        neutral_HW: NDArray[np.uint8],
        limits: MeterLimits | None = None,
        *,
        remove_slip: bool = True,
    ) -> None:
        self.camera = camera
        self.limits = limits or MeterLimits()
        self.neutral_HW = _checked(neutral_HW)
        self._neutral_half_HW = _half(self.neutral_HW)
        self._neutral_RC = _cells(self.neutral_HW.astype(np.float32))
        self._spread = float(self.neutral_HW.std()) + 1.0
        texture_RC = _texture(self.neutral_HW)
        self._textured_RC = texture_RC > np.float32(0.5) * np.median(texture_RC)
        self._weight_N = (skin_weight(camera) * texture_RC / (texture_RC + np.median(texture_RC) + 1e-6)).ravel()
        self._place_N2 = _cell_places()
        self._flow = _dis()
        self._back = _dis()
        self._remove_slip = remove_slip
        self._grid_HWK = _grid(_HALF_PX)
        self._last_RCK: NDArray[np.float32] | None = None
        self._last_slip: Slip | None = None

    def measure(self, pixels_HW: NDArray[np.uint8]) -> Movement:
        """The movement that one crop shows; about 0.7 ms."""
        frame_HW = _checked(pixels_HW)
        half_HW = _half(frame_HW)
        flow_HWK: Any = self._flow.calc(self.neutral_HW, frame_HW, None)
        cells_RCK = _cells(flow_HWK)
        flow_half_HWK = cv2.resize(flow_HWK, (_HALF_PX, _HALF_PX), interpolation=cv2.INTER_AREA) * np.float32(0.5)
        fit_4, rigid_px = self._rigid(cells_RCK)
        slip = _slip_of(fit_4)
        removed_4 = fit_4 if self._remove_slip else np.zeros(4)
        still_RCK = cells_RCK - _similarity(self._place_N2, removed_4).reshape(CELLS, CELLS, 2)
        unslipped_RC = _cells(_unslip(frame_HW, removed_4).astype(np.float32))
        exposure = self._exposure(unslipped_RC)
        appearance_RC = (unslipped_RC * np.float32(exposure) - self._neutral_RC) / np.float32(self._spread)
        likeness = _correlation(unslipped_RC, self._neutral_RC)
        residual = self._residual(half_HW, flow_half_HWK, exposure)
        disagreement_px = self._disagreement(half_HW, flow_half_HWK)
        moved_px = 0.0 if self._last_slip is None else _slip_step(slip, self._last_slip)
        gate = self._gate(frame_HW, likeness, residual, rigid_px, disagreement_px, moved_px)
        speed_px = 0.0 if self._last_RCK is None else float(np.abs(still_RCK - self._last_RCK).mean())
        self._last_RCK, self._last_slip = still_RCK, slip
        return Movement(still_RCK, appearance_RC, slip, gate, speed_px, likeness, residual, rigid_px, disagreement_px)

    def _rigid(self, cells_RCK: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
        """Robust similarity (a, b, right, down) of the skin that expressions do not move: iteratively reweighted least squares.

        dx = a x - b y + right, dy = b x + a y + down, x and y from the centre; Geman-McClure weights (s^2 / (s^2 + r^2))^2, r the
        residual, s from its weighted median.
        """
        flow_N2 = cells_RCK.reshape(-1, 2)
        weight_N = self._weight_N
        fit_4 = np.zeros(4)
        distance_N = np.zeros(len(flow_N2))
        for _ in range(_ROUNDS):
            fit_4 = _solve_similarity(self._place_N2, flow_N2, weight_N)
            left_N2 = flow_N2 - _similarity(self._place_N2, fit_4)
            distance_N = np.hypot(left_N2[:, 0], left_N2[:, 1])
            scale = 1.5 * _weighted_median(distance_N, self._weight_N) + 0.1
            weight_N = self._weight_N * (scale**2 / (scale**2 + distance_N**2)) ** 2
        return fit_4, _weighted_median(distance_N, self._weight_N)

    def _exposure(self, unslipped_RC: NDArray[np.float32]) -> float:
        """The gain that makes the still skin as bright as in the neutral image."""
        weight_N = self._weight_N
        seen_N, neutral_N = unslipped_RC.ravel(), self._neutral_RC.ravel()
        # a weighted median of ratios: a tongue or a shadow in a part of the skin changes nothing
        ratio_N = (neutral_N + 1.0) / (seen_N + 1.0)
        return float(np.clip(_weighted_median(ratio_N, weight_N), 0.25, 4.0))

    def _residual(self, half_HW: NDArray[np.uint8], flow_half_HWK: NDArray[np.float32], exposure: float) -> float:
        way_HWK = self._grid_HWK + flow_half_HWK
        bright_HW = cv2.convertScaleAbs(_remap(half_HW, way_HWK), alpha=exposure)
        return float(cv2.norm(bright_HW, self._neutral_half_HW, cv2.NORM_L1)) / (_HALF_PX**2 * self._spread)

    def _disagreement(self, half_HW: NDArray[np.uint8], flow_half_HWK: NDArray[np.float32]) -> float:
        """Median |f(x) + b(x + f(x))| over textured cells, px of the crop; backward flow at half size, a fifth of the cost."""
        back_HWK: Any = self._back.calc(half_HW, self._neutral_half_HW, None)
        gap_RCK = _cells(flow_half_HWK + _remap(back_HWK, self._grid_HWK + flow_half_HWK))
        return 2.0 * float(np.median(np.hypot(gap_RCK[..., 0], gap_RCK[..., 1])[self._textured_RC]))

    def _gate(  # noqa: PLR0917 - one number for each reason
        self,
        frame_HW: NDArray[np.uint8],
        likeness: float,
        residual: float,
        rigid_px: float,
        disagreement_px: float,
        moved_px: float,
    ) -> Gate | None:
        limits = self.limits
        checks = (
            (cv2.mean(frame_HW)[0] < limits.least_grey, Gate.DARK),
            (likeness < limits.least_likeness, Gate.COVERED),
            (residual > limits.residual, Gate.RESIDUAL),
            (rigid_px > limits.rigid_px or moved_px > limits.slip_px_per_frame, Gate.SLIPPED),
            (disagreement_px > limits.disagreement_px, Gate.DISAGREES),
        )
        return next((gate for failed, gate in checks if failed), None)


def skin_weight(camera: Camera) -> NDArray[np.float32]:
    """How still expressions leave each cell, float32 [16, 16] in 0..1: the rim of an eye picture, the top of a mouth picture."""
    row_RC, column_RC = np.mgrid[0:CELLS, 0:CELLS].astype(np.float32)
    if camera is Camera.MOUTH:
        top_RC = np.clip(1.0 - row_RC / 5.0, 0.0, 1.0)
        sides_RC = 0.5 * np.clip(np.abs(column_RC - 7.5) - 5.5, 0.0, 1.0) * (row_RC < 9)
        mouth_RC: NDArray[np.float32] = np.maximum(0.03, np.maximum(top_RC, sides_RC)).astype(np.float32)
        return mouth_RC
    away_RC = np.maximum(np.abs(column_RC - 7.5) / 7.5, np.abs(row_RC - 7.5) / 7.5)
    still_RC = np.clip((away_RC - 0.55) / 0.3, 0.0, 1.0)
    # brows cross the upper middle
    still_RC *= np.where((row_RC < 6) & (np.abs(column_RC - 7.5) < 6), 0.15, 1.0)
    eye_RC: NDArray[np.float32] = np.maximum(0.03, still_RC).astype(np.float32)
    return eye_RC


def _checked(pixels_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels_HW.shape != (CROP_SIZE_PX, CROP_SIZE_PX) or pixels_HW.dtype != np.uint8:
        raise ValueError(
            f"`pixels_HW` should be uint8 [{CROP_SIZE_PX}, {CROP_SIZE_PX}], a canonical crop. "
            f"Found {pixels_HW.dtype} {list(pixels_HW.shape)}."
        )
    return np.ascontiguousarray(pixels_HW)


def _dis() -> Any:
    make: Any = vars(cv2)["DISOpticalFlow_create"]  # the stubs of OpenCV do not know it
    flow = make(vars(cv2)["DISOPTICAL_FLOW_PRESET_ULTRAFAST"])
    flow.setFinestScale(1)
    return flow


def _half(image_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image_HW, (_HALF_PX, _HALF_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _remap(image_HW: Any, way_HWK: NDArray[np.float32]) -> Any:
    none: Any = None  # both coordinates stand in one map
    return cv2.remap(image_HW, way_HWK, none, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _cells(image_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(image_HW, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.float32)


def _texture(image_HW: NDArray[np.uint8]) -> NDArray[np.float32]:
    right: Any = cv2.Sobel(image_HW, cv2.CV_32F, 1, 0)
    down: Any = cv2.Sobel(image_HW, cv2.CV_32F, 0, 1)
    return _cells(np.hypot(right, down))


def _grid(size_px: int) -> NDArray[np.float32]:
    down_HW, right_HW = np.mgrid[0:size_px, 0:size_px].astype(np.float32)
    return np.stack([right_HW, down_HW], axis=-1)


def _cell_places() -> NDArray[np.float32]:
    """Centres of the cells from the centre of the crop, px, float32 [256, 2]."""
    return ((_grid(CELLS) + 0.5) * _CELL_PX - CROP_SIZE_PX / 2).reshape(-1, 2)


def _similarity(place_N2: NDArray[np.float32], fit_4: NDArray[np.float64]) -> NDArray[np.float32]:
    a, b, right, down = (np.float32(value) for value in fit_4)
    x_N, y_N = place_N2.T
    return np.stack([a * x_N - b * y_N + right, b * x_N + a * y_N + down], axis=-1)


def _solve_similarity(
    place_N2: NDArray[np.float32], flow_N2: NDArray[np.float32], weight_N: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Weighted least squares in closed form, about the weighted middle."""
    total = float(weight_N.sum())
    share_N = weight_N / total
    middle_2 = share_N @ place_N2
    mean_2 = share_N @ flow_N2
    x_N, y_N = (place_N2 - middle_2).T
    u_N, v_N = (flow_N2 - mean_2).T
    size = float(share_N @ (x_N * x_N + y_N * y_N)) + 1e-6
    a = float(share_N @ (x_N * u_N + y_N * v_N)) / size
    b = float(share_N @ (x_N * v_N - y_N * u_N)) / size
    right = float(mean_2[0]) - a * float(middle_2[0]) + b * float(middle_2[1])
    down = float(mean_2[1]) - b * float(middle_2[0]) - a * float(middle_2[1])
    return np.array([a, b, right, down])


def _slip_of(fit_4: NDArray[np.float64]) -> Slip:
    a, b, right, down = (float(value) for value in fit_4)
    return Slip(right, down, float(np.degrees(np.arctan2(b, 1.0 + a))), float(np.hypot(1.0 + a, b)))


def _slip_step(one: Slip, other: Slip) -> float:
    return float(np.hypot(one.right_px - other.right_px, one.down_px - other.down_px))


def _unslip(frame_HW: NDArray[np.uint8], fit_4: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The frame as it would be without slip."""
    a, b, right, down = (float(value) for value in fit_4)
    middle = (CROP_SIZE_PX - 1) / 2
    turn_22 = np.array([[1.0 + a, -b], [b, 1.0 + a]])
    shift_2 = np.array([right, down]) + middle - turn_22 @ np.array([middle, middle])
    way_23 = np.column_stack([turn_22, shift_2])
    warped: Any = cv2.warpAffine(
        frame_HW,
        way_23,
        (CROP_SIZE_PX, CROP_SIZE_PX),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(warped, np.uint8)


def _weighted_median(values_N: NDArray[Any], weight_N: NDArray[np.float32]) -> float:
    order_N = np.argsort(values_N)
    reached_N = np.cumsum(weight_N[order_N])
    return float(values_N[order_N[int(np.searchsorted(reached_N, 0.5 * reached_N[-1]))]])


def _correlation(one_RC: NDArray[np.float32], other_RC: NDArray[np.float32]) -> float:
    one_RC, other_RC = one_RC - one_RC.mean(), other_RC - other_RC.mean()
    size = float(np.sqrt((one_RC * one_RC).sum() * (other_RC * other_RC).sum()))
    return float((one_RC * other_RC).sum()) / size if size > 1e-6 else 0.0
