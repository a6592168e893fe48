"""A tiny face of simple solids, so that everything but the look of real faces is tested without the rig."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.faces.render import Stage
from model_export.faces.rig import MATERIALS, REQUIRED_EXPRESSIONS, FaceRig, load_packed_rig, save_packed_rig

Mesh = tuple[NDArray[np.float64], NDArray[np.int64]]


def grid(columns: int, rows: int) -> Mesh:
    """A square 0..1, counter-clockwise seen from +z; vertices [N, 2]."""
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    corners = np.arange(columns * rows).reshape(rows, columns)
    a, b, c, d = (
        corners[:-1, :-1].ravel(),
        corners[:-1, 1:].ravel(),
        corners[1:, 1:].ravel(),
        corners[1:, :-1].ravel(),
    )
    return np.column_stack([u.ravel(), v.ravel()]), np.concatenate(
        [np.column_stack([a, b, c]), np.column_stack([a, c, d])]
    )


def sphere(
    centre: tuple[float, float, float], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Front three quarters of a sphere: vertices, triangles, texture coordinates."""
    uv, triangles = grid(25, 25)
    longitude, latitude = (uv[:, 0] - 0.5) * 1.5 * np.pi, (uv[:, 1] - 0.5) * np.pi
    direction = np.column_stack(
        [np.sin(longitude) * np.cos(latitude), np.sin(latitude), np.cos(longitude) * np.cos(latitude)]
    )
    return direction * radius + np.array(centre), triangles, uv


def make_tiny_rig() -> FaceRig:
    """A flat mask with a mouth slit and eyes that stand out of it, with every material and expression of the real rig."""
    uv, triangles = grid(61, 81)
    mask = np.column_stack([(uv[:, 0] - 0.5) * 16, uv[:, 1] * 24 - 14, np.full(len(uv), 11.2)])
    mask[:, 2] -= 0.02 * mask[:, 0] ** 2
    rest = mask.copy()
    parts: list[tuple[str, NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]] = [
        ("M_Face", rest, triangles, uv)
    ]
    for side, name in ((1.0, "Left"), (-1.0, "Right")):
        parts.append((f"M_Sclera{name}", *sphere((side * 3.1, 3.6, 10.2), 1.5)))
        parts.append((f"M_Iris{name}", *sphere((side * 3.1, 3.6, 10.2), 1.4)))
    strip, band = grid(19, 6)
    for side in (1.0, -1.0):
        lash = np.column_stack([side * 3.1 + strip[:, 0] - 0.5, 4.4 + 0 * strip[:, 0], 11.5 + 0.5 * strip[:, 1]])
        parts.append(("M_EyeLashes", lash, band, strip))
    for name, depth, y in (("M_Teeth", 10.5, -3.4), ("M_GumsTongue", 9.0, -4.0), ("M_BackHead", 4.0, -3.0)):
        size = 30.0 if name == "M_BackHead" else 3.0
        flat, faces = grid(7, 7)
        sheet = np.column_stack([(flat[:, 0] - 0.5) * size, y + (flat[:, 1] - 0.5) * size, np.full(len(flat), depth)])
        parts.append((name, sheet, faces, flat))
    for name in ("M_EyeBlend", "M_EyeOcclusion", "M_LacrimalFluid"):
        flat, faces = grid(3, 3)
        parts.append((name, np.column_stack([flat, np.full(len(flat), 30.0)]), faces, flat))
    counts = np.cumsum([0, *(len(part[1]) for part in parts)])
    vertices = np.concatenate([part[1] for part in parts]).astype(np.float32)
    triangles_all = np.concatenate([part[2] + start for part, start in zip(parts, counts[:-1], strict=True)]).astype(
        np.int32
    )
    materials = np.concatenate([np.full(len(part[2]), MATERIALS.index(part[0]), np.uint8) for part in parts])
    rng = np.random.default_rng(0)
    offsets = np.zeros((len(REQUIRED_EXPRESSIONS), len(vertices), 3), np.float16)
    face = np.arange(len(mask))
    for index, expression in enumerate(REQUIRED_EXPRESSIONS):
        centre = np.array([rng.uniform(1.0, 4.0), rng.uniform(-6, 6)])
        if expression.endswith("_R"):
            centre[0] *= -1
        push = np.exp(-(((mask[:, :2] - centre) / 1.5) ** 2).sum(axis=1))
        offsets[index, face, 2] = 0.4 * push
        if expression == "jawOpen":
            offsets[index, face, 2] = 0
            offsets[index, face, 1] = np.where(mask[:, 1] < -3.35, -3.0, 0.0)
        if expression.startswith("eyeBlink"):
            side = 1.0 if expression.endswith("L") else -1.0
            lid = np.hypot(mask[:, 0] - side * 3.1, mask[:, 1] - 3.6) < 1.6
            offsets[index, face, 2] = np.where(lid, 1.5, 0.0)
    identity = rng.normal(0.0, 0.01, (4, len(vertices), 3)).astype(np.float16)
    return FaceRig(
        vertices,
        triangles_all,
        triangles_all,
        np.concatenate([part[3] for part in parts]).astype(np.float32) * 0.99,
        materials,
        MATERIALS,
        offsets,
        REQUIRED_EXPRESSIONS,
        identity,
    )


@pytest.fixture(scope="session")
def tiny_rig() -> FaceRig:
    return make_tiny_rig()


@pytest.fixture(scope="session")
def tiny_rig_path(tiny_rig: FaceRig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rig") / "tiny.npz"
    save_packed_rig(tiny_rig, path)
    return path


@pytest.fixture(scope="session")
def face_rig(face_rig_path: Path) -> FaceRig:
    return load_packed_rig(face_rig_path)


@pytest.fixture(scope="session")
def stage(face_rig: FaceRig) -> Stage:
    return Stage(face_rig)
