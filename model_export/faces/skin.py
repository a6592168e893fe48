"""Paints a wearer's skin on the rig's face texture: pores, spots, brows as strands, beard, lips, lines of age, make-up.

Five masks instead of a finished colour, so that each light (visible or infrared) can weigh them its own way.
Axes: S S texture rows and columns (row 0 at v = 1), 5 masks, 3 coordinates.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.faces.anatomy import MOUTH_REACH_CM
from model_export.faces.raster import Surface, rasterise
from model_export.faces.rig import FaceRig
from model_export.faces.wearer import Wearer

TEXTURE_PX: Final = 1024
PATTERN, HAIR, LIPS, SHADE, FOLDS = range(5)
"""Masks, uint8: pattern around 128 (pores, spots), hair cover, lips cover, shade (bags, lines, make-up),
folds that appear with movements."""
_BROW_AREA: Final = (0.2, 7.0, 3.9, 7.6)
"""|x| from, to and y from, to (cm) in which a polynomial takes front-view places to texture places."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where each texel of the face texture lies on the neutral face."""

    place_SS3: NDArray[np.float32]
    """cm; far away (1e3) where no skin is."""
    eyes_23: NDArray[np.float32]
    """Centres of the eyeballs, left first."""
    lips_3: NDArray[np.float32]
    brow_maps: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Coefficients [10, 2] from (x, y) to texel (column, row), left and right brow."""

    def area(self, left: float, right: float, bottom: float, top: float) -> tuple[slice, slice]:
        """The smallest rectangle of texels with all places of the face's front within these bounds (cm)."""
        x, y, z = (self.place_SS3[..., axis] for axis in range(3))
        inside = (x > left) & (x < right) & (y > bottom) & (y < top) & (z > 3.0)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            return slice(0, 0), slice(0, 0)
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def make_canvas(rig: FaceRig, eyes_23: NDArray[np.float32], lips_3: NDArray[np.float32]) -> Canvas:
    """The canvas of a rig; once a process."""
    face_T = np.array([rig.material_names[index] == "M_Face" for index in range(len(rig.material_names))])[
        rig.materials_T
    ]
    corners_N = rig.triangles_T3[face_T].reshape(-1)
    uv_N2 = rig.uv_U2[rig.uv_triangles_T3[face_T].reshape(-1)]
    flat_N3 = np.column_stack([uv_N2[:, 0] * TEXTURE_PX, (1.0 - uv_N2[:, 1]) * TEXTURE_PX, np.ones(len(uv_N2))])
    surface = Surface.empty(TEXTURE_PX, TEXTURE_PX)
    triangles_T3 = np.arange(len(corners_N), dtype=np.int32).reshape(-1, 3)
    rasterise(
        surface,
        flat_N3.astype(np.float32),
        triangles_T3,
        np.ones(len(triangles_T3), np.bool_),
        focal_px=1.0,
        centre_px=(0.0, 0.0),
    )
    hit_SS = surface.triangle_HW >= 0
    place_SS3 = np.full((TEXTURE_PX, TEXTURE_PX, 3), 1e3, np.float32)
    corners_N33 = rig.vertices_V3[rig.triangles_T3[face_T][surface.triangle_HW[hit_SS]]]
    place_SS3[hit_SS] = (corners_N33 * surface.weights_HW3[hit_SS][:, :, None]).sum(axis=1)
    maps: list[NDArray[np.float64]] = []
    for sign in (1.0, -1.0):
        x, y = place_SS3[..., 0] * sign, place_SS3[..., 1]
        low, high, bottom, top = _BROW_AREA
        rows, columns = np.nonzero((x > low) & (x < high) & (y > bottom) & (y < top) & (place_SS3[..., 2] > 3.0))
        if len(rows) < 50:
            maps.append(np.zeros((10, 2)))
            continue
        terms = _cubic(place_SS3[rows, columns, 0].astype(np.float64), place_SS3[rows, columns, 1].astype(np.float64))
        maps.append(
            np.asarray(
                np.linalg.lstsq(terms, np.column_stack([columns, rows]).astype(np.float64), rcond=None)[0], np.float64
            )
        )
    return Canvas(place_SS3, eyes_23, lips_3, (maps[0], maps[1]))


