"""Paints one camera's picture: what the rasteriser found, lit and coloured, as linear radiance.

Shadows of lids and lips: darkening by depth behind the surroundings (depth unsharp masking, Luft et al. 2006), which costs two
box filters. What a pixel shows is computed in pixels.py.
Axes: H W image, P posed vertices, 3 coordinates.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from model_export.faces.anatomy import CameraMesh
from model_export.faces.camera import View
from model_export.faces.look import Look
from model_export.faces.pixels import draw_lashes, shade_pixels
from model_export.faces.puppet import Eyeball, Pose
from model_export.faces.raster import Surface, rasterise


class Painter:
    """Rasterises and shades one camera's mesh; keeps its buffers."""

    def __init__(self, mesh: CameraMesh) -> None:
        self._mesh = mesh
        self._surfaces: dict[int, Surface] = {}
        self._seen_P3 = np.zeros((0, 3), np.float32)

    def surface(self, pose: Pose, view: View) -> Surface:
        """What each pixel of the view sees; valid until the next call of this size."""
        size = view.size_px
        if size not in self._surfaces:
            self._surfaces[size] = Surface.empty(size, size)
        surface = self._surfaces[size]
        self._seen_P3 = view.to_camera(pose.points_P3.take(self._mesh.seen_P, axis=0))
        rasterise(
            surface,
            self._seen_P3,
            self._mesh.triangles_T3,
            self._mesh.two_sided_T,
            focal_px=view.focal_px,
            centre_px=view.centre_px,
        )
        return surface

    def paint(
        self,
        pose: Pose,
        view: View,
        look: Look,
        camera: int,
        *,
        texture_SS5: NDArray[np.uint8],
        target_3: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Radiance, float32 [size, size]; 1 is white in a light of strength 1."""
        surface = self.surface(pose, view)
        size = view.size_px
        depth_HW = np.where(surface.triangle_HW >= 0, surface.depth_HW, np.float32(0.0))
        far = float(depth_HW.max())
        depth_HW = np.where(surface.triangle_HW >= 0, depth_HW, np.float32(far))
        pixel_cm = float(np.linalg.norm(view.position_3 - target_3)) / view.focal_px
        shadow_HW = _occlusion(depth_HW, pixel_cm, look.occlusion)
        radiance_HW = cv2.resize(look.background, (size, size), interpolation=cv2.INTER_CUBIC).astype(
            np.float32, copy=False
        )
        lights_L8 = look.lights_CL8[camera].copy()
        point = lights_L8[:, 3] > 0.5
        lights_L8[point, :3] += target_3
        eye = pose.eyes[min(camera, 1)]
        shade_pixels(
            radiance_HW,
            surface.triangle_HW,
            surface.weights_HW3,
            shadow_HW,
            self._mesh.triangles_T3,
            self._mesh.uv_T32,
            self._mesh.part_T,
            pose.points_P3.take(self._mesh.seen_P, axis=0),
            pose.normals_P3.take(self._mesh.seen_P, axis=0),
            texture_SS5,
            lights_L8,
            view.position_3,
            view.rotation_33,
            np.array([view.focal_px, *view.centre_px], np.float32),
            _material(look, pose),
            look.ambient_axis_3,
            _eye_numbers(eye),
        )
        if len(self._mesh.lashes_T3):
            draw_lashes(
                radiance_HW,
                surface.depth_HW,
                self._seen_P3,
                self._mesh.lashes_T3,
                self._mesh.lash_uv_T32,
                np.array(
                    [
                        view.focal_px,
                        *view.centre_px,
                        look.lash,
                        look.lash_count,
                        look.lash_length,
                        look.lash_cover,
                        look.iris_seed,
                    ],
                    np.float32,
                ),
            )
        return radiance_HW


def _material(look: Look, pose: Pose) -> NDArray[np.float32]:
    return np.array(
        [
            look.skin,
            look.pattern,
            look.hair,
            look.hair_cover,
            look.lips,
            look.shade,
            look.gloss,
            look.wrap,
            look.ambient_up,
            look.ambient_down,
            look.inside,
            look.iris,
            look.iris_texture,
            look.limbal,
            look.pupil,
            look.sclera,
            look.teeth,
            look.gum,
            look.glint,
            look.iris_seed,
            float(pose.lips_3[2]),
            float(pose.eyes[0].shell_centre_3[1]),
            float(pose.lips_3[1]),
            look.folds,
            *pose.folds_6,
        ],
        np.float32,
    )


def _eye_numbers(eye: Eyeball) -> NDArray[np.float32]:
    return np.array([*eye.centre_3, eye.radius_cm, *eye.gaze_3, eye.iris_radius_cm, eye.pupil_radius_cm], np.float32)


def _occlusion(depth_HW: NDArray[np.float32], pixel_cm: float, strength: float) -> NDArray[np.float32]:
    """Factor 0..1 by how far a pixel lies behind the mean depth around it, at two scales (0.35 and 1.2 cm)."""
    shadow_HW = np.zeros_like(depth_HW)
    for radius_cm, weight in ((0.3, 1.0), (1.0, 0.6)):
        side = 2 * max(1, round(radius_cm / pixel_cm)) + 1
        behind_HW = depth_HW - cv2.blur(depth_HW, (side, side), borderType=cv2.BORDER_REFLECT)
        shadow_HW += weight * np.clip(behind_HW, 0.0, 1.2)
    factor: NDArray[np.float32] = np.exp(-strength * shadow_HW)
    return factor
