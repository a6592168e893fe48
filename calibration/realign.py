"""A headset that slipped: how far, from the face at rest, and pictures as they were before.

A slip moves every movement to another place of the crop, and a head that was fitted to this face suffers more than a universal
one. Offsets give back next to nothing of that; crops cut where the face is now give it back (docs/experiments.md).

Axes: T frame set, H W image, F feature.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from calibration.crops import crops_of
from calibration.features import TakeFeatures, features_of
from calibration.rested import rest_features
from model_export.contract import CROP_SIZE_PX, LAST_COUNT, NO_SLIP, Bundle, Camera, Head, Slip, Take
from model_export.contract.take import Encoding
from model_export.seen_through import seen_through

_LOOKS: Final = 3
"""What a slip is read off is linear in small ones; large ones are read again after they are taken out."""
_LEAST_PX: Final = 1.0
"""Less is what the reading is off by."""
_LEAST_DEG: Final = 1.0
_MOST_PX: Final = 16.0
"""More was never learnt and would leave the crop; the headset should be put on again."""
_MOST_DEG: Final = 10.0
_MUST_FALL_TO: Final = 0.98
"""Distance of the map at rest from the reference, as a share of what it was; else what was read was no slip."""


@dataclass(frozen=True, slots=True)
class Realigned:
    """A head whose crops are cut where the face is now."""

    head: Head
    """The head itself where nothing moved; its version, parent and report stay."""
    seen: TakeFeatures
    """The rest as the head sees it."""
    slips: Mapping[Camera, Slip]
    """Slip since the crops were last cut anew, of each camera of which it is known, whether it is followed or not."""
    followed: tuple[Camera, ...]
    """Cameras whose crops move."""


def realigned(head: Head, rest: Take, bundle: Bundle) -> Realigned:
    """Follows the slip that a rest take shows, whose crops were cut as this head wants them; cameras without reference stay."""
    seen = features_of(rest, bundle)
    if bundle.resting is None or not head.reference:
        return Realigned(head, seen, {}, ())
    slips = {camera: NO_SLIP for camera in head.reference if camera in seen.features}
    features = seen
    for _ in range(_LOOKS):
        found = _read(head, features, bundle)
        slips = {camera: slips[camera].then(slip) for camera, slip in found.items()}
        features = features_of(moved_back(rest, slips), bundle)
    followed = tuple(
        camera
        for camera, slip in slips.items()
        if _is_slip(slip) and _away(head, features, camera) <= _MUST_FALL_TO * _away(head, seen, camera)
    )
    if not followed:
        return Realigned(head, seen, slips, ())
    total = {camera: head.slip.get(camera, NO_SLIP).then(slips[camera]) for camera in followed}
    return Realigned(
        replace(head, slip={**head.slip, **total}),
        TakeFeatures(
            rest.cue,
            rest.t_ns,
            {camera: (features if camera in followed else seen).features[camera] for camera in seen.features},
        ),
        slips,
        followed,
    )


def _read(head: Head, seen: TakeFeatures, bundle: Bundle) -> dict[Camera, Slip]:
    assert bundle.resting is not None
    rest = rest_features([seen])
    return {
        camera: bundle.resting.slip(camera, rest[camera][LAST_COUNT:], reference_M)
        for camera, reference_M in head.reference.items()
        if camera in rest
    }


def _is_slip(slip: Slip) -> bool:
    large = slip.length_px >= _LEAST_PX or abs(slip.turn_deg) >= _LEAST_DEG
    return large and slip.length_px <= _MOST_PX and abs(slip.turn_deg) <= _MOST_DEG


def _away(head: Head, seen: TakeFeatures, camera: Camera) -> float:
    """How far a camera's map at rest is from the reference."""
    return float(np.linalg.norm(rest_features([seen])[camera][LAST_COUNT:] - head.reference[camera]))


def moved_back(take: Take, slips: Mapping[Camera, Slip]) -> Take:
    """The take's crops with these slips taken out, in gray8; cameras that are not named stay as they are cut."""
    images = {}
    for camera, (crops_THW, seen_T) in crops_of(take).items():
        slip = slips.get(camera, NO_SLIP)
        images[camera] = tuple(
            (crop_HW if slip == NO_SLIP else seen_through(slip, crop_HW)).tobytes() if seen else b""
            for crop_HW, seen in zip(crops_THW, seen_T, strict=True)
        )
    return Take(take.cue, Encoding.GRAY8, take.t_ns, images, (CROP_SIZE_PX, CROP_SIZE_PX), take.values_TE, take.gaze_T4)
