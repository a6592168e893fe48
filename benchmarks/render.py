"""Times the synthetic headset: posing, drawing and image formation of a frame set of three 128x128 cameras, CPU time of one core.

Run `python benchmarks/render.py --rig <rig.npz or FaceXModel folder>`; the last line of stdout is one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from model_export.faces.performance import perform
from model_export.faces.render import Stage, draw_fit
from model_export.faces.rig import load_rig
from model_export.faces.wearer import draw_wearer


def main() -> None:
    """Render fresh fittings of a wearer and print milliseconds a frame set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rig", type=Path, required=True, help="packed rig (.npz) or FaceXModel folder")
    parser.add_argument("--fittings", type=int, default=20, help="fittings to render")
    parser.add_argument("--frames", type=int, default=12, help="frame sets of each fitting")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    stage = Stage(load_rig(options.rig))
    wearer = draw_wearer(0, modes=len(stage.anatomy.identity_IP3))
    start = time.process_time()
    dressed = stage.dress(wearer)
    dress_ms = 1e3 * (time.process_time() - start)
    times_ms: dict[str, list[float]] = {"pose": [], "frame_set": []}
    for number in range(options.fittings + 1):
        rng = np.random.default_rng(number)
        fit = draw_fit(rng, wearer, "train")
        values_TE = perform(rng, np.arange(options.frames) * 0.35)
        for values_E in values_TE:
            start = time.process_time()
            dressed.puppet.pose(values_E)
            posed = time.process_time()
            stage.picture(dressed, fit, values_E, 0.5, rng)
            if number:  # the first fitting compiles
                times_ms["pose"].append(1e3 * (posed - start))
                times_ms["frame_set"].append(1e3 * (time.process_time() - posed))
    report = {
        name: {
            "median_ms": round(statistics.median(times), 2),
            "p90_ms": round(statistics.quantiles(times, n=10)[-1], 2),
        }
        for name, times in times_ms.items()
    }
    sys.stdout.write(json.dumps({**report, "dress_wearer_ms": round(dress_ms, 1)}) + "\n")


if __name__ == "__main__":
    main()
