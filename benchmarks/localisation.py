"""How well an EU can be known at all, when points of the face are located to so many pixels: what limits a model's r.

    python -m benchmarks.localisation --rig FaceXModel [--evaluation docs/evaluation/near.json]

A face is taken to be 200 points of the skin, seen from the front in a crop; EUs move them linearly, as the rig's shapes do.
Beside the EUs nothing is known of the view (shift, scale, roll, direction) nor of the wearer's neutral face (the rig's identity
modes).
With J the movement of the points for an EU of 1, N what is unknown beside, s the noise of each coordinate in px and v the
variance of an EU's values, the best estimate there is has (linear Gaussian model, e.g. Rasmussen & Williams 2006, sec. 2.1)

    posterior = (J' (s^2 I + N N')^-1 J + I / v)^-1          r_e = sqrt(1 - posterior_ee / v)

It leaves out what pictures show beside points (wrinkles, teeth, shadows) and what they hide, so it is a scale to read a model's r
by, no bound. The last line is one JSON object.
Axes: N coordinate (x and y of each point), E expression unit, K unknown beside, V vertices.
"""

import json
from pathlib import Path
from typing import Final

import click
import numpy as np
from numpy.typing import NDArray

from model_export.contract import CROP_SIZE_PX, CROP_SPAN_CM, EU_INDEX, EU_NAMES, EYE_MOVEMENTS, MOUTH_EUS, Camera
from model_export.faces.rig import FaceRig, load_rig

Array = NDArray[np.float64]

POINTS: Final = 200
VALUES_STD: Final = 0.27
"""Standard deviation of an EU's values on rendered wearers."""
NOISES_PX: Final = (0.5, 1.0, 2.0, 3.0)
IDENTITY_STD: Final = 0.7
"""Weights of identity modes."""
_SHIFT_PX, _SCALE, _ROLL, _DIRECTION_DEG = 5.0, 0.07, 0.08, 15.0
_FRONT_CM: Final = 6.0
"""Skin that a camera in front can see has a z above this."""
_NO_SHAPE: Final = ("tongueOut", "eyeBlink", "eyeLook", "pupil")
"""EUs that the rig has no plain shape for, or that something other than skin shows."""


def best_r(moves_NE: Array, beside_NK: Array, noise_px: float, std: float = VALUES_STD) -> Array:
    """Pearson's r of the best linear estimate of each EU, [E]."""
    covariance_NN = noise_px**2 * np.eye(len(moves_NE)) + beside_NK @ beside_NK.T
    precision_EE = moves_NE.T @ np.linalg.solve(covariance_NN, moves_NE) + np.eye(moves_NE.shape[1]) / std**2
    return np.asarray(np.sqrt((1 - np.diag(np.linalg.inv(precision_EE)) / std**2).clip(min=0)))


def face_points(rig: FaceRig, camera: Camera, names: tuple[str, ...]) -> tuple[Array, Array, Array]:
    """(J, view, identity): what moves the points of a crop, px for an EU of 1 and for one standard deviation of the rest."""
    vertices_V3 = rig.vertices_V3.astype(np.float64)
    scale = CROP_SIZE_PX / CROP_SPAN_CM[camera]
    centre_2 = _centre(rig, camera)
    near_V = (np.abs(vertices_V3[:, :2] - centre_2) < CROP_SPAN_CM[camera] / 2).all(axis=1)
    chosen = np.flatnonzero(near_V & (vertices_V3[:, 2] > _FRONT_CM))
    chosen = np.random.default_rng(0).choice(chosen, min(POINTS, len(chosen)), replace=False)
    offsets_EV3 = rig.unit_offsets(chosen).astype(np.float64)
    moves_NE = np.stack([offsets_EV3[EU_INDEX[name], :, :2].ravel() * scale for name in names], axis=1)
    x_V, y_V = ((vertices_V3[chosen, :2] - centre_2) * scale).T
    depth_V = (vertices_V3[chosen, 2] - vertices_V3[chosen, 2].mean()) * scale * np.tan(np.radians(_DIRECTION_DEG))
    one_V, zero_V = np.ones(len(chosen)), np.zeros(len(chosen))
    view = (
        (_SHIFT_PX * one_V, zero_V),
        (zero_V, _SHIFT_PX * one_V),
        (_SCALE * x_V, _SCALE * y_V),
        (-_ROLL * y_V, _ROLL * x_V),
        (depth_V, zero_V),
        (zero_V, depth_V),
    )
    view_NK = np.stack([np.stack(pair, axis=1).ravel() for pair in view], axis=1)
    modes = rig.identity_IV3[:, chosen, :2].astype(np.float64)
    return moves_NE, view_NK, IDENTITY_STD * scale * modes.reshape(len(modes), -1).T


