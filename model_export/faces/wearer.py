"""A synthetic wearer: a face of its own, drawn from a seed.

Labels are shares of the wearer's own range: rig weight = resting offset + value * gain, so that equal labels look different
on different wearers, as on people. Axes: I identity modes, E expression units.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_COUNT, EU_INDEX, EU_NAMES

TRAIN_SPACE: Final = 0
HELD_OUT_SPACE: Final = 1
FAR_SPACE: Final = 2
"""First number of a wearer's seed sequence: held-out and far wearers can never meet a training wearer."""


@dataclass(frozen=True, slots=True)
class Wearer:
    """All that stays the same while one person wears headsets."""

    space: int
    """TRAIN_SPACE, HELD_OUT_SPACE or FAR_SPACE."""
    seed: int
    identity_I: NDArray[np.float32]
    """Weights of the rig's identity modes."""
    gain_E: NDArray[np.float32]
    """Rig weight that a value of 1 adds, 0.6 to 1.3."""
    rest_E: NDArray[np.float32]
    """Rig weight at rest, small."""
    gaze_range_deg: tuple[float, float, float, float]
    """Greatest rotation of an eye: in, out, up, down."""
    iris_radius_cm: float
    """0.54 to 0.64."""
    eye_radius_cm: float
    """Radius of the real-sized eyeball that carries the painted iris."""
    pupil_share: tuple[float, float]
    """Pupil radius as a share of the iris's at pupilDilate 0 and 1."""
    tone: float
    """Skin reflectance in visible light, 0.12 to 0.85."""
    infrared_tone: float
    """Skin reflectance in near infrared, where skins differ less."""
    lip_shade: float
    """Reflectance of the lips as a share of the skin's, visible light."""
    hair_shade: float
    """Reflectance of brows, lashes, stubble, hair."""
    brow_density: float
    """0 (nearly none) to 1 (thick)."""
    brow_height_cm: float
    brow_thickness_cm: float
    lash_density: float
    lash_length: float
    """Share of the rig's lash length that is drawn."""
    beard: float
    """0 (none) to 1 (full); stubble between."""
    freckles: float
    age: float
    """0 (smooth) to 1 (bags and lines)."""
    make_up: float
    """0 (none) to 1: dark lids and lips."""
    iris_shade: float
    """Reflectance of the iris, visible light."""
    limbal_ring: float
    """Strength of the dark ring around the iris."""
    sclera_shade: float
    teeth_shade: float
    gloss: float
    """Oiliness of the skin."""

    def summary(self) -> dict[str, Any]:
        """JSON values of all parameters, rounded."""
        return {
            key: np.round(value, 4).tolist() if isinstance(value, np.ndarray) else _rounded(value)
            for key, value in asdict(self).items()
        }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def draw_wearer(seed: int, space: int = TRAIN_SPACE, modes: int = 50) -> Wearer:
    """The wearer of a seed; the same numbers give the same wearer on every machine."""
    rng = np.random.default_rng([space, seed, 0])
    far = space == FAR_SPACE
    uniform = rng.uniform
    gain_E, rest_E = _ranges(rng, far)
    tone = float(np.clip(rng.beta(1.6, 1.3) * 0.78 + 0.10, 0.08, 0.9))
    dark = 1.0 - tone
    hair_shade = float(np.clip(rng.beta(1.0, 5.0) * (0.9 - 0.6 * dark) + 0.03, 0.02, 0.75))
    male = rng.random() < 0.5
    beard_kind = rng.random()
    beard = float(uniform(0.05, 0.5) if beard_kind < 0.4 else uniform(0.5, 1.0)) if male and beard_kind < 0.65 else 0.0
    iris_dark = rng.random() < 0.35 + 0.5 * dark
    return Wearer(
        space=space,
        seed=seed,
        identity_I=(rng.normal(0.0, 1.0, modes) * uniform(0.5, 1.3 if far else 1.0)).astype(np.float32),
        gain_E=gain_E,
        rest_E=rest_E,
        gaze_range_deg=(
            float(uniform(30, 40)),
            float(uniform(30, 40)),
            float(uniform(22, 30)),
            float(uniform(22, 30)),
        ),
        iris_radius_cm=float(uniform(0.54, 0.64)),
        eye_radius_cm=float(uniform(1.13, 1.27)),
        pupil_share=(float(uniform(0.22, 0.34)), float(uniform(0.58, 0.80))),
        tone=tone,
        infrared_tone=float(0.55 + 0.25 * tone + uniform(-0.08, 0.08)),
        lip_shade=float(uniform(0.55, 1.02)),
        hair_shade=hair_shade,
        brow_density=float(uniform(0.2, 1.0)),
        brow_height_cm=float(rng.normal(0.0, 0.16)),
        brow_thickness_cm=float(uniform(0.25, 0.62)),
        lash_density=float(uniform(0.1, 0.8)),
        lash_length=float(uniform(0.3, 0.8)),
        beard=beard,
        freckles=float(max(0.0, uniform(-1.0, 1.0))),
        age=float(rng.beta(1.2, 1.6)),
        make_up=float(uniform(0.2, 1.0)) if not male and rng.random() < 0.55 else 0.0,
        iris_shade=float(uniform(0.03, 0.14) if iris_dark else uniform(0.14, 0.5)),
        limbal_ring=float(uniform(0.0, 0.8)),
        sclera_shade=float(uniform(0.5, 0.95)),
        teeth_shade=float(uniform(0.5, 0.95)),
        gloss=float(uniform(0.0, 1.0)),
    )


