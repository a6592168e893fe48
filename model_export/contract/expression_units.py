"""The expression units (EUs) of set 1: their names, their order and the camera that sees each.

The order is part of the wire and bundle formats: append, never reorder. The names are ARKit's, with halves where a face
has halves (browInnerUp, cheekPuff) and pupilDilate added.

EU set versions
    1   56 names: 12 of the left eye, 12 of the right eye, 32 of the mouth.
"""

from typing import Final

EU_SET_VERSION: Final = 1

EYE_MOVEMENTS: Final = (
    "eyeBlink",
    "eyeWide",
    "eyeSquint",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "eyeLookDown",
    "browDown",
    "browInnerUp",
    "browOuterUp",
    "cheekSquint",
    "pupilDilate",
)
"""What one eye camera sees, without the side; the eye backbone and its head use this order for either eye."""

_MOUTH_WHOLE: Final = (
    "jawOpen",
    "jawForward",
    "jawLeft",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthRollUpper",
    "mouthRollLower",
    "mouthShrugUpper",
    "mouthShrugLower",
)
_MOUTH_HALVES: Final = (
    "mouthSmile",
    "mouthFrown",
    "mouthDimple",
    "mouthStretch",
    "mouthPress",
    "mouthLowerDown",
    "mouthUpperUp",
    "cheekPuff",
    "noseSneer",
)

LEFT_EYE_EUS: Final = tuple(f"{name}Left" for name in EYE_MOVEMENTS)
RIGHT_EYE_EUS: Final = tuple(f"{name}Right" for name in EYE_MOVEMENTS)
MOUTH_EUS: Final = (
    *_MOUTH_WHOLE,
    *(f"{name}{side}" for name in _MOUTH_HALVES for side in ("Left", "Right")),
    "tongueOut",
)

EU_NAMES: Final = (*LEFT_EYE_EUS, *RIGHT_EYE_EUS, *MOUTH_EUS)
"""The 56 expression units of set 1, in the order of every value array on the wire, in a bundle and in a head."""

EU_COUNT: Final = len(EU_NAMES)
EU_INDEX: Final = {name: index for index, name in enumerate(EU_NAMES)}
