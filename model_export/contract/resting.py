"""Resting: what a face at rest tells of the answers to the same face when it moves.

Axes: F feature of the last layer, O head output.

Faces differ at rest - droopy lids, a lopsided mouth, a camera from below - and a head that never saw this one takes part of that
for movement. Over the wearers of the training, the mean error of the answers in a fitting is predicted from the features r of
the same fitting's face at rest, linearly, and the offsets of a head are moved by the prediction:

    shift_o = (r - mean) . shift_FO[:, o]

A prediction, not the answers at rest themselves: those are mostly noise of a weak head, and taken away whole they make free
movement worse (docs/experiments.md). They are what is left after every frame was compared with the map at rest, in the backbone
itself (Head.neutral), which needs nothing of what is kept here.

And the same face at rest tells how a headset slipped that was put on again, or during use: the map m below the last layer shows
where things are, and its difference from the map of the rest that a head was fitted in tells all of it, linearly again:

    (right_px, down_px, turn_deg, log scale) = (m - reference) . slip_M4

With the mean map of faces at rest for a reference, the same says how far this face is from where most faces are in their crops.
With the mean map of faces that move, so does the mean of this face's maps over some seconds of movement: nobody need rest for it.
And that mean tells how the face is made, if less than its rest would: the map at rest is looked for from the mean one of faces at
rest, by the share of what the mean of movement is off its like that is this face's own, and not of what it did in these seconds.
What it did averages out as 1 / seconds, so the share grows with them, to the last one, and is half of that after `half_s`:

    neutral = place + last seconds / (seconds + half_s) (mean - moving)

Resting file versions (safetensors, metadata "format": "mien-resting")
    1   eye_mean_F, mouth_mean_F float32 [256]; eye_shift_FO float16 [256, 15], mouth_shift_FO float16 [256, 33]; metadata format,
        version, fittings.
    2   also eye_slip_M4, mouth_slip_M4 float16 [1024, 4], eye_place_M, mouth_place_M float16 [1024].
    3   also eye_moving_M, mouth_moving_M float16 [1024].
    4   also eye_share_1, mouth_share_1 float16 [1]: one share, however long a mean is over.
    5   eye_share_2, mouth_share_2 float16 [2] in their place: last and half_s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import exp
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from model_export.contract.arrays import read_arrays, require_float32
from model_export.contract.errors import ContractError
from model_export.contract.frames import Camera
from model_export.contract.head import LAST_COUNT, MAP_COUNT, OUTPUT_COUNT, Head
from model_export.contract.safetensors_header import pack_metadata
from model_export.contract.slip import Slip

RESTING_FILE: Final = "resting.safetensors"
_FORMAT: Final = "mien-resting"
_VERSION: Final = 5
_REMEDY: Final = "run mien resting again"
_MOST_LOG: Final = 0.5
"""Of a scale that is read: beyond, the map is of something else."""


@dataclass(frozen=True, slots=True)
class Resting:
    """What rest tells, of eyes (right ones mirrored) and of mouths."""

    eye_mean_F: NDArray[np.float32]
    """Features of a face at rest, mean over fittings."""
    eye_shift_FO: NDArray[np.float32]
    """What to add to each output for a feature that is off that mean by 1."""
    mouth_mean_F: NDArray[np.float32]
    mouth_shift_FO: NDArray[np.float32]
    eye_slip_M4: NDArray[np.float32]
    """Px to the right, px down, degrees clockwise and logarithm of the scale for a feature of the map off the reference by 1."""
    mouth_slip_M4: NDArray[np.float32]
    eye_place_M: NDArray[np.float32]
    """The map of a face at rest, mean over fittings."""
    mouth_place_M: NDArray[np.float32]
    eye_moving_M: NDArray[np.float32]
    """The map of a face that moves, mean over fittings."""
    mouth_moving_M: NDArray[np.float32]
    eye_share_2: NDArray[np.float32]
    """Share of what a long mean map is off `moving` that is how the face is made; seconds over which a mean tells half of it."""
    mouth_share_2: NDArray[np.float32]
    fittings: int
    """Fittings that it was learnt from."""

    def __post_init__(self) -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        for part, camera in (("eye", Camera.LEFT_EYE), ("mouth", Camera.MOUTH)):
            shapes |= {
                f"{part}_mean_F": (LAST_COUNT,),
                f"{part}_shift_FO": (LAST_COUNT, OUTPUT_COUNT[camera]),
                f"{part}_slip_M4": (MAP_COUNT, 4),
                f"{part}_place_M": (MAP_COUNT,),
                f"{part}_moving_M": (MAP_COUNT,),
                f"{part}_share_2": (2,),
            }
        require_float32(self, shapes, ContractError, _REMEDY)

    def shift(
        self, camera: Camera, rest_F: NDArray[np.float32], before_F: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """What to add to a camera's outputs, float32 [O]; `before_F` is the rest that the head knows already, if any."""
        mean_F, shift_FO = (
            (self.mouth_mean_F, self.mouth_shift_FO) if camera is Camera.MOUTH else (self.eye_mean_F, self.eye_shift_FO)
        )
        known_F = mean_F if before_F is None else before_F
        return np.asarray((rest_F - known_F) @ shift_FO, np.float32)

    def place(self, camera: Camera) -> NDArray[np.float32]:
        """The mean map [1024] of faces at rest: where most of them are in a camera's crop, a right eye's mirrored."""
        return self.mouth_place_M if camera is Camera.MOUTH else self.eye_place_M

    def moving(self, camera: Camera) -> NDArray[np.float32]:
        """The mean map [1024] of faces that move, likewise: what a mean over seconds of use is compared with."""
        return self.mouth_moving_M if camera is Camera.MOUTH else self.eye_moving_M

    def neutral(self, camera: Camera, mean_M: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
        """What frames of a face are compared with, [1024], whose maps had this mean [1024] over so many seconds of movement."""
        last, half_s = map(float, self.mouth_share_2 if camera is Camera.MOUTH else self.eye_share_2)
        share = np.float32(last * seconds / max(seconds + half_s, 1e-9))
        found_M = self.place(camera) + share * (mean_M - self.moving(camera))
        return np.asarray(np.maximum(found_M, np.float32(0.0)), np.float32)

    def slip(self, camera: Camera, map_M: NDArray[np.float32], reference_M: NDArray[np.float32]) -> Slip:
        """How a camera's picture of the face at rest has moved, from its map [1024] then and now: to 1 px, 1.5 degrees, 3 %."""
        slip_M4 = self.mouth_slip_M4 if camera is Camera.MOUTH else self.eye_slip_M4
        right, down, turn, log_scale = map(float, (map_M - reference_M) @ slip_M4)
        slip = Slip(right, down, turn, exp(min(max(log_scale, -_MOST_LOG), _MOST_LOG)))
        return slip.mirrored() if camera is Camera.RIGHT_EYE else slip


def rested(head: Head, rest: Mapping[Camera, NDArray[np.float32]], resting: Resting | None) -> Head:
    """The head moved to these features of a face at rest, one row [1280] for each camera that saw it; others stay.

    The rows are of frames that were compared with nothing. From now on frames are compared with their maps, and offsets are moved
    by what `resting` says of them, if it is there. What the head was moved to before is taken back, so that a headset can be put
    on again and again. A wearer's head that does not know the rest it was fitted in stays: its fit has made up for that rest
    already. Version, parent and report stay.
    """
    rest = {
        camera: rest_F
        for camera, rest_F in rest.items()
        if head.head_version == 0 or camera in head.rest or camera in head.neutral
    }
    if not rest:
        return head
    neutral = {camera: rest_F[LAST_COUNT:] for camera, rest_F in rest.items()}
    head = replace(head, neutral={**head.neutral, **neutral})
    if resting is None:
        return head
    regions = [head[camera] for camera in Camera]
    for camera, rest_F in rest.items():
        shift_O = resting.shift(camera, rest_F[:LAST_COUNT], head.rest.get(camera))
        regions[camera] = replace(head[camera], bias_O=(head[camera].bias_O + shift_O).astype(np.float32))
    last = {camera: rest_F[:LAST_COUNT] for camera, rest_F in rest.items()}
    return replace(head, left_eye=regions[0], right_eye=regions[1], mouth=regions[2], rest={**head.rest, **last})


def write_resting(resting: Resting) -> bytes:
    """As a safetensors file; equal ones give equal bytes."""
    tensors: dict[str, NDArray[np.generic]] = {
        "eye_mean_F": np.ascontiguousarray(resting.eye_mean_F),
        "mouth_mean_F": np.ascontiguousarray(resting.mouth_mean_F),
        "eye_shift_FO": resting.eye_shift_FO.astype(np.float16),
        "mouth_shift_FO": resting.mouth_shift_FO.astype(np.float16),
        "eye_slip_M4": resting.eye_slip_M4.astype(np.float16),
        "mouth_slip_M4": resting.mouth_slip_M4.astype(np.float16),
        "eye_place_M": resting.eye_place_M.astype(np.float16),
        "mouth_place_M": resting.mouth_place_M.astype(np.float16),
        "eye_moving_M": resting.eye_moving_M.astype(np.float16),
        "mouth_moving_M": resting.mouth_moving_M.astype(np.float16),
        "eye_share_2": resting.eye_share_2.astype(np.float16),
        "mouth_share_2": resting.mouth_share_2.astype(np.float16),
    }
    return save_safetensors(
        tensors, pack_metadata({"format": _FORMAT, "version": _VERSION, "fittings": resting.fittings})
    )


def read_resting(data: bytes) -> Resting:
    """What a safetensors file holds; raises ContractError for another format, version or shape."""
    names = [field.name for field in fields(Resting)[:-1]]
    arrays, fittings = read_arrays(data, (_FORMAT, _VERSION), names, "fittings", _REMEDY)
    return Resting(**arrays, fittings=fittings)
