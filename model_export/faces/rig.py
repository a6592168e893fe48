"""The face rig: a neutral mesh, its expression offsets and identity modes, from the packed file or a FaceXModel folder.

The rig itself (ICT-FaceKit, MIT, USC ICT) is never shipped; a user clones it and imports its FaceXModel folder.
Axes: V vertices, T triangles, U texture coordinates, R rig expressions, I identity modes, E expression units.
Space: +x the subject's left, +y up, +z forward, cm.

Packed file, history of versions
    1   npz of V, tri, tuv, uv, tm, mats, E, names, I (float16 offsets), read without pickle.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_NAMES
from model_export.faces.errors import RigError
from model_export.faces.obj import read_obj, read_obj_vertices

_NEUTRAL_FILE: Final = "generic_neutral_mesh.obj"
_IDENTITY_LIMIT: Final = 50
"""Later modes move the face by less than half a millimetre."""

MATERIALS: Final = (
    "M_BackHead",
    "M_EyeBlend",
    "M_EyeLashes",
    "M_EyeOcclusion",
    "M_Face",
    "M_GumsTongue",
    "M_IrisLeft",
    "M_IrisRight",
    "M_LacrimalFluid",
    "M_ScleraLeft",
    "M_ScleraRight",
    "M_Teeth",
)
"""Materials of ICT-FaceKit; the anatomy is found through them."""


def _rig_names(unit: str) -> Mapping[str, float]:
    """Rig expressions, with weights, that make an EU of value 1; empty for an EU that is not a rig shape."""
    if unit == "tongueOut" or unit.startswith("pupilDilate"):
        return MappingProxyType({})
    for side, suffix in (("Left", "_L"), ("Right", "_R")):
        if unit.endswith(side) and unit not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            name = unit.removesuffix(side)
            if name == "cheekSquint":  # the rig splits it: lid side and cheek side
                return MappingProxyType({f"cheekSquint{suffix}": 0.7, f"cheekRaiser{suffix}": 0.5})
            return MappingProxyType({f"{name}{suffix}": 1.0})
    # the rig's mouthClose overshoots: at 1 with an open jaw the lips would cross by 4 mm
    return MappingProxyType({unit: 0.9 if unit == "mouthClose" else 1.0})


RIG_NAMES: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType({unit: _rig_names(unit) for unit in EU_NAMES})
"""EU name -> rig expressions with weights; empty for pupilDilate (painted) and tongueOut (the tongue mesh is moved)."""

REQUIRED_EXPRESSIONS: Final = tuple(sorted({name for names in RIG_NAMES.values() for name in names}))
"""Rig expressions without which an EU would have no shape."""


@dataclass(frozen=True, slots=True)
class FaceRig:
    """A face that can be posed; checked when made."""

    vertices_V3: NDArray[np.float32]
    """Neutral face, cm."""
    triangles_T3: NDArray[np.int32]
    """Corners, counter-clockwise seen from outside."""
    uv_triangles_T3: NDArray[np.int32]
    """Corners' indices into `uv_U2`."""
    uv_U2: NDArray[np.float32]
    """Texture coordinates, v up; each material's in a square of its own."""
    materials_T: NDArray[np.uint8]
    """Index into `material_names`."""
    material_names: tuple[str, ...]
    offsets_RV3: NDArray[np.float16]
    """Full expression minus neutral, cm."""
    offset_names: tuple[str, ...]
    identity_IV3: NDArray[np.float16]
    """Identity modes, cm for a weight of 1."""

    def __post_init__(self) -> None:
        count = len(self.vertices_V3)
        checks = (
            ("offsets", self.offsets_RV3.shape, (len(self.offset_names), count, 3)),
            ("identity modes", self.identity_IV3.shape, (len(self.identity_IV3), count, 3)),
            ("texture triangles", self.uv_triangles_T3.shape, self.triangles_T3.shape),
            ("triangle materials", self.materials_T.shape, (len(self.triangles_T3),)),
        )
        for what, found, expected in checks:
            if found != expected:
                raise RigError(f"{what} of the rig should have shape {expected}. Found {found}.")
        if self.triangles_T3.min() < 0 or self.triangles_T3.max() >= count:
            raise RigError(f"triangles of the rig should name vertices 0..{count - 1}. Found one outside.")
        missing = [name for name in MATERIALS if name not in self.material_names]
        if missing:
            raise RigError(f"the rig should have the materials of ICT-FaceKit. Missing: {', '.join(missing)}.")
        missing = [name for name in REQUIRED_EXPRESSIONS if name not in self.offset_names]
        if missing:
            raise RigError(f"the rig should have an expression for each EU. Missing: {', '.join(missing)}.")

    def unit_offsets(self, vertices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Offsets of each EU on some vertices, float32 [E, len(vertices), 3]; zero for pupilDilate and tongueOut."""
        offsets_EV3 = np.zeros((len(EU_NAMES), len(vertices), 3), np.float32)
        for index, unit in enumerate(EU_NAMES):
            for name, weight in RIG_NAMES[unit].items():
                offsets_EV3[index] += weight * self.offsets_RV3[self.offset_names.index(name), vertices].astype(
                    np.float32
                )
        return offsets_EV3

    def digest(self) -> str:
        """sha256 over all arrays and names, the same however the rig was packed."""
        sha = hashlib.sha256()
        for array in (
            self.vertices_V3,
            self.triangles_T3,
            self.uv_triangles_T3,
            self.uv_U2,
            self.materials_T,
            self.offsets_RV3,
            self.identity_IV3,
        ):
            sha.update(np.ascontiguousarray(array).tobytes())
        sha.update("\n".join((*self.material_names, *self.offset_names)).encode())
        return sha.hexdigest()


def load_rig(path: Path) -> FaceRig:
    """The rig of a packed .npz file or of a clone's FaceXModel folder."""
    return import_facexmodel(path) if path.is_dir() else load_packed_rig(path)


def load_packed_rig(path: Path) -> FaceRig:
    """The rig of a packed .npz file."""
    try:
        with np.load(path, allow_pickle=False) as packed:
            return FaceRig(
                packed["V"].astype(np.float32),
                packed["tri"].astype(np.int32),
                packed["tuv"].astype(np.int32),
                packed["uv"].astype(np.float32),
                packed["tm"].astype(np.uint8),
                tuple(str(name) for name in packed["mats"]),
                packed["E"].astype(np.float16),
                tuple(str(name) for name in packed["names"]),
                packed["I"].astype(np.float16),
            )
    except FileNotFoundError:
        raise RigError(f"a packed rig or FaceXModel folder should be at {path}. Found nothing there.") from None
    except KeyError as missing:
        raise RigError(f"{path.name} should hold V, tri, tuv, uv, tm, mats, E, names, I. Missing: {missing}.") from None
    except (BadZipFile, ValueError, OSError) as damaged:
        raise RigError(f"{path.name} should be a packed rig (.npz). Found: {damaged}") from damaged


def save_packed_rig(rig: FaceRig, path: Path) -> None:
    """Write the rig as one packed .npz file, about 10 MB for ICT-FaceKit."""
    small = len(rig.vertices_V3) <= np.iinfo(np.uint16).max and len(rig.uv_U2) <= np.iinfo(np.uint16).max
    index = np.uint16 if small else np.int32
    np.savez_compressed(
        path,
        V=rig.vertices_V3,
        tri=rig.triangles_T3.astype(index),
        tuv=rig.uv_triangles_T3.astype(index),
        uv=rig.uv_U2,
        tm=rig.materials_T,
        mats=np.array(rig.material_names),
        E=rig.offsets_RV3,
        names=np.array(rig.offset_names),
        I=rig.identity_IV3,
    )


def import_facexmodel(folder: Path) -> FaceRig:
    """The rig of a clone's FaceXModel folder: generic_neutral_mesh.obj, an .obj for each expression, identity000.obj on.

    Takes about a minute for the full model; save it packed.
    """
    neutral = read_obj(folder / _NEUTRAL_FILE)
    others = sorted(path for path in folder.glob("*.obj") if path.name != _NEUTRAL_FILE)
    identities = [path for path in others if path.stem.startswith("identity")][:_IDENTITY_LIMIT]
    expressions = [path for path in others if not path.stem.startswith("identity")]
    if not identities:
        raise RigError(
            f"{folder.name} should hold identity000.obj and its followers. Found none; clone ICT-FaceKit whole."
        )

    def offsets(paths: list[Path]) -> NDArray[np.float16]:
        rows = []
        for path in paths:
            vertices_V3 = read_obj_vertices(path)
            if vertices_V3.shape != neutral.vertices_V3.shape:
                raise RigError(
                    f"{path.name} should have {len(neutral.vertices_V3)} vertices as {_NEUTRAL_FILE}. Found {len(vertices_V3)}."
                )
            rows.append((vertices_V3 - neutral.vertices_V3).astype(np.float16))
        return np.stack(rows)

    return FaceRig(
        neutral.vertices_V3,
        neutral.triangles_T3,
        neutral.uv_triangles_T3,
        neutral.uv_U2,
        neutral.materials_T,
        neutral.material_names,
        offsets(expressions),
        tuple(path.stem for path in expressions),
        offsets(identities),
    )
