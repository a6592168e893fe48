"""Points of the skin whose place in a crop is told beside the labels: what a network learns to locate faces by.

Dense landmarks of rendered faces carry over to real ones (Wood et al. 2022, "3D Face Reconstruction with Dense Landmarks"), and
they say more of a picture than 32 values do. Points are those that movements move most differently.
Axes: P posed vertices, K points, 4 (right, down, and how far both moved from rest), T time.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_COUNT
from model_export.contract.frames import CROP_SIZE_PX
from model_export.faces.anatomy import SKIN, Anatomy
from model_export.faces.camera import MOUTH_DROP_CM, View
from model_export.faces.puppet import Pose
from model_export.points import EYE_POINTS, MOUTH_POINTS

_REACH_CM: Final = (2.3, 3.6)
"""How far from the middle of an eye and a mouth crop points are chosen."""
_FACING: Final = 0.25
"""Least forward part of the normal: a point that a camera in front can see."""


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Posed vertices to follow, for each camera; the right eye's are the left one's counterparts."""

    points_C: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


def choose_landmarks(anatomy: Anatomy) -> Landmarks:
    """The points of a rig: by farthest-point sampling over places and movements together (Gonzalez 1985)."""
    normals_P3 = _normals(anatomy)
    features_PD = np.concatenate([anatomy.neutral_P3, 2.0 * _movements(anatomy)], axis=1)
    eye_3 = anatomy.neutral_P3[anatomy.eyeball_P[0]].mean(axis=0)
    lips_3 = anatomy.neutral_P3[list(anatomy.lips_P)].mean(axis=0) - (0.0, MOUTH_DROP_CM, 0.0)
    left_eye_K = _farthest(_skin_near(anatomy, 0, eye_3, normals_P3), features_PD, EYE_POINTS - 1)
    skin_P = _skin_near(anatomy, 2, lips_3, normals_P3)
    left_half_K = _farthest(skin_P[anatomy.neutral_P3[skin_P, 0] > -0.05], features_PD, MOUTH_POINTS // 2)
    other_half_K = _counterparts(anatomy, 2, left_half_K)
    return Landmarks((left_eye_K, _counterparts(anatomy, 1, left_eye_K), np.concatenate([left_half_K, other_half_K])))


def place_landmarks(
    landmarks_K: NDArray[np.intp], pose: Pose, rest: Pose, *, view: View, distortion: float, camera: int
) -> NDArray[np.float16]:
    """float16 [K, 4]: px right of and below the middle of the crop, and of that what moved from the face at rest.

    An eye's crop has the pupil as well, moved from where it would be when the eye looked straight ahead.
    """
    now_K3, before_K3 = pose.points_P3[landmarks_K], rest.points_P3[landmarks_K]
    if camera < 2:
        eyeball = pose.eyes[camera]
        pupil_3 = eyeball.centre_3 + eyeball.radius_cm * eyeball.gaze_3
        ahead_3 = eyeball.centre_3 + np.array([0.0, 0.0, eyeball.radius_cm], np.float32)
        now_K3, before_K3 = np.vstack([now_K3, pupil_3]), np.vstack([before_K3, ahead_3])
    now_K2, before_K2 = (_in_crop(view, points_K3, distortion) for points_K3 in (now_K3, before_K3))
    return np.hstack([now_K2, now_K2 - before_K2]).astype(np.float16)


def _in_crop(view: View, points_K3: NDArray[np.float32], distortion: float) -> NDArray[np.float32]:
    bent_K2 = view.project(points_K3) / view.size_px * 2 - 1
    straight_K2 = bent_K2
    for _ in range(3):  # the lens is told from crop to picture; its inverse by fixed point
        radius_square_K1 = (straight_K2**2).sum(axis=1, keepdims=True).clip(max=4.0)
        straight_K2 = bent_K2 / (1.0 + distortion * (radius_square_K1 - 0.5))
    crop_K2: NDArray[np.float32] = (straight_K2 * (CROP_SIZE_PX / 2)).astype(np.float32)
    return crop_K2.clip(-2 * CROP_SIZE_PX, 2 * CROP_SIZE_PX)


def _normals(anatomy: Anatomy) -> NDArray[np.float64]:
    corners_T33 = anatomy.neutral_P3[anatomy.normals_T3].astype(np.float64)
    faces_T3 = np.cross(corners_T33[:, 1] - corners_T33[:, 0], corners_T33[:, 2] - corners_T33[:, 0])
    normals_P3 = np.zeros((len(anatomy.neutral_P3), 3))
    for corner in range(3):
        np.add.at(normals_P3, anatomy.normals_T3[:, corner], faces_T3)
    return np.asarray(normals_P3 / np.maximum(np.linalg.norm(normals_P3, axis=1, keepdims=True), 1e-12))


def _movements(anatomy: Anatomy) -> NDArray[np.float32]:
    """How each posed vertex is moved by each EU, side by side: float32 [P, 3 * 56]."""
    moves_PE3 = np.zeros((len(anatomy.neutral_P3), EU_COUNT, 3), np.float32)
    for unit in range(EU_COUNT):
        rows = slice(anatomy.offsets.starts_E[unit], anatomy.offsets.starts_E[unit + 1])
        moves_PE3[anatomy.offsets.vertices_N[rows], unit] = anatomy.offsets.offsets_N3[rows]
    return moves_PE3.reshape(len(moves_PE3), -1)


def _skin_near(
    anatomy: Anatomy, camera: int, centre_3: NDArray[np.floating], normals_P3: NDArray[np.float64]
) -> NDArray[np.intp]:
    skin_P = _skin(anatomy, camera)
    near_P = (np.abs(anatomy.neutral_P3[skin_P, :2] - centre_3[:2]) < _REACH_CM[camera // 2]).all(axis=1)
    return np.asarray(skin_P[near_P & (normals_P3[skin_P, 2] > _FACING) & (anatomy.neutral_P3[skin_P, 2] > 4.0)])


def _skin(anatomy: Anatomy, camera: int) -> NDArray[np.intp]:
    mesh = anatomy.meshes_C[camera]
    return np.asarray(mesh.seen_P[np.unique(mesh.triangles_T3[mesh.part_T == SKIN])])


def _farthest(candidates_P: NDArray[np.intp], features_PD: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    features_ND = features_PD[candidates_P].astype(np.float64)
    chosen = [int(np.linalg.norm(features_ND - features_ND.mean(axis=0), axis=1).argmin())]
    distance_N = np.linalg.norm(features_ND - features_ND[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance_N.argmax()))
        distance_N = np.minimum(distance_N, np.linalg.norm(features_ND - features_ND[chosen[-1]], axis=1))
    return candidates_P[chosen]


def _counterparts(anatomy: Anatomy, camera: int, points_K: NDArray[np.intp]) -> NDArray[np.intp]:
    """The vertices of a camera's skin nearest to where the points are in the mirror."""
    skin_P = _skin(anatomy, camera)
    mirrored_K3 = anatomy.neutral_P3[points_K] * np.array([-1.0, 1.0, 1.0], np.float32)
    distance_KP = np.linalg.norm(anatomy.neutral_P3[skin_P][None] - mirrored_K3[:, None], axis=2)
    return np.asarray(skin_P[distance_KP.argmin(axis=1)])
