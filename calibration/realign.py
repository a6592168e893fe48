"""Where the face is in the crops: found from the face at rest, so that crops can be cut where it should be.

A rig says where a camera's crop is, a head where in it the face is (model_export.contract.slip). Two questions are answered here,
always from a rest take whose crops are those of the rig:

    placed       how far is this face from where faces at rest are on average? The first thing a calibration asks: networks are
                 best where most faces were. Part of the answer is that faces differ, so only a share of it is followed.
    realigned    how far is it from where this wearer's face was when the head was fitted? Asked when a headset was put on again.

A slip moves every movement to another place of the crop, and a head that was fitted to this face suffers more than a universal
one. Offsets give back next to nothing of that; crops cut where the face is now give it back (docs/experiments.md).

Axes: T frame set, H W image, F feature, M feature of the map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.crops import crops_of
from calibration.features import TakeFeatures, features_of
from calibration.rested import rest_features
from model_export.contract import (
    CROP_SIZE_PX,
    LAST_COUNT,
    NO_SLIP,
    Bundle,
    Camera,
    Head,
    Slip,
    Take,
    followed_share,
    is_slip,
)
from model_export.contract.take import Encoding
from model_export.placing import LOOKS, seen_through

_MUST_FALL_TO: Final = 0.98
"""Distance of the map at rest from the head's reference, as a share of what it was; else what was read was no slip."""


@dataclass(frozen=True, slots=True)
class Realigned:
    """A head whose crops are cut where the face is now."""

    head: Head
    """The head itself where nothing moved; its version, parent and report stay."""
    seen: TakeFeatures
    """The rest as the head sees it."""
    slips: Mapping[Camera, Slip]
    """What each camera's face has moved since its crops were last cut anew, whether it is followed or not."""
    followed: tuple[Camera, ...]
    """Cameras whose crops move."""


def placed(rest: Take, bundle: Bundle) -> dict[Camera, Slip]:
    """How each camera's crops are to be cut so that this face is where most are; nothing for a bundle that does not know."""
    if bundle.resting is None:
        return {}
    found = _read(rest, bundle, {camera: bundle.resting.place(camera) for camera in rest.images}, {})
    return {camera: share for camera, slip in found.items() if (share := followed_share(slip)) != NO_SLIP}


def realigned(head: Head, rest: Take, bundle: Bundle) -> Realigned:
    """Follows what has moved since the head was fitted; cameras that were only placed, or were never, are placed anew."""
    now = features_of(moved_back(rest, head.slip), bundle)
    if bundle.resting is None:
        return Realigned(head, now, {}, ())
    references = {camera: map_M for camera, map_M in head.reference.items() if camera in rest.images}
    anew = {
        camera: bundle.resting.place(camera)
        for camera in rest.images
        if camera not in references and (head.head_version == 0 or camera in head.rest)
    }
    begin = {camera: slip for camera, slip in head.slip.items() if camera in references}
    total = {
        camera: followed_share(slip) if camera in anew else slip
        for camera, slip in _read(rest, bundle, references | anew, begin).items()
    }
    slips = {camera: head.slip.get(camera, NO_SLIP).inverse().then(slip) for camera, slip in total.items()}
    then = features_of(moved_back(rest, total), bundle)
    followed = tuple(
        camera
        for camera, slip in slips.items()
        if is_slip(slip) and (camera not in references or _nearer(then, now, camera, references[camera]))
    )
    if not followed:
        return Realigned(head, now, slips, ())
    features = {camera: (then if camera in followed else now).features[camera] for camera in now.features}
    moved = replace(head, slip={**head.slip, **{camera: total[camera] for camera in followed}})
    return Realigned(moved, TakeFeatures(rest.cue, rest.t_ns, features), slips, followed)


def _read(
    rest: Take, bundle: Bundle, references: Mapping[Camera, NDArray[np.float32]], begin: Mapping[Camera, Slip]
) -> dict[Camera, Slip]:
    """The slip of the rig's crops from where these maps [1024] are of, for cameras that saw enough rest."""
    assert bundle.resting is not None
    slips = {camera: begin.get(camera, NO_SLIP) for camera in references}
    for _ in range(LOOKS):
        seen = rest_features([features_of(moved_back(rest, slips), bundle)])
        slips = {
            camera: slips[camera].then(bundle.resting.slip(camera, seen[camera][LAST_COUNT:], map_M))
            for camera, map_M in references.items()
            if camera in seen
        }
    return slips


def _nearer(then: TakeFeatures, now: TakeFeatures, camera: Camera, reference_M: NDArray[np.float32]) -> bool:
    away = [np.linalg.norm(rest_features([one])[camera][LAST_COUNT:] - reference_M) for one in (then, now)]
    return bool(away[0] <= _MUST_FALL_TO * away[1])


def moved_back(take: Take, slips: Mapping[Camera, Slip]) -> Take:
    """The take's crops with these slips taken out, in gray8; cameras that are not named stay as they are cut."""
    if not slips:
        return take
    images = {}
    for camera, (crops_THW, seen_T) in crops_of(take).items():
        slip = slips.get(camera, NO_SLIP)
        images[camera] = tuple(
            seen_through(slip, crop_HW).tobytes() if seen else b""
            for crop_HW, seen in zip(crops_THW, seen_T, strict=True)
        )
    return Take(take.cue, Encoding.GRAY8, take.t_ns, images, (CROP_SIZE_PX, CROP_SIZE_PX), take.values_TE, take.gaze_T4)
