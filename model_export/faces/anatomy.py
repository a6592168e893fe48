"""Where things are in the rig: eyeballs, lashes, tongue, lips, and the triangles that each camera can see.

Everything is found through materials and geometry, so that a FaceXModel import and the packed rig agree.
Axes: V vertices of the rig, P posed vertices (those some camera can see), T triangles, C camera, E expression units.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.faces.rig import FaceRig

SKIN: Final = 0
HEAD: Final = 1
EYE: Final = 2
GUM: Final = 3
TONGUE: Final = 4
TEETH: Final = 5
SOCKET: Final = 6
LASH: Final = 7
"""Part of a triangle, which the shader paints by."""

EYE_REACH_CM: Final = 7.4
MOUTH_REACH_CM: Final = 9.5
"""Triangles farther than this from a camera's target are never in its picture."""


@dataclass(frozen=True, slots=True)
class CameraMesh:
    """What one camera can see; triangles index into its own vertices, `seen_P` of the posed ones."""

    seen_P: NDArray[np.intp]
    """Posed vertices that the camera can see."""
    triangles_T3: NDArray[np.int32]
    uv_T32: NDArray[np.float32]
    """Texture coordinates of the corners, in 0..1 of their own material."""
    part_T: NDArray[np.uint8]
    two_sided_T: NDArray[np.bool_]
    lashes_T3: NDArray[np.int32]
    """Lash triangles, drawn after all others as strands."""
    lash_uv_T32: NDArray[np.float32]
    """Place along the lid 0..1 and from root 0 to tip 1; 2 is added to the first for lower lashes."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """Expression offsets without the vertices that an EU leaves in place: most move a tenth of the face."""

    starts_E: NDArray[np.int64]
    """First row of each EU, and the end, [57]."""
    vertices_N: NDArray[np.int32]
    offsets_N3: NDArray[np.float32]
    """cm for a rig weight of 1."""


def _sparse(offsets_EP3: NDArray[np.float32]) -> Offsets:
    units, vertices = np.nonzero(np.abs(offsets_EP3).max(axis=2) > 5e-4)
    starts_E = np.searchsorted(units, np.arange(len(offsets_EP3) + 1)).astype(np.int64)
    return Offsets(starts_E, vertices.astype(np.int32), np.ascontiguousarray(offsets_EP3[units, vertices]))


@dataclass(frozen=True, slots=True)
class Lids:
    """Points of the lid margins, one above the other, at a few places across the eye."""

    upper_P: NDArray[np.intp]
    lower_P: NDArray[np.intp]
    closing_cm: NDArray[np.float32]
    """How much a rig weight of 1 on the blink narrows the gap at each place."""
    closed_cm: NDArray[np.float32]
    """Gap of the neutral face when its blink has weight 1 and it is closed; slightly negative where lids overlap."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The rig, cut to what the cameras see."""

    posed_P: NDArray[np.intp]
    """Rig vertices that are posed."""
    neutral_P3: NDArray[np.float32]
    offsets: "Offsets"
    """Offsets of the 56 EUs."""
    identity_IP3: NDArray[np.float32]
    normals_T3: NDArray[np.int32]
    """All posed triangles, for vertex normals."""
    eyeball_P: tuple[NDArray[np.intp], NDArray[np.intp]]
    """Posed vertices of the left and right sclera shell."""
    tongue_P: NDArray[np.intp]
    lips_P: tuple[int, int]
    """Posed vertices at the middle of the upper and the lower lip, where they meet."""
    lids: tuple["Lids", "Lids"]
    """Margins of the left and the right eye's lids."""
    meshes_C: tuple[CameraMesh, CameraMesh, CameraMesh]
    """left_eye, right_eye, mouth."""


