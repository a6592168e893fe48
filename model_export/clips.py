"""Evaluation on clips of real people against reference curves: Pearson's r within each clip, median over clips.

Axes: T frame, E expression unit, R reference channel, H W image.

A clip is an npz: left_eye, right_eye, mouth uint8 [T, 128, 128] upright, not mirrored; t_ns int64 [T]; reference
float32 [T, R]; reference_names [R], ARKit's names. The reference is a model too, on the whole face, with cross-talk between
its channels: the curve's shape within a clip is judged, not its values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model_export.contract import EU_INDEX, Bundle, Camera, Head
from model_export.errors import EvaluationError
from model_export.estimates import Estimates, estimate, placed_head, seconds_of
from model_export.evaluate import merged
from model_export.metrics import number, pearson

Curve = NDArray[np.float32]
Curves = Mapping[str, Curve]

MOVES_STD: Final = 0.02
"""A reference channel with a smaller standard deviation within a clip says nothing there; the clip is skipped for it."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a real face with its reference curves."""

    name: str
    left_eye_THW: NDArray[np.uint8]
    right_eye_THW: NDArray[np.uint8]
    mouth_THW: NDArray[np.uint8]
    t_ns: NDArray[np.int64]
    """Capture times."""
    reference: Curves
    """Name -> float32 [T]."""


def read_clip(path: Path) -> Clip:
    """The clip in an npz file; raises EvaluationError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["reference_names"]]
            reference_TR = np.asarray(arrays["reference"], np.float32)
            images = [np.asarray(arrays[camera]) for camera in ("left_eye", "right_eye", "mouth")]
            t_ns = np.asarray(arrays["t_ns"])
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise EvaluationError(f"{path} should be a clip with images and a reference. Found: {error}.") from None
    for image_THW in images:
        if image_THW.dtype != np.uint8 or image_THW.shape != (len(reference_TR), 128, 128):
            raise EvaluationError(
                f"Images of {path} should be uint8 {[len(reference_TR), 128, 128]}. "
                f"Found {image_THW.dtype} {list(image_THW.shape)}."
            )
    if t_ns.dtype != np.int64 or t_ns.shape != (len(reference_TR),):
        raise EvaluationError(
            f"`t_ns` of {path} should be int64 [{len(reference_TR)}]. Found {t_ns.dtype} {list(t_ns.shape)}."
        )
    reference = {name: reference_TR[:, column] for column, name in enumerate(names)}
    return Clip(path.stem, images[0], images[1], images[2], t_ns, reference)


@dataclass(frozen=True, slots=True)
class Channel:
    """A curve of ours and the reference's counterpart."""

    name: str
    ours: Callable[[Curves], Curve]
    reference: Callable[[Curves], Curve]
    baseline: float | None = None
    """What the first probe reached: median over 17 clips, of which only 6 can be seen here."""


def _same(eu: str, baseline: float | None = None) -> Channel:
    return Channel(eu, lambda values: values[eu], lambda values: values[eu], baseline)


def _mean(*names: str) -> Callable[[Curves], Curve]:
    return lambda values: np.asarray(np.mean([values[name] for name in names], axis=0), np.float32)


def _gaze_x(*sides: str) -> Callable[[Curves], Curve]:
    """Towards the wearer's left: out of the left eye's view of the nose, into the right eye's."""

    def curve(values: Curves) -> Curve:
        each = []
        if "Left" in sides:
            each.append(values["eyeLookOutLeft"] - values["eyeLookInLeft"])
        if "Right" in sides:
            each.append(values["eyeLookInRight"] - values["eyeLookOutRight"])
        return np.asarray(np.mean(each, axis=0), np.float32)

    return curve


def _gaze_y(values: Curves) -> Curve:
    each = [values[f"eyeLookUp{side}"] - values[f"eyeLookDown{side}"] for side in ("Left", "Right")]
    return np.asarray(np.mean(each, axis=0), np.float32)


def _left_right(values: Curves) -> Curve:
    return values["mouthLeft"] - values["mouthRight"]


_SMILE = _mean("mouthSmileLeft", "mouthSmileRight")

