"""The painter's compiled loops: each pixel's light and colour, the eyeball that a ray meets, lashes.

Skin: wrapped diffuse and Blinn-Phong light on procedural masks. Eyes: each ray meets a real-sized eyeball with iris, pupil,
limbus and the glints of the lights on the cornea, because the rig's shells are a quarter too large and would move the iris
too far for an angle. One compiled loop over pixels.
Axes: H W image, P posed vertices, T triangles, L lights, S texture, 3 coordinates or corners.
"""

from typing import Any

import numpy as np
from numba import njit

from model_export.faces.anatomy import EYE, GUM, HEAD, SOCKET, TEETH, TONGUE


@njit(cache=True, fastmath=True, error_model="numpy")
def _smooth(low: Any, high: Any, value: Any) -> Any:
    share = min(np.float32(1.0), max(np.float32(0.0), (value - low) / (high - low)))
    return share * share * (np.float32(3.0) - np.float32(2.0) * share)


@njit(cache=True, fastmath=True, error_model="numpy")
def _eye_colour(  # noqa: PLR0917 - compiled, positional: numba takes keyword-only arguments no faster
    ox: Any, oy: Any, oz: Any, dx: Any, dy: Any, dz: Any, eye: Any, material: Any
) -> Any:
    """Colour of the eye along a ray, and the normal that light and glints see: (colour, x, y, z, is cornea)."""
    cx, cy, cz, radius = eye[0], eye[1], eye[2], eye[3]
    gx, gy, gz, iris_radius, pupil_radius = eye[4], eye[5], eye[6], eye[7], eye[8]
    px, py, pz = ox - cx, oy - cy, oz - cz
    along = px * dx + py * dy + pz * dz
    gap = px * px + py * py + pz * pz - radius * radius
    root = along * along - gap
    sclera = material[15]
    if root <= 0.0:  # past the eyeball's rim: the corner's moist skin
        length = np.sqrt(max(np.float32(1e-6), px * px + py * py + pz * pz - along * along))
        nx, ny, nz = (px - along * dx) / length, (py - along * dy) / length, (pz - along * dz) / length
        return sclera * np.float32(0.5), nx, ny, nz, np.float32(0.0)
    hit = -along - np.sqrt(root)
    hx, hy, hz = px + hit * dx, py + hit * dy, pz + hit * dz
    plane = np.sqrt(radius * radius - iris_radius * iris_radius)
    facing = dx * gx + dy * gy + dz * gz
    nx, ny, nz = hx / radius, hy / radius, hz / radius
    # red veins and the shade towards the corners
    colour = sclera * (np.float32(0.72) + np.float32(0.28) * max(np.float32(0.0), nx * gx + ny * gy + nz * gz))
    cornea = np.float32(0.0)
    if facing < -0.02:
        reach = (plane - (px * gx + py * gy + pz * gz)) / facing
        qx, qy, qz = px + reach * dx - plane * gx, py + reach * dy - plane * gy, pz + reach * dz - plane * gz
        rho = np.sqrt(qx * qx + qy * qy + qz * qz)
        if rho < iris_radius * np.float32(1.12):
            # angle around the gaze axis, for fibres
            right_x, right_z = gz, -gx
            scale = np.float32(1.0) / max(np.float32(1e-6), np.sqrt(right_x * right_x + right_z * right_z))
            right_x, right_z = right_x * scale, right_z * scale
            up_x, up_y, up_z = gy * right_z, gz * right_x - gx * right_z, -gy * right_x
            angle = np.arctan2(qx * up_x + qy * up_y + qz * up_z, qx * right_x + qz * right_z)
            share = rho / iris_radius
            seed = material[19]
            fibre = (
                np.sin(angle * np.float32(31.0) + seed + np.float32(4.0) * share)
                + np.sin(angle * np.float32(17.0) - seed * np.float32(1.7))
                + np.sin(angle * np.float32(9.0) + seed * np.float32(0.6) - np.float32(9.0) * share)
            ) * np.float32(0.25)
            collar = np.float32(0.25) * np.sin(share * np.float32(14.0) + seed)
            iris = material[11] * (np.float32(1.0) + material[12] * (fibre + collar))
            iris *= np.float32(1.0) - material[13] * _smooth(np.float32(0.72), np.float32(1.0), share)
            edge = _smooth(np.float32(0.90), np.float32(1.10), share)
            inner = _smooth(pupil_radius - np.float32(0.025), pupil_radius + np.float32(0.025), rho)
            iris = material[14] + (iris - material[14]) * inner
            colour = iris + (colour - iris) * edge
            cornea = np.float32(1.0) - edge
    # cornea: a steeper sphere of 0.78 cm whose front stands 0.14 cm proud of the eyeball
    if cornea > 0.02:
        offset = radius + np.float32(0.12) - np.float32(0.78)
        kx, ky, kz = px - offset * gx, py - offset * gy, pz - offset * gz
        along_k = kx * dx + ky * dy + kz * dz
        root_k = along_k * along_k - (kx * kx + ky * ky + kz * kz - np.float32(0.6084))
        if root_k > 0.0:
            hit_k = -along_k - np.sqrt(root_k)
            nx = (kx + hit_k * dx) / np.float32(0.78)
            ny = (ky + hit_k * dy) / np.float32(0.78)
            nz = (kz + hit_k * dz) / np.float32(0.78)
    return colour, nx, ny, nz, cornea


