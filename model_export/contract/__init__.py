"""What the exporter promises to the service and to calibration: names, frames, values, heads, takes, bundles."""

from model_export.contract.bundle import Bundle, Golden, read_bundle, write_bundle
from model_export.contract.cues import CUE_SET_VERSION, CUES, SCRIPT, Cue, cue_by_name
from model_export.contract.errors import BundleError, ContractError, FrameError, HeadError, TakeError
from model_export.contract.expression_units import (
    EU_COUNT,
    EU_INDEX,
    EU_NAMES,
    EU_SET_VERSION,
    EYE_MOVEMENTS,
    LEFT_EYE_EUS,
    MOUTH_EUS,
    RIGHT_EYE_EUS,
)
from model_export.contract.eye_pair import EYE_SIGNALS, EyePair
from model_export.contract.frames import CROP_SIZE_PX, CROP_SPAN_CM, Camera, Frame, FrameSet
from model_export.contract.head import FEATURE_COUNT, LAST_COUNT, MAP_COUNT, Head, RegionHead, read_head, write_head
from model_export.contract.resting import Resting, rested
from model_export.contract.slip import NO_SLIP, Slip, followed, followed_share, is_slip
from model_export.contract.take import Take, read_take, write_take
from model_export.contract.values import ExpressionValues, RegionState, Validity

__all__ = [
    "CROP_SIZE_PX",
    "CROP_SPAN_CM",
    "CUES",
    "CUE_SET_VERSION",
    "EU_COUNT",
    "EU_INDEX",
    "EU_NAMES",
    "EU_SET_VERSION",
    "EYE_MOVEMENTS",
    "EYE_SIGNALS",
    "FEATURE_COUNT",
    "LAST_COUNT",
    "LEFT_EYE_EUS",
    "MAP_COUNT",
    "MOUTH_EUS",
    "NO_SLIP",
    "RIGHT_EYE_EUS",
    "SCRIPT",
    "Bundle",
    "BundleError",
    "Camera",
    "ContractError",
    "Cue",
    "ExpressionValues",
    "EyePair",
    "Frame",
    "FrameError",
    "FrameSet",
    "Golden",
    "Head",
    "HeadError",
    "RegionHead",
    "RegionState",
    "Resting",
    "Slip",
    "Take",
    "TakeError",
    "Validity",
    "cue_by_name",
    "followed",
    "followed_share",
    "is_slip",
    "read_bundle",
    "read_head",
    "read_take",
    "rested",
    "write_bundle",
    "write_head",
    "write_take",
]