def study(rig: FaceRig) -> Anatomy:
    """The anatomy of a rig; about half a second, once a process."""
    material = np.array(rig.material_names)[rig.materials_T]
    parts_T = _parts(rig, material)
    centroids_T3 = rig.vertices_V3[rig.triangles_T3].mean(axis=1)
    eyes = [np.unique(rig.triangles_T3[material == f"M_Sclera{side}"]) for side in ("Left", "Right")]
    centres = [fit_sphere(rig.vertices_V3[eye])[0] for eye in eyes]
    upper, lower = _lip_middles(rig, material)
    lips_3 = rig.vertices_V3[[upper, lower]].mean(axis=0)
    corners_T33 = rig.vertices_V3[rig.triangles_T3]
    normals_T3 = np.cross(corners_T33[:, 1] - corners_T33[:, 0], corners_T33[:, 2] - corners_T33[:, 0])
    normals_T3 /= np.maximum(np.linalg.norm(normals_T3, axis=1, keepdims=True), 1e-12)
    visible_CT = []
    for camera in range(3):
        target_3, reach = (centres[camera], EYE_REACH_CM) if camera < 2 else (lips_3, MOUTH_REACH_CM)
        away_T2 = (centroids_T3 - target_3)[:, :2]
        # the neck stays whole: cameras before the mouth see it far below the chin
        away_T2[:, 1] = np.where(away_T2[:, 1] < 0.0, 0.7 * away_T2[:, 1], away_T2[:, 1])
        near_T = np.linalg.norm(away_T2, axis=1) < reach
        wanted_T = near_T & (parts_T != 255) & (centroids_T3[:, 2] > -5.0)
        if camera < 2:
            side = 1.0 if camera == 0 else -1.0
            wanted_T &= ~np.isin(parts_T, (GUM, TONGUE, TEETH, SOCKET))
            # up to the far side of the nose; the other eye has its own camera
            wanted_T &= centroids_T3[:, 0] * side > np.where(np.isin(parts_T, (EYE, LASH)), 0.0, -2.4)
        else:
            wanted_T &= ~np.isin(parts_T, (LASH, EYE))
            wanted_T &= centroids_T3[:, 1] < lips_3[1] + 5.2
            # through the lips a camera sees the front and the outer sides of teeth and gums, and no molars
            outward_T = normals_T3[:, 2] + 0.4 * np.sign(centroids_T3[:, 0]) * normals_T3[:, 0] > -0.15
            deep = ~np.isin(parts_T, (GUM, TEETH)) | ((centroids_T3[:, 2] > lips_3[2] - 4.5) & outward_T)
            wanted_T &= deep
        visible_CT.append(wanted_T)
    union_T = np.logical_or.reduce(visible_CT)
    posed_P = np.unique(rig.triangles_T3[union_T]).astype(np.intp)
    place_V = np.full(len(rig.vertices_V3), -1, np.int32)
    place_V[posed_P] = np.arange(len(posed_P))
    lash_uv_V2 = _lash_coordinates(rig, material)

    def mesh(wanted_T: NDArray[np.bool_]) -> CameraMesh:
        solid_T, lash_T = wanted_T & (parts_T != LASH), wanted_T & (parts_T == LASH)
        seen = np.unique(rig.triangles_T3[wanted_T])
        own_V = np.full(len(rig.vertices_V3), -1, np.int32)
        own_V[seen] = np.arange(len(seen))
        return CameraMesh(
            place_V[seen].astype(np.intp),
            np.ascontiguousarray(own_V[rig.triangles_T3[solid_T]]),
            np.ascontiguousarray(rig.uv_U2[rig.uv_triangles_T3[solid_T]] % 1.0, np.float32),
            np.ascontiguousarray(parts_T[solid_T]),
            np.zeros(int(solid_T.sum()), np.bool_),
            np.ascontiguousarray(own_V[rig.triangles_T3[lash_T]]),
            np.ascontiguousarray(lash_uv_V2[rig.triangles_T3[lash_T]]),
        )

    tongue = np.unique(rig.triangles_T3[parts_T == TONGUE])
    return Anatomy(
        posed_P,
        rig.vertices_V3[posed_P],
        _sparse(rig.unit_offsets(posed_P)),
        rig.identity_IV3[:, posed_P].astype(np.float32),
        np.ascontiguousarray(place_V[rig.triangles_T3[union_T & (parts_T != LASH)]]),
        (place_V[eyes[0]].astype(np.intp), place_V[eyes[1]].astype(np.intp)),
        place_V[tongue].astype(np.intp),
        (int(place_V[upper]), int(place_V[lower])),
        (_lids(rig, material, centres[0], "L", place_V), _lids(rig, material, centres[1], "R", place_V)),
        (mesh(visible_CT[0]), mesh(visible_CT[1]), mesh(visible_CT[2])),
    )