@njit(cache=True, fastmath=True, error_model="numpy")
def shade_pixels(  # noqa: PLR0912, PLR0915, PLR0917 - one compiled pass over the pixels; calls and tables would cost more than it
    radiance_HW: Any,
    triangle_HW: Any,
    weights_HW3: Any,
    shadow_HW: Any,
    triangles_T3: Any,
    uv_T32: Any,
    part_T: Any,
    points_P3: Any,
    normals_P3: Any,
    texture_SS5: Any,
    lights_L8: Any,
    camera_3: Any,
    camera_33: Any,
    lens: Any,
    material: Any,
    axis_3: Any,
    eye: Any,
) -> None:
    """Write the radiance of every pixel that shows a triangle; the others keep theirs."""
    one, zero, half = np.float32(1.0), np.float32(0.0), np.float32(0.5)
    height, width = triangle_HW.shape
    size_px = np.float32(texture_SS5.shape[0])
    for row in range(height):
        for column in range(width):
            t = triangle_HW[row, column]
            if t < 0:
                continue
            part = part_T[t]
            a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            wa, wb, wc = weights_HW3[row, column, 0], weights_HW3[row, column, 1], weights_HW3[row, column, 2]
            x = wa * points_P3[a, 0] + wb * points_P3[b, 0] + wc * points_P3[c, 0]
            y = wa * points_P3[a, 1] + wb * points_P3[b, 1] + wc * points_P3[c, 1]
            z = wa * points_P3[a, 2] + wb * points_P3[b, 2] + wc * points_P3[c, 2]
            nx = wa * normals_P3[a, 0] + wb * normals_P3[b, 0] + wc * normals_P3[c, 0]
            ny = wa * normals_P3[a, 1] + wb * normals_P3[b, 1] + wc * normals_P3[c, 1]
            nz = wa * normals_P3[a, 2] + wb * normals_P3[b, 2] + wc * normals_P3[c, 2]
            scale = one / max(np.float32(1e-6), np.sqrt(nx * nx + ny * ny + nz * nz))
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            vx, vy, vz = camera_3[0] - x, camera_3[1] - y, camera_3[2] - z
            scale = one / max(np.float32(1e-6), np.sqrt(vx * vx + vy * vy + vz * vz))
            vx, vy, vz = vx * scale, vy * scale, vz * scale
            shadow = shadow_HW[row, column]
            colour, gloss, wrap, shine = material[0], material[6], material[7], 4
            is_eye = part == EYE
            cornea = zero
            mx, my, mz = nx, ny, nz
            if part == 0:
                u = wa * uv_T32[t, 0, 0] + wb * uv_T32[t, 1, 0] + wc * uv_T32[t, 2, 0]
                v = wa * uv_T32[t, 0, 1] + wb * uv_T32[t, 1, 1] + wc * uv_T32[t, 2, 1]
                fu = min(max(u * size_px - half, zero), size_px - np.float32(1.001))
                fv = min(max((one - v) * size_px - half, zero), size_px - np.float32(1.001))
                iu, iv = int(fu), int(fv)
                fu, fv = fu - np.float32(iu), fv - np.float32(iv)
                w00, w01, w10, w11 = (one - fu) * (one - fv), fu * (one - fv), (one - fu) * fv, fu * fv
                pattern, hair, lips, dark, fold = zero, zero, zero, zero, zero
                for k in range(5):
                    value = (
                        w00 * texture_SS5[iv, iu, k]
                        + w01 * texture_SS5[iv, iu + 1, k]
                        + w10 * texture_SS5[iv + 1, iu, k]
                        + w11 * texture_SS5[iv + 1, iu + 1, k]
                    ) * np.float32(1.0 / 255.0)
                    if k == 0:
                        pattern = value
                    elif k == 1:
                        hair = value
                    elif k == 2:
                        lips = value
                    elif k == 3:
                        dark = value
                    else:
                        fold = value
                if fold > 0.02:
                    side = 0 if x > 0.0 else 1
                    if y > material[21] - np.float32(1.0) and abs(x) < np.float32(1.5):
                        fold *= material[24]
                    elif y > material[21] + np.float32(1.2):
                        fold *= material[25 + side]
                    elif y < material[22] - np.float32(1.3) and abs(x) < np.float32(2.0):
                        fold *= material[29]
                    else:
                        fold *= material[27 + side]
                colour = colour + (material[4] - colour) * lips
                colour *= one + material[1] * (pattern - half)
                colour *= (one - material[5] * dark) * (one - material[23] * fold)
                cover = material[3] * hair
                colour = colour + (material[2] - colour) * cover
                gloss = gloss * (one - cover) * (half + pattern) * (one + lips * np.float32(1.2))
            elif is_eye:
                sx = (np.float32(column) + half - lens[1]) / lens[0]
                sy = (np.float32(row) + half - lens[2]) / lens[0]
                dx = sx * camera_33[0, 0] + sy * camera_33[1, 0] + camera_33[2, 0]
                dy = sx * camera_33[0, 1] + sy * camera_33[1, 1] + camera_33[2, 1]
                dz = sx * camera_33[0, 2] + sy * camera_33[1, 2] + camera_33[2, 2]
                scale = one / np.sqrt(dx * dx + dy * dy + dz * dz)
                colour, mx, my, mz, cornea = _eye_colour(
                    camera_3[0], camera_3[1], camera_3[2], dx * scale, dy * scale, dz * scale, eye, material
                )
                gloss, wrap = zero, np.float32(0.4)
            elif part == TEETH:
                colour, gloss, shine = material[16], np.float32(0.35), 5
            elif part in (GUM, TONGUE):
                colour, gloss, shine = material[17], np.float32(0.25), 5
            elif part == SOCKET:
                colour, gloss = material[17] * np.float32(0.7), zero
            elif part == HEAD:
                gloss = gloss * half
            if part in (TEETH, GUM, SOCKET, TONGUE):
                shadow *= np.exp(-material[10] * max(zero, material[20] - np.float32(0.4) - z))
            lean = half + half * (nx * axis_3[0] + ny * axis_3[1] + nz * axis_3[2])
            light = material[9] + (material[8] - material[9]) * lean
            shining = zero
            for k in range(lights_L8.shape[0]):
                strength = lights_L8[k, 4]
                if strength <= 0.0:
                    break
                use = lights_L8[k, 7]
                if (use > 1.5 and is_eye) or (use == one and not is_eye):
                    continue
                lx, ly, lz = lights_L8[k, 0], lights_L8[k, 1], lights_L8[k, 2]
                if lights_L8[k, 3] > 0.5:
                    lx, ly, lz = lx - x, ly - y, lz - z
                    square = max(np.float32(0.05), lx * lx + ly * ly + lz * lz)
                    strength *= min(np.float32(3.0), lights_L8[k, 5] * lights_L8[k, 5] / square)
                    scale = one / np.sqrt(square)
                    lx, ly, lz = lx * scale, ly * scale, lz * scale
                facing = nx * lx + ny * ly + nz * lz
                light += strength * max(zero, (facing + wrap) / (one + wrap))
                if is_eye:
                    # mirror direction of the view at the cornea or tear film
                    turn = np.float32(2.0) * (mx * vx + my * vy + mz * vz)
                    match = (turn * mx - vx) * lx + (turn * my - vy) * ly + (turn * mz - vz) * lz
                    gap = lights_L8[k, 6] * (one if cornea > half else np.float32(2.5))
                    spot = _smooth(one - np.float32(2.0) * gap, one - gap, match)
                    shining += (
                        spot
                        * material[18]
                        * min(np.float32(1.5), strength + half)
                        * (one if cornea > half else np.float32(0.25))
                    )
                elif gloss > 0.0 and facing > 0.0:
                    hx, hy, hz = lx + vx, ly + vy, lz + vz
                    scale = one / max(np.float32(1e-6), np.sqrt(hx * hx + hy * hy + hz * hz))
                    peak = max(zero, (nx * hx + ny * hy + nz * hz) * scale)
                    for _ in range(shine):
                        peak *= peak
                    shining += strength * gloss * peak
            radiance_HW[row, column] = (colour * light + shining) * shadow