def paint_skin(canvas: Canvas, wearer: Wearer) -> NDArray[np.uint8]:
    """The five masks of a wearer, uint8 [S, S, 5]; about 0.1 s."""
    rng = np.random.default_rng([wearer.space, wearer.seed, 1])
    size = TEXTURE_PX
    texture = np.empty((size, size, 5), np.uint8)
    texture[..., PATTERN] = _pattern(rng, wearer)
    hair = np.zeros((size, size), np.uint8)
    for eye in range(2):
        _paint_brow(hair, rng, canvas, wearer, eye)
    if wearer.beard > 0.0:
        hair = np.maximum(hair, _beard(rng, wearer, canvas))
    texture[..., HAIR] = cv2.GaussianBlur(hair, (3, 3), 0.6)
    texture[..., LIPS] = 0
    area = canvas.area(-3.0, 3.0, float(canvas.lips_3[1]) - 2.0, float(canvas.lips_3[1]) + 1.5)
    texture[area][..., LIPS] = _lips(rng, canvas.place_SS3[area], canvas.lips_3)
    texture[..., SHADE] = _shade(rng, canvas, wearer)
    texture[..., FOLDS] = _folds(canvas, np.random.default_rng([wearer.space, wearer.seed, 3]))
    return texture


def _cubic(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    one = np.ones_like(x)
    return np.stack([one, x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3], axis=-1)


def _noise(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Smooth noise, standard deviation about 1 at `cells` bumps across the texture."""
    grid = rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(grid, (TEXTURE_PX, TEXTURE_PX), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def _pattern(rng: np.random.Generator, wearer: Wearer) -> NDArray[np.uint8]:
    blotch = 9.0 * _noise(rng, 14) + 5.0 * _noise(rng, 60)
    pores = (3.0 + 5.0 * wearer.age + 4.0 * wearer.gloss) * _noise(rng, 400)
    pattern = 128.0 + blotch + pores
    spots = np.zeros((TEXTURE_PX, TEXTURE_PX), np.uint8)
    count = int(rng.integers(0, 12) + 900 * wearer.freckles**2)
    for column, row, radius, depth in zip(
        rng.integers(0, TEXTURE_PX, count),
        rng.integers(0, TEXTURE_PX, count),
        rng.uniform(0.6, 3.2, count),
        rng.uniform(20, 110, count),
        strict=True,
    ):
        cv2.circle(spots, (int(column), int(row)), max(1, round(float(radius))), float(depth), -1, cv2.LINE_AA)
    return np.clip(pattern - cv2.GaussianBlur(spots, (5, 5), 1.0), 0, 255).astype(np.uint8)


def _paint_brow(hair: NDArray[np.uint8], rng: np.random.Generator, canvas: Canvas, wearer: Wearer, eye: int) -> None:
    sign = 1.0 if eye == 0 else -1.0
    shape = np.random.default_rng([wearer.space, wearer.seed, 2])  # both brows have one shape, strands of their own
    eye_y = float(canvas.eyes_23[eye, 1])
    arch, inner, outer = shape.uniform(0.05, 0.55), shape.uniform(0.8, 1.7), shape.uniform(4.7, 5.9)
    base = eye_y + 1.45 + wearer.brow_height_cm
    tail = shape.uniform(-0.55, 0.1)
    count = int(50 + 380 * wearer.brow_density)
    along = rng.beta(1.1, 1.25, count)
    width = wearer.brow_thickness_cm * np.interp(along, [0, 0.15, 0.55, 1.0], [0.75, 1.0, 0.8, 0.18])
    x = inner + (outer - inner) * along
    y = (
        base
        + arch * np.sin(np.pi * np.clip(along, 0, 1) ** 1.3)
        + tail * along**2
        + width * rng.uniform(-0.5, 0.5, count)
    )
    lean = np.interp(along, [0.0, 0.25, 1.0], [1.35, 0.65, -0.2]) + rng.normal(0.0, 0.25, count)
    length = rng.uniform(0.25, 0.6, count) * (0.6 + 0.6 * wearer.brow_density)
    steps = np.array([0.0, 0.5, 1.0])[:, None]
    bend = lean - 0.35 * steps
    xs, ys = x + steps * length * np.cos(bend), y + steps * length * np.sin(bend)
    texels = _cubic(sign * xs, ys) @ canvas.brow_maps[eye]
    lines = np.round(np.transpose(texels, (1, 0, 2)) * 8).astype(np.int32)
    for strength in (120, 185, 240):
        chosen = lines[rng.random(count) < 0.5]
        cv2.polylines(hair, list(chosen), False, strength, 1, cv2.LINE_AA, 3)
    # hairs between the strands: a soft ground
    soft = cv2.GaussianBlur(hair, (0, 0), 3.0)
    np.maximum(hair, (soft * (0.35 + 0.6 * wearer.brow_density)).clip(0, 255).astype(np.uint8), out=hair)


def _beard(rng: np.random.Generator, wearer: Wearer, canvas: Canvas) -> NDArray[np.uint8]:
    x, y, z = (canvas.place_SS3[..., axis] for axis in range(3))
    lips_y = float(canvas.lips_3[1])
    jaw = (y < lips_y + 0.2 * np.abs(x) - 0.9 + 0.35 * np.abs(x)) & (z > -1.0)
    lip_field = (x / 2.9) ** 2 + ((y - lips_y) / 1.05) ** 2
    moustache = (np.abs(x) < 3.0) & (y > lips_y + 0.75) & (y < lips_y + 2.0 - 0.3 * np.abs(x)) & (z > 9.5)
    kind = rng.random()
    field = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    if kind < 0.75:
        field[jaw & (lip_field > 1.0) & (np.abs(x) < MOUTH_REACH_CM)] = 1.0
    if kind > 0.15:
        field[moustache] = 1.0
    field = np.asarray(cv2.GaussianBlur(field, (0, 0), 9.0), np.float32)
    hairs = (rng.random((TEXTURE_PX, TEXTURE_PX), np.float32) < 0.10 + 0.25 * wearer.beard).astype(np.float32)
    if wearer.beard > 0.5:
        hairs = np.asarray(cv2.filter2D(hairs, -1, np.ones((5, 1), np.float32) / 2.0), np.float32)
    cover = field * (hairs * (90 + 165 * wearer.beard) + 110 * wearer.beard * (1 + 0.3 * _noise(rng, 90)))
    return np.asarray(np.clip(cover, 0, 255), np.uint8)


def _lips(rng: np.random.Generator, place_HW3: NDArray[np.float32], lips_3: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The red of the lips: between two bows that meet in the corners, up to the ridge of the rig's lips."""
    half = 2.5
    x, y, z = (place_HW3[..., axis] for axis in range(3))
    across = np.clip(np.abs(x) / half, 0.0, 1.0)
    upper = float(lips_3[1]) + 0.72 * rng.uniform(0.8, 1.1) * (1 - across**1.7) - 0.10 * np.exp(-((x / 0.35) ** 2))
    lower = float(lips_3[1]) - 1.02 * rng.uniform(0.85, 1.1) * (1 - across**2.2)
    soft = rng.uniform(0.04, 0.12)
    inside = np.minimum((upper - y) / soft, (y - lower) / soft)
    inside = np.where((np.abs(x) < half) & (z > 8.0), inside, -5.0)
    cover = 1.0 / (1.0 + np.exp(-np.clip(2.0 * inside, -30, 30)))
    creases = 1.0 - 0.18 * np.abs(np.sin(18.0 * x + rng.uniform(0.0, 6.3)))
    return np.asarray(255.0 * cover * creases, np.uint8)


def _shade(rng: np.random.Generator, canvas: Canvas, wearer: Wearer) -> NDArray[np.uint8]:
    """Darker places: bags under the eyes, lid crease, lines beside eyes and nose, eye shadow and eyeliner."""
    whole = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    crease_height, bag_depth = rng.uniform(0.75, 1.05), rng.uniform(0.75, 1.1)
    crease_strength = rng.uniform(0.0, 0.5)
    for eye in range(2):
        centre_x, centre_y, _ = (float(value) for value in canvas.eyes_23[eye])
        area = canvas.area(centre_x - 3.6, centre_x + 3.6, centre_y - 2.6, centre_y + 2.0)
        shade = whole[area]
        u, w = canvas.place_SS3[area][..., 0] - centre_x, canvas.place_SS3[area][..., 1] - centre_y
        near = np.abs(u) < 2.6
        crease = w - (crease_height - 0.12 * u**2)
        shade += near * crease_strength * np.exp(-((crease / 0.07) ** 2))
        bag = w + bag_depth - 0.08 * u**2
        shade += near * 0.35 * wearer.age * np.exp(-((bag / 0.22) ** 2))
        shade += near * 0.25 * wearer.age * np.exp(-(((bag + 0.35) / 0.09) ** 2))
        outward = u * (1.0 if eye == 0 else -1.0)
        for angle in rng.uniform(-0.5, 0.35, 4):
            line = w + 0.15 - angle * (outward - 1.9)
            shade += (
                wearer.age * 0.3 * np.exp(-((line / 0.05) ** 2)) * np.exp(-(((outward - 2.6) / 0.5) ** 2))
            ).astype(np.float32)
        if wearer.make_up > 0.0:
            lid = np.exp(-((u / 1.8) ** 2)) * np.exp(-(((w - 0.75) / 0.35) ** 2))
            liner = np.exp(-((u / 1.7) ** 4)) * np.exp(-((np.abs(w - 0.05) / 0.75) ** 6))
            shade += wearer.make_up * (0.45 * lid + 0.35 * liner)
    lips_y = float(canvas.lips_3[1])
    area = canvas.area(-4.5, 4.5, lips_y - 2.5, lips_y + 4.0)
    shade = whole[area]
    side, y = np.abs(canvas.place_SS3[area][..., 0]), canvas.place_SS3[area][..., 1]
    fold = side - (2.0 + 0.45 * (lips_y + 2.4 - y))
    shade += (0.4 * wearer.age * np.exp(-((fold / 0.10) ** 2)) * np.exp(-(((y - lips_y - 1.0) / 1.3) ** 2))).astype(
        np.float32
    )
    return np.asarray(np.clip(255.0 * whole, 0, 255), np.uint8)


def _folds(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lines that movements draw: frown, forehead, crow's feet, under the eye, beside the nose, dimples, chin."""
    whole = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    eye_y, lips_y = float(canvas.eyes_23[0, 1]), float(canvas.lips_3[1])

    def add(
        area: tuple[slice, slice], distance: NDArray[np.floating], width: float, reach: NDArray[np.floating]
    ) -> None:
        whole[area] += rng.uniform(0.5, 1.0) * np.exp(-((distance / width) ** 2) - np.clip(reach, 0.0, None) ** 4)

    area = canvas.area(-1.5, 1.5, eye_y - 1.0, eye_y + 2.6)
    x, y = canvas.place_SS3[area][..., 0], canvas.place_SS3[area][..., 1]
    for sign in (-1.0, 1.0):
        lean = rng.uniform(-0.1, 0.15)
        add(area, x - sign * (rng.uniform(0.3, 0.6) + lean * (y - eye_y - 1.2)), 0.08, np.abs(y - eye_y - 1.35) / 0.8)
    for height in (0.25, 0.6):
        add(area, y - eye_y - height + 0.15 * x**2, 0.07, np.abs(x) / 0.75)
    area = canvas.area(-5.5, 5.5, eye_y + 1.8, eye_y + 6.0)
    x, y = canvas.place_SS3[area][..., 0], canvas.place_SS3[area][..., 1]
    for height in (2.2, 2.75, 3.4, 4.1):
        wave = height + rng.normal(0.0, 0.1) + 0.12 * np.cos(np.abs(x) * 0.9)
        add(area, y - eye_y - wave, rng.uniform(0.05, 0.1), np.abs(x) / 4.6)
    for sign in (1.0, -1.0):
        area = canvas.area(min(sign * 1.3, sign * 6.8), max(sign * 1.3, sign * 6.8), eye_y - 2.4, eye_y + 1.2)
        x, y = canvas.place_SS3[area][..., 0] * sign, canvas.place_SS3[area][..., 1]
        for angle in rng.uniform(-0.7, 0.35, 5):
            add(area, y - eye_y + 0.3 - angle * (x - 5.0), 0.06, np.abs(x - 5.7) / 0.75)
        for depth in (0.95, 1.3):
            add(area, y - eye_y + depth - 0.09 * (x - 3.2) ** 2, 0.07, np.abs(x - 3.3) / 1.6)
        area = canvas.area(min(sign * 1.2, sign * 4.6), max(sign * 1.2, sign * 4.6), lips_y - 2.2, lips_y + 3.2)
        x, y = canvas.place_SS3[area][..., 0] * sign, canvas.place_SS3[area][..., 1]
        add(area, x - 1.9 - 0.42 * (lips_y + 2.3 - y), 0.11, np.abs(y - lips_y - 0.7) / 1.8)
        add(area, x - 3.35 - 0.25 * (y - lips_y) ** 2, 0.09, np.abs(y - lips_y) / 0.9)
    area = canvas.area(-1.9, 1.9, lips_y - 3.6, lips_y - 1.35)
    x, y = canvas.place_SS3[area][..., 0], canvas.place_SS3[area][..., 1]
    add(area, y - lips_y + 1.75 + 0.1 * x**2, 0.12, np.abs(x) / 1.5)
    pits = np.clip(_noise(rng, 70)[area], 0.0, 1.0)
    whole[area] += 0.6 * pits * np.exp(-((x / 1.2) ** 2) - ((y - lips_y + 2.5) / 0.8) ** 2)
    return np.asarray(np.clip(255.0 * whole, 0, 255), np.uint8)
