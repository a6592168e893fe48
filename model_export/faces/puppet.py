"""Poses one wearer's face: 56 values in, vertices and normals of all that the cameras see out.

Axes: P posed vertices, T triangles, E expression units, I identity modes, 4 gaze angles.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_COUNT, EU_INDEX
from model_export.faces.anatomy import Anatomy, fit_sphere
from model_export.faces.wearer import Wearer, gaze_degrees

_TONGUE_REACH_CM: Final = 4.0
_DRAW_BACK_CM: Final = 0.35
_BLINK: Final = (EU_INDEX["eyeBlinkLeft"], EU_INDEX["eyeBlinkRight"])
_SQUINT: Final = (EU_INDEX["eyeSquintLeft"], EU_INDEX["eyeSquintRight"])
_CHEEK: Final = (EU_INDEX["cheekSquintLeft"], EU_INDEX["cheekSquintRight"])
_RAISERS: Final = tuple((EU_INDEX[f"{name}Left"], EU_INDEX[f"{name}Right"]) for name in ("eyeLookUp", "eyeWide"))
_DOWN: Final = (EU_INDEX["eyeLookDownLeft"], EU_INDEX["eyeLookDownRight"])


@dataclass(frozen=True, slots=True)
class Eyeball:
    """One eye as posed."""

    shell_centre_3: NDArray[np.float32]
    """Centre of the rig's shell, which is also the eye crop's target."""
    centre_3: NDArray[np.float32]
    """Centre of the real-sized eyeball, whose front touches the shell's front; the iris turns about it."""
    radius_cm: float
    gaze_3: NDArray[np.float32]
    """Unit vector from the centre through the pupil."""
    iris_radius_cm: float
    pupil_radius_cm: float


@dataclass(frozen=True, slots=True)
class Pose:
    """A face in one moment, in head space, cm."""

    points_P3: NDArray[np.float32]
    normals_P3: NDArray[np.float32]
    eyes: tuple[Eyeball, Eyeball]
    """Left, right."""
    gaze_4: NDArray[np.float32]
    """Degrees: left yaw, left pitch, right yaw, right pitch."""
    folds_6: NDArray[np.float32]
    """Depth 0..1 of the folds that movements make: between the brows, forehead left and right, cheek left and right, chin."""
    lips_3: NDArray[np.float32]
    """Where the lips meet in the middle, halfway between upper and lower."""