def _ranges(rng: np.random.Generator, far: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Own gain and resting offset of each EU; halves of a face are alike, not equal."""
    low, high = (0.5, 1.4) if far else (0.6, 1.3)
    gain_E = np.empty(EU_COUNT)
    rest_E = np.empty(EU_COUNT)
    for index, name in enumerate(EU_NAMES):
        partner = EU_INDEX.get(name.removesuffix("Right") + "Left") if name.endswith("Right") else None
        if partner is not None and name not in ("jawRight", "mouthRight"):
            gain_E[index] = gain_E[partner] * rng.normal(1.0, 0.08)
            rest_E[index] = rest_E[partner] + rng.normal(0.0, 0.02)
        else:
            gain_E[index] = rng.uniform(low, high)
            rest_E[index] = rng.normal(0.0, 0.045)
    gain_E = np.clip(gain_E, low, high)
    rest_E = np.clip(rest_E, -0.06, 0.14)
    for side in ("Left", "Right"):
        blink = EU_INDEX[f"eyeBlink{side}"]
        # droopy or wide-eyed at rest, but a whole blink closes every eye
        rest_E[blink] = rng.uniform(-0.05, 0.22) if side == "Left" else rest_E[blink - 12] + rng.normal(0.0, 0.02)
        gain_E[blink] = 1.02 - rest_E[blink]
        for unit in ("In", "Out", "Up", "Down"):
            rest_E[EU_INDEX[f"eyeLook{unit}{side}"]] = 0.0
        for unit in ("pupilDilate",):
            rest_E[EU_INDEX[f"{unit}{side}"]] = 0.0
            gain_E[EU_INDEX[f"{unit}{side}"]] = 1.0
    for unit in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        rest_E[EU_INDEX[unit]] *= 0.6
    # the lips of the rig stand open by half a millimetre; most mouths rest closed
    rest_E[EU_INDEX["jawOpen"]] = rng.uniform(-0.035, 0.03)
    rest_E[EU_INDEX["mouthClose"]] = 0.0
    gain_E[EU_INDEX["jawOpen"]] = rng.uniform(low, min(high, 1.1))
    # lips meet when both are equal, whatever the wearer's jaw
    gain_E[EU_INDEX["mouthClose"]] = gain_E[EU_INDEX["jawOpen"]]
    rest_E[EU_INDEX["tongueOut"]] = 0.0
    return gain_E.astype(np.float32), rest_E.astype(np.float32)


def gaze_degrees(wearer: Wearer, values_E: NDArray[np.float32]) -> NDArray[np.float32]:
    """Yaw and pitch of the left, then of the right eye, float32 [4]; yaw positive to the subject's left, pitch up."""
    into, out, up, down = wearer.gaze_range_deg
    angles = np.empty(4, np.float32)
    for eye, (side, outward) in enumerate((("Left", 1.0), ("Right", -1.0))):
        look = {way: float(values_E[EU_INDEX[f"eyeLook{way}{side}"]]) for way in ("In", "Out", "Up", "Down")}
        angles[2 * eye] = outward * (look["Out"] * out - look["In"] * into)
        angles[2 * eye + 1] = look["Up"] * up - look["Down"] * down
    return angles
