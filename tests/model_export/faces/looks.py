"""A plain fitting, light and sensor, in which tests can measure."""

from dataclasses import replace

import numpy as np

from model_export.faces.camera import Fitting, draw_fitting
from model_export.faces.image import draw_sensor
from model_export.faces.look import draw_look
from model_export.faces.render import Fit
from model_export.faces.wearer import Wearer


def frontal() -> Fitting:
    """A webcam straight ahead, 60 cm away, without jitter."""
    return replace(
        draw_fitting(np.random.default_rng(0), "frontal"),
        position_C3=np.tile(np.array([0, 0, 60], np.float32), (3, 1)),
        roll_C=np.zeros(3, np.float32),
        scale_C=np.ones(3, np.float32),
        shift_C2=np.zeros((3, 2), np.float32),
        surface_C=np.zeros(3, np.float32),
        follow_3=np.zeros(3, np.float32),
        slip_3=np.zeros(3, np.float32),
        slip_turn_rad=0.0,
        infrared=True,
    )


def plain(wearer: Wearer) -> Fit:
    """Soft light from the front, no glints, a sharp sensor without noise, bright iris and sclera around a black pupil."""
    rng = np.random.default_rng(1)
    fitting = frontal()
    look = draw_look(rng, wearer, fitting)
    lights = np.zeros_like(look.lights_CL8)
    lights[:, 0] = (0.2, 0.4, 0.9, 0, 0.6, 1, 0.001, 2)
    look = replace(
        look,
        lights_CL8=lights,
        ambient_up=0.4,
        ambient_down=0.4,
        gloss=0.0,
        pupil=0.0,
        iris=0.6,
        sclera=0.9,
        lash_cover=0.0,
    )
    sensor = replace(
        draw_sensor(rng, fitting, far=False),
        render_px=128,
        level=0.3,
        gain_C=np.ones(3, np.float32),
        flicker=0.0,
        black=0.0,
        contrast=1.0,
        gamma=0.5,
        vignetting=0.0,
        distortion=0.0,
        blur_px=0.0,
        motion_px=0.0,
        noise=0.0,
        sharpen=0.0,
        jpeg_quality=0,
        rim=0.0,
        spectacles=-1.0,
        hair=-1.0,
    )
    return Fit(fitting, look, sensor)