class Puppet:
    """One wearer's face, ready to be posed; about 0.7 ms a pose."""

    def __init__(self, anatomy: Anatomy, wearer: Wearer) -> None:
        self.anatomy = anatomy
        self.wearer = wearer
        modes = len(anatomy.identity_IP3)
        shape_P3 = anatomy.neutral_P3 + np.tensordot(wearer.identity_I[:modes], anatomy.identity_IP3, axes=1)
        self._offsets = anatomy.offsets
        self._shape_P3 = shape_P3.astype(np.float32)
        spheres = [fit_sphere(shape_P3[eyeball]) for eyeball in anatomy.eyeball_P]
        self._shells = [(centre.astype(np.float32), radius) for centre, radius in spheres]
        self._closed = (self._close_weight(0), self._close_weight(1))
        self.rest = self.pose(np.zeros(EU_COUNT, np.float32))

    def weights(self, values_E: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rig weights of EU values, float32 [56]."""
        weights_E = self.wearer.rest_E + values_E * self.wearer.gain_E
        for eye, (blink, down) in enumerate(zip(_BLINK, _DOWN, strict=True)):
            # together the two shapes would push the upper lid through the lower one
            weights_E[blink] *= self._closed[eye] * (1.0 - 0.5 * min(1.0, max(0.0, float(weights_E[down]))))
            # lids that squint meet higher up
            squint = 0.14 * weights_E[_SQUINT[eye]] + 0.08 * weights_E[_CHEEK[eye]]
            weights_E[blink] *= 1.0 - max(0.0, float(squint))
            # a closed lid is neither held up by an upward gaze nor opened wide
            closed = min(1.0, max(0.0, float(values_E[blink])))
            for raiser in _RAISERS:
                weights_E[raiser[eye]] *= 1.0 - closed
        return weights_E.astype(np.float32)

    def _close_weight(self, eye: int) -> float:
        """Rig weight that closes this wearer's lids as far as weight 1 closes the neutral face's: identities move lids apart."""
        lids = self.anatomy.lids[eye]
        if not len(lids.upper_P):
            return 1.0
        gap_N = self._shape_P3[lids.upper_P, 1] - self._shape_P3[lids.lower_P, 1]
        needed_N = (gap_N - np.minimum(lids.closed_cm, 0.0)) / np.maximum(lids.closing_cm, 0.2)
        return float(np.clip(needed_N.max(), 0.9, 1.6))

    def pose(self, values_E: NDArray[np.float32]) -> Pose:
        """The face with these values, float32 [56] in 0..1."""
        weights_E = self.weights(values_E)
        points_P3 = self._shape_P3.copy()
        _add_offsets(points_P3, weights_E, self._offsets.starts_E, self._offsets.vertices_N, self._offsets.offsets_N3)
        gaze_4 = gaze_degrees(self.wearer, values_E)
        eyes = (
            self._turn_eye(points_P3, 0, gaze_4, values_E, float(weights_E[_BLINK[0]])),
            self._turn_eye(points_P3, 1, gaze_4, values_E, float(weights_E[_BLINK[1]])),
        )
        self._push_tongue(points_P3, float(values_E[EU_INDEX["tongueOut"]] * self.wearer.gain_E[EU_INDEX["tongueOut"]]))
        normals_P3 = np.zeros_like(points_P3)
        _vertex_normals(points_P3, self.anatomy.normals_T3, normals_P3)
        lips_3 = points_P3[list(self.anatomy.lips_P)].mean(axis=0)
        return Pose(points_P3, normals_P3, eyes, gaze_4, _folds(weights_E), lips_3)

    def _turn_eye(
        self,
        points_P3: NDArray[np.float32],
        eye: int,
        gaze_4: NDArray[np.float32],
        values_E: NDArray[np.float32],
        blink: float,
    ) -> Eyeball:
        yaw, pitch = np.radians(gaze_4[2 * eye : 2 * eye + 2])
        centre_3, radius = self._shells[eye]
        shell = self.anatomy.eyeball_P[eye]
        # The shell only decides where the eye is seen between the lids (the shader meets a real-sized eyeball instead): a plain
        # sphere, drawn back as the lids close, because on some faces the closed lid lies inside the rig's shell.
        away_N3 = self._shape_P3[shell] - centre_3
        away_N3 *= (0.985 * radius) / np.maximum(np.linalg.norm(away_N3, axis=1, keepdims=True), 1e-6)
        points_P3[shell] = away_N3 @ rotation(float(yaw), float(pitch)).T + centre_3
        points_P3[shell, 2] -= _DRAW_BACK_CM * min(1.0, max(0.0, blink))
        small, large = self.wearer.pupil_share
        dilate = float(values_E[EU_INDEX[f"pupilDilate{('Left', 'Right')[eye]}"]])
        gaze_3 = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], np.float32)
        own = self.wearer.eye_radius_cm
        return Eyeball(
            centre_3,
            centre_3 + np.array([0.0, 0.0, radius - own], np.float32),
            own,
            gaze_3,
            self.wearer.iris_radius_cm,
            self.wearer.iris_radius_cm * (small + (large - small) * dilate),
        )

    def _push_tongue(self, points_P3: NDArray[np.float32], weight: float) -> None:
        """Move the tongue out between the lips: its front travels most, grows flat and hangs beyond the lower lip."""
        if weight <= 0.0:
            return
        tongue = self.anatomy.tongue_P
        rest_N3 = self._shape_P3[tongue]
        back, front = float(rest_N3[:, 2].min()), float(rest_N3[:, 2].max())
        share_N = np.clip((rest_N3[:, 2] - back) / max(front - back, 1e-3), 0.0, 1.0)
        moved_N3 = points_P3[tongue]
        share_out = min(1.0, weight)
        front_N = share_N**1.2
        upper, lower = points_P3[self.anatomy.lips_P[0]], points_P3[self.anatomy.lips_P[1]]
        # pass over the lower teeth: at the lips the tongue lies on the lower lip
        goal_y = float(lower[1]) + 0.28
        middle_y = float(moved_N3[share_N > 0.75, 1].mean()) if (share_N > 0.75).any() else goal_y
        ramp = min(1.0, 2.5 * share_out)
        flat = 1.0 - 0.45 * share_out * front_N
        moved_N3[:, 1] = middle_y + (moved_N3[:, 1] - middle_y) * flat + (goal_y - middle_y) * ramp * front_N
        moved_N3[:, 2] += weight * _TONGUE_REACH_CM * front_N
        beyond_N = np.maximum(0.0, moved_N3[:, 2] - float(max(upper[2], lower[2])) + 0.2)
        moved_N3[:, 1] -= 0.45 * beyond_N**1.4
        moved_N3[:, 0] *= 1.0 - 0.25 * share_out * front_N
        points_P3[tongue] = moved_N3


def _folds(weights_E: NDArray[np.float32]) -> NDArray[np.float32]:
    """How deep the movements fold the skin where the rig, whose vertices are millimetres apart, stays smooth."""

    def sum_of(*names: str) -> float:
        return float(np.clip(weights_E[[EU_INDEX[name] for name in names]], 0.0, 1.0).sum())

    frown = 0.5 * sum_of("browDownLeft", "browDownRight") + 0.25 * sum_of("noseSneerLeft", "noseSneerRight")
    depths = [frown]
    depths += [0.6 * sum_of(f"browOuterUp{side}", f"browInnerUp{side}") for side in ("Left", "Right")]
    for side in ("Left", "Right"):
        mouth = sum_of(f"mouthSmile{side}", f"noseSneer{side}", f"mouthDimple{side}", f"mouthUpperUp{side}")
        depths.append(0.45 * mouth + 0.35 * sum_of(f"cheekSquint{side}", f"eyeSquint{side}"))
    depths.append(0.7 * sum_of("mouthShrugLower") + 0.3 * sum_of("mouthPressLeft", "mouthPressRight"))
    return np.clip(np.array(depths, np.float32), 0.0, 1.0)


def rotation(yaw: float, pitch: float) -> NDArray[np.float32]:
    """Matrix that turns +z to the gaze direction of these angles (radians): pitch first, then yaw."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    turn_yaw = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    turn_pitch = np.array([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]])
    matrix: NDArray[np.float32] = (turn_yaw @ turn_pitch).astype(np.float32)
    return matrix


@njit(cache=True, fastmath=True, error_model="numpy")
def _add_offsets(points_P3: Any, weights_E: Any, starts_E: Any, vertices_N: Any, offsets_N3: Any) -> None:
    for unit in range(weights_E.shape[0]):
        weight = weights_E[unit]
        if abs(weight) < 1e-3:
            continue
        for row in range(starts_E[unit], starts_E[unit + 1]):
            v = vertices_N[row]
            points_P3[v, 0] += weight * offsets_N3[row, 0]
            points_P3[v, 1] += weight * offsets_N3[row, 1]
            points_P3[v, 2] += weight * offsets_N3[row, 2]


@njit(cache=True, fastmath=True, error_model="numpy")
def _vertex_normals(points_P3: Any, triangles_T3: Any, normals_P3: Any) -> None:
    """Sum of the area-weighted normals of the triangles at each vertex; the shader makes them unit long."""
    for t in range(triangles_T3.shape[0]):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        ux, uy, uz = (
            points_P3[b, 0] - points_P3[a, 0],
            points_P3[b, 1] - points_P3[a, 1],
            points_P3[b, 2] - points_P3[a, 2],
        )
        vx, vy, vz = (
            points_P3[c, 0] - points_P3[a, 0],
            points_P3[c, 1] - points_P3[a, 1],
            points_P3[c, 2] - points_P3[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in range(3):
            v = triangles_T3[t, corner]
            normals_P3[v, 0] += nx
            normals_P3[v, 1] += ny
            normals_P3[v, 2] += nz
    for v in range(normals_P3.shape[0]):
        x, y, z = normals_P3[v, 0], normals_P3[v, 1], normals_P3[v, 2]
        scale = np.float32(1.0) / max(np.sqrt(x * x + y * y + z * z), np.float32(1e-12))
        normals_P3[v, 0] = x * scale
        normals_P3[v, 1] = y * scale
        normals_P3[v, 2] = z * scale
