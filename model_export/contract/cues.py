"""The cues of set 1: what a wearer is asked to do in a calibration, and which expression units (EUs) that moves.

A take names its cue. The renderer performs cues for synthetic wearers, the session asks for them, targets read from them
which EUs were asked for: one list for the three.

Cue set versions
    1   20 cues: rest, lids and brows, dots to look at, the mouth, free movement.
"""

from dataclasses import dataclass
from typing import Final

from model_export.contract.errors import TakeError
from model_export.contract.expression_units import EU_INDEX

CUE_SET_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Cue:
    """One thing that a wearer is asked to do."""

    name: str
    """As in a take's `cue`."""
    prompt: str
    """What the wearer reads or hears."""
    eus: tuple[str, ...] = ()
    """EUs asked for, each to the wearer's full extent; none for rest, for looking at dots and for free movement."""
    dots_deg: tuple[tuple[float, float], ...] = ()
    """Dots to look at one after another, (yaw towards the wearer's left, pitch up), degrees."""
    repetitions: int = 2
    """How often the movement is made in one take: each time from rest to the apex and back."""
    seconds: float = 3.0
    """How long the take lasts."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.eus if name not in EU_INDEX]
        if unknown:
            raise TakeError(f"The EUs of cue {self.name!r} should be of EU set 1. Found {', '.join(unknown)}.")

    @property
    def eu_indices(self) -> tuple[int, ...]:
        """Places of the asked EUs in EU_NAMES."""
        return tuple(EU_INDEX[name] for name in self.eus)


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{side}" for name in names for side in ("Left", "Right"))


CUES: Final = (
    Cue("rest", "Relax your face and look ahead.", repetitions=1, seconds=3.0),
    Cue("eyes_closed", "Close both eyes gently, then open them.", _both("eyeBlink")),
    Cue("eyes_wide", "Open your eyes wide, then relax.", _both("eyeWide")),
    Cue("squint", "Squint as in bright light, then relax.", _both("eyeSquint", "cheekSquint")),
    Cue("brows_up", "Raise your brows, then relax.", _both("browInnerUp", "browOuterUp")),
    Cue("brows_down", "Pull your brows down, then relax.", _both("browDown")),
    Cue(
        "look",
        "Follow the dot with your eyes, head still.",
        dots_deg=((0, 0), (-20, 0), (20, 0), (0, 0), (0, 14), (0, -16), (-14, 10), (14, -10), (0, 0)),
        repetitions=1,
        seconds=8.0,
    ),
    Cue("jaw_open", "Open your mouth wide, then close it.", ("jawOpen",)),
    Cue("smile", "Smile broadly, then relax.", _both("mouthSmile")),
    Cue("frown", "Pull the corners of your mouth down, then relax.", _both("mouthFrown")),
    Cue("pucker", "Pucker your lips as for a kiss, then relax.", ("mouthPucker",)),
    Cue("funnel", "Form a wide O with your lips, then relax.", ("mouthFunnel",)),
    Cue("stretch", "Stretch your mouth wide with lips together, then relax.", _both("mouthStretch")),
    Cue("mouth_left", "Move your mouth to your left, then relax.", ("mouthLeft",)),
    Cue("mouth_right", "Move your mouth to your right, then relax.", ("mouthRight",)),
    Cue("lips_in", "Roll both lips in, then relax.", ("mouthRollUpper", "mouthRollLower")),
    Cue("cheeks", "Puff both cheeks, then relax.", _both("cheekPuff")),
    Cue("sneer", "Wrinkle your nose and show your upper teeth, then relax.", _both("noseSneer", "mouthUpperUp")),
    Cue("tongue", "Put your tongue out, then in.", ("tongueOut",)),
    Cue("free", "Talk and move your face as you like.", repetitions=1, seconds=10.0),
)
"""Cue set 1 in the order in which they are asked for; append, never rename."""

SCRIPT: Final = tuple(cue for cue in CUES if cue.name != "free")
"""What a calibration asks for: a minute. Ten seconds of free movement taught nothing beside it (docs/experiments.md); they are
what calibrations are judged on."""

_BY_NAME: Final = {cue.name: cue for cue in CUES}


def cue_by_name(name: str) -> Cue:
    """The cue of this name; raises TakeError for one that is not in cue set 1."""
    if name not in _BY_NAME:
        raise TakeError(f"A cue should be one of {', '.join(_BY_NAME)}. Found {name!r}.")
    return _BY_NAME[name]
