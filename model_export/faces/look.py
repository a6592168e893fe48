"""The look of a fitting: lights, spectrum and materials that the shader paints with.

Axes: L lights, M materials.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.faces.camera import Fitting
from model_export.faces.wearer import Wearer

MAX_LIGHTS = 10


@dataclass(frozen=True, slots=True)
class Look:
    """Light and reflectances of one fitting, linear, 1 = white under a light of strength 1."""

    lights_CL8: NDArray[np.float32]
    """For each camera and light: x y z of a direction or place (cm), is-point, strength, reference distance (cm), glint radius as
    cosine gap, use (0 all, 1 eyes only, 2 all but eyes). Strength 0 ends the list."""
    ambient_up: float
    ambient_down: float
    ambient_axis_3: NDArray[np.float32]
    skin: float
    pattern: float
    """Weight of the pattern mask."""
    hair: float
    hair_cover: float
    lips: float
    shade: float
    folds: float
    """Darkness of the folds that movements make."""
    gloss: float
    wrap: float
    """Softness of skin: light reaches past the terminator, 0 to 0.6."""
    occlusion: float
    """Darkening per cm of depth behind the surroundings."""
    inside: float
    """Darkening per cm behind the lips."""
    iris: float
    iris_texture: float
    limbal: float
    pupil: float
    sclera: float
    teeth: float
    gum: float
    lash: float
    glint: float
    iris_seed: float
    lash_count: float
    lash_length: float
    lash_cover: float
    background: NDArray[np.float32]
    """A small grey picture, stretched behind the head."""


def draw_look(rng: np.random.Generator, wearer: Wearer, fitting: Fitting) -> Look:
    """A look for a wearer in a fitting."""
    uniform = rng.uniform
    infrared = fitting.infrared
    lights_CL8 = np.stack([_lights(rng, fitting, camera) for camera in range(3)])
    if not fitting.headset:  # one room lights all crops
        lights_CL8[1:] = lights_CL8[0]
    skin = wearer.infrared_tone if infrared else wearer.tone
    lip_share = wearer.lip_shade + (0.6 * (1.0 - wearer.lip_shade) if infrared else 0.0)
    lip_share *= 1.0 - 0.45 * wearer.make_up * (0.3 if infrared else 1.0) * uniform(0.0, 1.0)
    iris = wearer.iris_shade if not infrared else 0.22 + 0.45 * wearer.iris_shade + uniform(-0.08, 0.1)
    axis_3 = rng.normal(0.0, 0.6, 3) + np.array([0.0, 1.0, 0.3])
    ambient = uniform(0.08, 0.6)
    tilt = uniform(0.1, 0.9)
    return Look(
        lights_CL8=lights_CL8,
        ambient_up=ambient,
        ambient_down=ambient * (1.0 - tilt),
        ambient_axis_3=(axis_3 / np.linalg.norm(axis_3)).astype(np.float32),
        skin=skin,
        pattern=uniform(0.3, 1.6) * (0.45 if infrared else 1.0),
        hair=min(0.9, wearer.hair_shade * (2.0 if infrared else 1.0)),
        hair_cover=uniform(0.6, 1.0),
        lips=skin * lip_share,
        shade=uniform(0.3, 1.0) * (0.6 if infrared else 1.0),
        folds=uniform(0.05, 0.3) + 0.4 * wearer.age * uniform(0.2, 1.0),
        gloss=uniform(0.0, 0.5) * (0.3 + wearer.gloss),
        wrap=uniform(0.05, 0.55),
        occlusion=uniform(0.4, 2.2),
        inside=uniform(0.25, 1.1),
        iris=float(np.clip(iris, 0.02, 0.8)),
        iris_texture=uniform(0.1, 0.6),
        limbal=wearer.limbal_ring,
        pupil=uniform(0.005, 0.04) if rng.random() < 0.95 else uniform(0.3, 0.9),
        sclera=wearer.sclera_shade * uniform(0.75, 1.05),
        teeth=wearer.teeth_shade,
        gum=float(np.clip(skin * uniform(0.5, 0.8), 0.12, 0.6)),
        lash=min(0.5, wearer.hair_shade * uniform(0.3, 0.9)),
        glint=uniform(0.3, 2.0),
        iris_seed=uniform(0.0, 100.0),
        lash_count=uniform(35.0, 75.0),
        lash_length=min(1.0, wearer.lash_length * (1.0 + 0.4 * wearer.make_up)),
        lash_cover=wearer.lash_density * (1.0 + 0.8 * wearer.make_up),
        background=_background(rng),
    )


def _lights(rng: np.random.Generator, fitting: Fitting, camera: int) -> NDArray[np.float32]:
    lights_L8 = np.zeros((MAX_LIGHTS, 8), np.float32)
    uniform = rng.uniform
    count = 0
    leds = int(rng.integers(1, 7)) if fitting.headset else (int(rng.integers(1, 3)) if rng.random() < 0.3 else 0)
    camera_3 = fitting.position_C3[camera].astype(np.float64)
    distance = float(np.linalg.norm(camera_3))
    ring = uniform(0.4, 2.5) if fitting.headset else uniform(2.0, 15.0)
    start = uniform(0.0, 2 * np.pi)
    total = uniform(0.5, 1.1)
    for led in range(leds):
        angle = start + 2 * np.pi * led / max(1, leds) + rng.normal(0.0, 0.25)
        place_3 = camera_3 + ring * np.array([np.cos(angle), np.sin(angle), uniform(-0.2, 0.3)])
        lights_L8[count] = (*place_3, 1.0, total / leds * uniform(0.5, 1.5), distance, uniform(0.0006, 0.004), 1.0)
        count += 1
    if leds:  # a ring of LEDs lights skin as one lamp in its middle would: a sixth of the cost
        middle_3 = lights_L8[:count, :3].mean(axis=0)
        lights_L8[count] = (*middle_3, 1.0, lights_L8[:count, 4].sum(), distance, 0.002, 2.0)
        count += 1
    rooms = int(rng.integers(0, 2)) if fitting.headset else int(rng.integers(1, 4))
    for _ in range(rooms):
        direction_3 = rng.normal(0.0, 1.0, 3) + np.array([0.0, 0.5, 1.1])
        direction_3 /= np.linalg.norm(direction_3)
        strength = uniform(0.05, 0.4) if fitting.headset else uniform(0.15, 0.9)
        lights_L8[count] = (*direction_3, 0.0, strength, 1.0, uniform(0.001, 0.03), 0.0)
        count += 1
    return lights_L8


def _background(rng: np.random.Generator) -> NDArray[np.float32]:
    cells = int(rng.integers(1, 7))
    level = rng.uniform(0.0, 0.8)
    picture = level + rng.uniform(0.0, 0.35) * rng.standard_normal((cells, cells))
    return np.clip(picture, 0.0, 1.2).astype(np.float32)