CHANNELS: Final = (
    _same("jawOpen", 0.77),
    Channel("mouthSmile", _SMILE, _SMILE, 0.77),
    _same("mouthPucker", 0.57),
    Channel(
        "mouthPucker or mouthFunnel",
        lambda values: np.maximum(values["mouthPucker"], values["mouthFunnel"]),
        lambda values: values["mouthPucker"],
        0.57,
    ),
    Channel("mouthLeft - mouthRight", _left_right, _left_right, 0.02),
    _same("mouthRollLower", -0.08),
    _same("eyeBlinkLeft", 0.80),
    _same("eyeBlinkRight", 0.84),
    Channel("gaze-x, left eye", _gaze_x("Left"), _gaze_x("Left"), 0.65),
    Channel("gaze-x, right eye", _gaze_x("Right"), _gaze_x("Right"), 0.61),
    Channel("gaze-x, both eyes", _gaze_x("Left", "Right"), _gaze_x("Left", "Right"), 0.63),
    Channel("gaze-y, both eyes", _gaze_y, _gaze_y, 0.68),
    Channel("gaze-x in degrees", _mean("leftYaw", "rightYaw"), _gaze_x("Left", "Right"), 0.63),
    Channel("gaze-y in degrees", _mean("leftPitch", "rightPitch"), _gaze_y, 0.68),
    Channel("browInnerUp", _mean("browInnerUpLeft", "browInnerUpRight"), lambda values: values["browInnerUp"]),
    Channel(
        "browOuterUp",
        _mean("browOuterUpLeft", "browOuterUpRight"),
        _mean("browOuterUpLeft", "browOuterUpRight"),
    ),
)


def evaluate_clips(bundles: Sequence[Bundle], paths: Sequence[Path]) -> dict[str, Any]:
    """Median r over clips for each channel, also where crops follow the face, and r of each clip; JSON values only."""
    if not paths:
        raise EvaluationError("Give one or more clips. Found none.")
    clips = [read_clip(path) for path in paths]
    found = [[_correlations(bundle, clip, bundle.head) for clip in clips] for bundle in bundles]
    placed = [[_correlations(bundle, clip, _placed(bundle, clip)) for clip in clips] for bundle in bundles]
    channels: dict[str, Any] = {}
    for channel in CHANNELS:
        rows = [[by_clip[channel.name] for by_clip in rows] for rows in found]
        used = [clip.name for clip, r in zip(clips, rows[0], strict=True) if r is not None]
        placed_rows = [[by_clip[channel.name] for by_clip in rows] for rows in placed]
        medians = [
            {"median_r": _median(row), "placed_median_r": _median(placed_row)}
            for row, placed_row in zip(rows, placed_rows, strict=True)
        ]
        each = [merged([{"r": row[index]} for row in rows])["r"] for index in range(len(clips))]
        channels[channel.name] = {
            **merged(medians),
            "clips_used": len(used),
            "first_probe_r": channel.baseline,
            "clips": {clip.name: r for clip, r in zip(clips, each, strict=True) if r is not None},
        }
    return {"clips": len(clips), "frames": sum(len(clip.mouth_THW) for clip in clips), "channels": channels}


def _placed(bundle: Bundle, clip: Clip) -> Head:
    crops = (clip.left_eye_THW, clip.right_eye_THW, clip.mouth_THW)
    return placed_head(bundle, dict(zip(Camera, crops, strict=True)), seconds_of(clip.t_ns))


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return number(float(np.median(known))) if known else None


def _correlations(bundle: Bundle, clip: Clip, head: Head) -> dict[str, float | None]:
    """R of each channel within this clip; None where the reference barely moves or lacks the channel."""
    ours = _curves(estimate(bundle, clip.left_eye_THW, clip.right_eye_THW, clip.mouth_THW, head=head))
    result: dict[str, float | None] = {}
    for channel in CHANNELS:
        result[channel.name] = None
        try:
            reference_T = channel.reference(clip.reference)
        except KeyError:
            continue
        if float(reference_T.std()) >= MOVES_STD:
            result[channel.name] = number(pearson(channel.ours(ours)[:, None], reference_T[:, None])[0])
    return result


def _curves(estimates: Estimates) -> dict[str, Curve]:
    curves = {name: estimates.values_TE[:, index] for name, index in EU_INDEX.items()}
    gaze = ("leftYaw", "leftPitch", "rightYaw", "rightPitch")
    return curves | {name: estimates.gaze_T4[:, column] for column, name in enumerate(gaze)}