def _centre(rig: FaceRig, camera: Camera) -> Array:
    """Where a crop is centred, found by what moves most: the lips that roll, the lid that shuts."""
    unit = "mouthRollLower" if camera is Camera.MOUTH else "eyeBlinkLeft"
    size_V = np.linalg.norm(rig.unit_offsets(np.arange(len(rig.vertices_V3)))[EU_INDEX[unit]], axis=1)
    centre_2 = rig.vertices_V3[size_V > size_V.max() / 3, :2].mean(axis=0).astype(np.float64)
    return np.asarray(centre_2 - (0.0, 0.4 if camera is Camera.MOUTH else 0.0))


@click.command()
@click.option("--rig", type=click.Path(exists=True, path_type=Path), required=True, help="FaceXModel folder or packed.")
@click.option("--evaluation", type=click.Path(exists=True, path_type=Path), help="evaluation.json to set beside it.")
def main(rig: Path, evaluation: Path | None) -> None:
    """Print r by noise for every EU that the rig has a shape for."""
    face = load_rig(rig)
    measured = json.loads(evaluation.read_bytes())["wearers"]["eus"] if evaluation else {}
    result = {}
    for camera, regions in (
        (Camera.LEFT_EYE, tuple(f"{name}Left" for name in EYE_MOVEMENTS)),
        (Camera.MOUTH, MOUTH_EUS),
    ):
        names = tuple(name for name in regions if not name.startswith(_NO_SHAPE))
        moves_NE, view_NK, identity_NK = face_points(face, camera, names)
        everything_NK = np.hstack([view_NK, identity_NK])
        rows = [best_r(moves_NE, everything_NK, noise) for noise in NOISES_PX]
        known = [best_r(moves_NE, view_NK, noise) for noise in NOISES_PX]
        click.echo(f"{camera.label:16s} r at {', '.join(f'{noise:g}' for noise in NOISES_PX)} px; neutral face known")
        for e, name in enumerate(names):
            beside = f" | model {measured[name]['r']:.2f}" if name in measured else ""
            click.echo(f"  {name:20s}" + " ".join(f"{row[e]:.2f}" for row in (*rows, *known)) + beside)
        model = [measured[name]["r"] for name in names if name in measured]
        result[camera.label] = {
            "mean_r": dict(zip(map(str, NOISES_PX), (round(float(row.mean()), 3) for row in rows), strict=True)),
            "mean_r_neutral_known": dict(
                zip(map(str, NOISES_PX), (round(float(row.mean()), 3) for row in known), strict=True)
            ),
            "model_mean_r": round(float(np.mean(model)), 3) if model else None,
        }
        if model:
            closest = {
                str(noise): round(float(np.corrcoef(row, model)[0, 1]), 3)
                for noise, row in zip(NOISES_PX, rows, strict=True)
            }
            result[camera.label]["r_of_model_and_limit_over_eus"] = closest
    click.echo(json.dumps({"points": POINTS, "eus": len(EU_NAMES), **result}))


if __name__ == "__main__":
    main()
