"""Reads the part of Wavefront OBJ that a FaceXModel folder uses: v, vt, f with v/vt/vn corners, usemtl.

Axes: V vertices, U texture coordinates, T triangles, 3 corners or coordinates.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_export.faces.errors import RigError


@dataclass(frozen=True, slots=True)
class ObjMesh:
    """A triangulated mesh; polygons were fanned from their first corner."""

    vertices_V3: NDArray[np.float32]
    """Positions in the file's unit (cm for FaceXModel)."""
    uv_U2: NDArray[np.float32]
    """Texture coordinates."""
    triangles_T3: NDArray[np.int32]
    """Vertex indices from 0."""
    uv_triangles_T3: NDArray[np.int32]
    """Texture indices from 0; all 0 where the file names none."""
    materials_T: NDArray[np.uint8]
    """Index into `material_names`."""
    material_names: tuple[str, ...]
    """In order of first use; "" for faces before any usemtl."""


def read_obj_vertices(path: Path) -> NDArray[np.float32]:
    """Vertex positions alone, float32 [V, 3]; an expression file needs no more."""
    lines = [line[2:] for line in _lines(path) if line.startswith("v ")]
    return _numbers(path, lines, 3)


def read_obj(path: Path) -> ObjMesh:
    """The whole mesh of an OBJ file."""
    positions: list[str] = []
    coordinates: list[str] = []
    triangles: list[tuple[int, int, int]] = []
    uv_triangles: list[tuple[int, int, int]] = []
    materials: list[int] = []
    names: list[str] = []
    current = -1
    for line in _lines(path):
        kind, _, rest = line.partition(" ")
        if kind == "v":
            positions.append(rest)
        elif kind == "vt":
            coordinates.append(rest)
        elif kind == "usemtl":
            name = rest.strip()
            if name not in names:
                names.append(name)
            current = names.index(name)
        elif kind == "f":
            if current < 0:
                names.append("")
                current = len(names) - 1
            corners = [_corner(path, text) for text in rest.split()]
            for second, third in pairwise(corners[1:]):
                triangles.append((corners[0][0], second[0], third[0]))
                uv_triangles.append((corners[0][1], second[1], third[1]))
                materials.append(current)
    vertices_V3 = _numbers(path, positions, 3)
    uv_U2 = _numbers(path, coordinates, 2) if coordinates else np.zeros((1, 2), np.float32)
    if not triangles:
        raise RigError(f"{path.name} should hold faces (lines 'f ...'). Found none.")
    triangles_T3 = np.array(triangles, np.int32)
    uv_triangles_T3 = np.array(uv_triangles, np.int32)
    for indices, count, what in ((triangles_T3, len(vertices_V3), "vertex"), (uv_triangles_T3, len(uv_U2), "texture")):
        if indices.min() < 0 or indices.max() >= count:
            raise RigError(f"{path.name}: {what} indices should lie in 1..{count}. Found one outside.")
    return ObjMesh(vertices_V3, uv_U2, triangles_T3, uv_triangles_T3, np.array(materials, np.uint8), tuple(names))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise RigError(
            f"{path.name} should be in the FaceXModel folder {path.parent.name!r}. Found no such file."
        ) from None
    except UnicodeDecodeError:
        raise RigError(f"{path.name} should be text in the OBJ format. Found bytes that are not UTF-8.") from None


def _corner(path: Path, text: str) -> tuple[int, int]:
    parts = text.split("/")
    try:
        return int(parts[0]) - 1, int(parts[1]) - 1 if len(parts) > 1 and parts[1] else 0
    except ValueError:
        raise RigError(f"{path.name}: a face corner should read v/vt/vn with whole numbers. Found {text!r}.") from None


def _numbers(path: Path, lines: list[str], width: int) -> NDArray[np.float32]:
    try:
        return np.array([line.split()[:width] for line in lines], np.float32).reshape(-1, width)
    except ValueError:
        raise RigError(
            f"{path.name}: a coordinate line should hold {width} numbers. Found one that does not."
        ) from None
