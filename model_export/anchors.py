"""Computing anchors: the features of rendered wearers through a bundle's own backbones, and their second moments.

Axes: B crop, F feature.
"""

from pathlib import Path
from typing import Final

import numpy as np

from model_export.contract import Anchors, Bundle, read_bundle, write_bundle
from model_export.contract.anchors import moment_of
from model_export.data import list_shards, open_shard
from model_export.errors import DataError
from model_export.onnx_features import onnx_features

_BATCH: Final = 8


def anchors_of(bundle: Bundle, data: Path, wearers: int) -> Anchors:
    """Anchors over wearers of `data`, those held out of the training before others: about 0.1 s of CPU each.

    Held-out wearers look as the next wearer will; those that a network was trained on spread their features more.
    """
    entries = list_shards(data)
    held_out = set((bundle.training.get("data") or {}).get("held_out_wearers", ()))
    chosen = sorted(entries, key=lambda entry: entry.wearer not in held_out)[:wearers]
    if not chosen:
        raise DataError(f"Anchors need a wearer or more. Found none in {data}.")
    eyes, mouths = [], []
    for entry in chosen:
        shard = open_shard(entry)
        eyes.append(onnx_features(bundle.eye_onnx, shard.left_eye_THW, _BATCH))
        eyes.append(onnx_features(bundle.eye_onnx, shard.right_eye_THW[:, :, ::-1], _BATCH))
        mouths.append(onnx_features(bundle.mouth_onnx, shard.mouth_THW, _BATCH))
    frames = sum(len(rows) for rows in mouths)
    return Anchors(moment_of(np.concatenate(eyes)), moment_of(np.concatenate(mouths)), frames)


def add_anchors(folder: Path, data: Path, wearers: int) -> Anchors:
    """Puts anchors into the bundle in `folder`, in place of any that it has; nothing else of it changes but its digest."""
    bundle = read_bundle(folder)
    anchors = anchors_of(bundle, data, wearers)
    write_bundle(
        folder,
        name=bundle.name,
        eye_onnx=bundle.eye_onnx,
        mouth_onnx=bundle.mouth_onnx,
        head=bundle.head,
        golden=bundle.golden,
        training=bundle.training,
        anchors=anchors,
    )
    return anchors