@njit(cache=True, fastmath=True, error_model="numpy")
def draw_lashes(  # noqa: PLR0917 - compiled, positional
    radiance_HW: Any, depth_HW: Any, points_P3: Any, lashes_T3: Any, lash_uv_T32: Any, numbers: Any
) -> None:
    """Blend lashes over the picture: strands that run from root to tip of the rig's band, thinner towards the tip."""
    height, width = depth_HW.shape
    focal, centre_x, centre_y, shade, count, length, cover, seed = numbers
    for t in range(lashes_T3.shape[0]):
        a, b, c = lashes_T3[t, 0], lashes_T3[t, 1], lashes_T3[t, 2]
        za, zb, zc = points_P3[a, 2], points_P3[b, 2], points_P3[c, 2]
        if min(za, zb, zc) < 0.25:
            continue
        xa, ya = focal * points_P3[a, 0] / za + centre_x, focal * points_P3[a, 1] / za + centre_y
        xb, yb = focal * points_P3[b, 0] / zb + centre_x, focal * points_P3[b, 1] / zb + centre_y
        xc, yc = focal * points_P3[c, 0] / zc + centre_x, focal * points_P3[c, 1] / zc + centre_y
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if abs(area) < 1e-6:
            continue
        left, right = max(0, int(np.ceil(min(xa, xb, xc) - 0.5))), min(width - 1, int(np.floor(max(xa, xb, xc) - 0.5)))
        top, bottom = max(0, int(np.ceil(min(ya, yb, yc) - 0.5))), min(height - 1, int(np.floor(max(ya, yb, yc) - 0.5)))
        for row in range(top, bottom + 1):
            y = np.float32(row) + np.float32(0.5)
            for column in range(left, right + 1):
                x = np.float32(column) + np.float32(0.5)
                wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) / area
                wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) / area
                wc = np.float32(1.0) - wa - wb
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                if wa * za + wb * zb + wc * zc > depth_HW[row, column] + 0.02:
                    continue
                u = wa * lash_uv_T32[t, 0, 0] + wb * lash_uv_T32[t, 1, 0] + wc * lash_uv_T32[t, 2, 0]
                v = wa * lash_uv_T32[t, 0, 1] + wb * lash_uv_T32[t, 1, 1] + wc * lash_uv_T32[t, 2, 1]
                lower = u > np.float32(1.5)
                strands, reach, weight = count, length, cover
                if lower:
                    u, reach, weight = u - np.float32(2.0), length * np.float32(0.5), cover * np.float32(0.45)
                    strands = count * np.float32(0.6)
                swing = np.float32(0.6) * np.sin(u * np.float32(40.0) + seed) * v
                place = u * strands + swing
                own = np.sin(np.floor(place) * np.float32(12.9898) + seed) * np.float32(43.758)
                own -= np.floor(own)
                tip = reach * (np.float32(0.6) + np.float32(0.4) * own)
                if v > tip:
                    continue
                across = abs(place - np.floor(place) - np.float32(0.5)) * np.float32(2.0)
                thick = np.float32(0.75) * (np.float32(1.0) - v / tip) + np.float32(0.12)
                alpha = weight * np.float32(0.75) * (np.float32(1.0) - _smooth(thick * np.float32(0.5), thick, across))
                alpha = min(np.float32(0.95), alpha)
                radiance_HW[row, column] += (shade * np.float32(0.5) - radiance_HW[row, column]) * alpha
