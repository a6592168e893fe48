import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.faces.raster import Surface, rasterise
from tests.model_export.faces.conftest import sphere


def draw(
    points_V3: NDArray[np.float64], triangles_T3: NDArray[np.int64], two_sided: bool = True, size: int = 64
) -> Surface:
    surface = Surface.empty(size, size)
    rasterise(
        surface,
        points_V3.astype(np.float32),
        triangles_T3.astype(np.int32),
        np.full(len(triangles_T3), two_sided),
        focal_px=float(size),
        centre_px=(size / 2, size / 2),
    )
    return surface


def test_depth_of_a_slanted_plane_is_the_rays_own() -> None:
    # plane z = 5 + 0.5 x, big enough to fill the picture
    corners = np.array([[-9.0, -9.0], [9.0, -9.0], [9.0, 9.0], [-9.0, 9.0]])
    points = np.column_stack([corners, 5 + 0.5 * corners[:, 0]])
    surface = draw(points, np.array([[0, 1, 2], [0, 2, 3]]))
    ray_x = (np.arange(64) + 0.5 - 32) / 64
    expected = 5 / (1 - 0.5 * ray_x)
    np.testing.assert_allclose(surface.depth_HW, np.broadcast_to(expected, (64, 64)), rtol=2e-5)


def test_weights_give_the_point_that_the_pixel_sees() -> None:
    points = np.array([[-3.0, -2.0, 4.0], [4.0, -3.0, 9.0], [0.0, 4.0, 6.0]])
    surface = draw(points, np.array([[0, 1, 2]]))
    rows, columns = np.nonzero(surface.triangle_HW == 0)
    assert len(rows) > 300
    seen = surface.weights_HW3[rows, columns] @ points
    np.testing.assert_allclose(seen[:, 0] / seen[:, 2] * 64 + 32, columns + 0.5, atol=1e-3)
    np.testing.assert_allclose(seen[:, 1] / seen[:, 2] * 64 + 32, rows + 0.5, atol=1e-3)
    np.testing.assert_allclose(seen[:, 2], surface.depth_HW[rows, columns], rtol=1e-5)


def test_triangle_covers_exactly_the_pixels_whose_centres_it_holds() -> None:
    points = np.array([[-0.5, -0.5, 1.0], [0.45, -0.5, 1.0], [-0.5, 0.45, 1.0]])
    surface = draw(points, np.array([[0, 1, 2]]))
    centre = (np.arange(64) + 0.5 - 32) / 64
    inside = (centre[None, :] + centre[:, None]) < -0.05
    np.testing.assert_array_equal(surface.triangle_HW == 0, inside)


def test_sphere_has_the_silhouette_and_depth_of_a_sphere() -> None:
    points, triangles, _ = sphere((0.0, 0.0, 0.0), 2.0)
    seen = points * np.array([1.0, -1.0, -1.0]) + np.array([0.0, 0.0, 10.0])
    surface = draw(seen, triangles, two_sided=False, size=128)
    axis = (np.arange(128) + 0.5 - 64) / 128
    x, y = np.meshgrid(axis, axis)
    length = np.sqrt(x**2 + y**2 + 1)
    along = 10 / length
    root = along**2 - (100 - 4)
    # 24 by 24 facets: the silhouette may differ by their sagitta, a hundredth of the radius, at the rim alone
    inside, outside = root > 0.35, root < -0.02
    assert (surface.triangle_HW[inside] >= 0).all()
    assert (surface.triangle_HW[outside] < 0).all()
    depth = (along - np.sqrt(np.maximum(root, 0))) / length
    np.testing.assert_allclose(surface.depth_HW[inside], depth[inside], atol=0.06)


def test_nearest_wins_whatever_the_order() -> None:
    near = np.array([[-1.0, -1.0, 2.0], [1.0, -1.0, 2.0], [0.0, 1.0, 2.0]])
    points = np.concatenate([near, near * 2.0])
    for order in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        surface = draw(points, np.array(order))
        hit = surface.triangle_HW >= 0
        np.testing.assert_allclose(surface.depth_HW[hit], 2.0, rtol=1e-5)


@pytest.mark.parametrize("two_sided", [False, True])
def test_triangles_turned_away_are_seen_only_when_two_sided(two_sided: bool) -> None:
    points = np.array([[-1.0, -1.0, 2.0], [1.0, -1.0, 2.0], [0.0, 1.0, 2.0]])
    areas = [
        int((draw(points, np.array([corners]), two_sided).triangle_HW >= 0).sum()) for corners in ([0, 1, 2], [0, 2, 1])
    ]
    assert (min(areas) > 0) == two_sided
    assert max(areas) > 0


def test_triangles_at_the_lens_are_dropped() -> None:
    points = np.array([[-1.0, -1.0, 0.1], [1.0, -1.0, 2.0], [0.0, 1.0, 2.0]])
    assert (draw(points, np.array([[0, 1, 2]])).triangle_HW < 0).all()