def fit_sphere(points_N3: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Centre and radius of the sphere nearest to points in the least-squares sense (linear form of |p - c|^2 = r^2)."""
    points = points_N3.astype(np.float64)
    matrix = np.column_stack([2.0 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(matrix, (points**2).sum(axis=1), rcond=None)[0]
    centre_3 = solution[:3]
    return centre_3, float(np.sqrt(solution[3] + centre_3 @ centre_3))


def _parts(rig: FaceRig, material: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Part of each triangle; 255 for helper shells, iris shells (painted instead) and the backs of the eye sockets."""
    parts_T = np.full(len(rig.triangles_T3), 255, np.uint8)
    parts_T[material == "M_Face"] = SKIN
    parts_T[(material == "M_ScleraLeft") | (material == "M_ScleraRight")] = EYE
    parts_T[material == "M_EyeLashes"] = LASH
    parts_T[material == "M_Teeth"] = TEETH
    parts_T[material == "M_GumsTongue"] = GUM
    rows = np.flatnonzero(material == "M_GumsTongue")
    labels = _islands(rig.uv_triangles_T3[rows])
    # the island whose middle lies nearest to where a resting tongue's front is, under and behind the lips
    upper, lower = _lip_middles(rig, material)
    goal_3 = rig.vertices_V3[[upper, lower]].mean(axis=0) + np.array([0.0, -0.5, -4.3], np.float32)
    distances = {
        label: float(
            np.linalg.norm(rig.vertices_V3[rig.triangles_T3[rows[labels == label]]].mean(axis=(0, 1)) - goal_3)
        )
        for label in np.unique(labels)
    }
    parts_T[rows[labels == min(distances, key=lambda label: distances[label])]] = TONGUE
    rows = np.flatnonzero(material == "M_BackHead")
    labels = _islands(rig.triangles_T3[rows])
    sizes = {label: int((labels == label).sum()) for label in np.unique(labels)}
    outer = max(
        sizes, key=lambda label: float(np.ptp(rig.vertices_V3[rig.triangles_T3[rows[labels == label]]][..., 1]))
    )
    for label in sizes:
        chosen = rows[labels == label]
        if label == outer:
            parts_T[chosen] = HEAD
        elif float(np.abs(rig.vertices_V3[rig.triangles_T3[chosen]][..., 0].mean())) < 0.5:
            parts_T[chosen] = SOCKET
    return parts_T


def _islands(corners_T3: NDArray[np.int32]) -> NDArray[np.intp]:
    """Label of the connected piece of each triangle (union-find with path halving)."""
    names, flat = np.unique(corners_T3, return_inverse=True)
    parent = list(range(len(names)))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    rows = flat.reshape(-1, 3).tolist()
    for a, b, c in rows:
        parent[find(b)] = find(a)
        parent[find(c)] = find(a)
    return np.array([find(row[0]) for row in rows], np.intp)


def _lip_middles(rig: FaceRig, material: NDArray[np.str_]) -> tuple[int, int]:
    """Vertices where the lips meet in the middle: the lowest that stays and the highest that goes when the jaw opens."""
    face = np.unique(rig.triangles_T3[material == "M_Face"])
    middle = face[np.abs(rig.vertices_V3[face, 0]) < 0.1]
    drop = rig.offsets_RV3[rig.offset_names.index("jawOpen"), middle, 1].astype(np.float32)
    front = rig.vertices_V3[middle, 2] > 11.1
    mouth = front & (rig.vertices_V3[middle, 1] < -1.0) & (rig.vertices_V3[middle, 1] > -6.0)
    stays, goes = middle[mouth & (drop > -1.0)], middle[mouth & (drop < -1.5)]
    return int(stays[rig.vertices_V3[stays, 1].argmin()]), int(goes[rig.vertices_V3[goes, 1].argmax()])


def _lids(
    rig: FaceRig, material: NDArray[np.str_], centre_3: NDArray[np.float64], suffix: str, place_V: NDArray[np.int32]
) -> Lids:
    """Lid margins: the lowest vertex that the blink takes down, and the highest below it that stays, in seven columns."""
    face = np.unique(rig.triangles_T3[material == "M_Face"])
    place_N3 = rig.vertices_V3[face]
    drop_N = rig.offsets_RV3[rig.offset_names.index(f"eyeBlink_{suffix}"), face, 1].astype(np.float32)
    near = (np.abs(place_N3[:, 1] - centre_3[1]) < 1.3) & (place_N3[:, 2] > centre_3[2] + 0.5)
    upper, lower = [], []
    for across in np.linspace(-0.75, 0.75, 7):
        column = near & (np.abs(place_N3[:, 0] - centre_3[0] - across) < 0.17)
        falls = np.flatnonzero(column & (drop_N < -0.3))
        stays = np.flatnonzero(column & (drop_N > -0.15))
        if not len(falls):
            continue
        top = falls[place_N3[falls, 1].argmin()]
        stays = stays[place_N3[stays, 1] < place_N3[top, 1]]
        if len(stays):
            upper.append(top)
            lower.append(stays[place_N3[stays, 1].argmax()])
    gap_N = place_N3[upper, 1] - place_N3[lower, 1]
    closing_N = drop_N[lower] - drop_N[upper]
    return Lids(
        place_V[face[upper]].astype(np.intp),
        place_V[face[lower]].astype(np.intp),
        closing_N.astype(np.float32),
        (gap_N - closing_N).astype(np.float32),
    )


def _lash_coordinates(rig: FaceRig, material: NDArray[np.str_]) -> NDArray[np.float32]:
    """For each lash vertex: place along its lid and from root to tip; 2 is added to the first for lower lashes."""
    coordinates_V2 = np.zeros((len(rig.vertices_V3), 2), np.float32)
    rows = np.flatnonzero(material == "M_EyeLashes")
    labels = _islands(rig.triangles_T3[rows])
    for label in np.unique(labels):
        chosen = rows[labels == label]
        vertices = rig.triangles_T3[chosen].ravel()
        uv_N2 = rig.uv_U2[rig.uv_triangles_T3[chosen].ravel()].astype(np.float64)
        unit_N2 = (uv_N2 - uv_N2.min(axis=0)) / np.maximum(np.ptp(uv_N2, axis=0), 1e-6)
        # roots hug the lid, tips stand off it: forward for upper lashes, forward and down for lower ones
        depth = rig.vertices_V3[vertices, 2]
        if depth[unit_N2[:, 1] < 0.01].mean() > depth[unit_N2[:, 1] > 0.99].mean():
            unit_N2[:, 1] = 1.0 - unit_N2[:, 1]
        centre_y = fit_sphere(rig.vertices_V3[np.unique(rig.triangles_T3[material == "M_ScleraLeft"])])[0][1]
        if rig.vertices_V3[vertices, 1].mean() < centre_y - 0.45:
            unit_N2[:, 0] += 2.0
        coordinates_V2[vertices] = unit_N2
    return coordinates_V2
