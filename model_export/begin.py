"""What a training begins with: the weights of a finished run, or of a bundle, which anyone has.

A bundle's batch norms are folded into its kernels. They are put back here so that the network says what the bundle says, with
the statistics of the training's own crops. Axes: B crops, C channel, K point of the face, D input of the points' layer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from model_export.augment import NO_AUGMENTATION
from model_export.batches import BatchSource
from model_export.checkpoint import load_finished
from model_export.contract import LAST_COUNT, Bundle, ContractError, RegionHead, read_bundle
from model_export.data import ShardEntry
from model_export.errors import CheckpointError
from model_export.network import POINT_SCALE_PX, Backbone, ConvBlock, ExpressionNetwork, HeadModule, uncompared

_STATISTICS_BATCHES: Final = 12
_STATISTICS_FRAME_SETS: Final = 48
_KERNEL_RMS: Final = 0.1
"""Root mean square of each row of a kernel that a batch norm follows; an eye backbone's ended at .04 to .16."""
_RIDGE: Final = 0.01
"""Of the points' layer, share of the mean square of its inputs."""


def begin_with(folder: Path, network: ExpressionNetwork, entries: Sequence[ShardEntry]) -> dict[str, Any]:
    """Puts the weights in `folder` into `network` and gives the record of how they were trained.

    A bundle's parts must have the network's shapes. `entries` are the shards whose crops give the statistics. Raises
    CheckpointError.
    """
    if not (folder / "bundle.json").exists():
        return load_finished(folder, network)
    try:
        bundle = read_bundle(folder)
    except ContractError as error:
        raise CheckpointError(f"{folder} should be a bundle to begin with. Found: {error}") from None
    for backbone, model in ((network.eye, bundle.eye_onnx), (network.mouth, bundle.mouth_onnx)):
        _load_folded(folder, backbone, _weights(model))
    _load_head(network.eye_head, bundle.head.left_eye)
    _load_head(network.mouth_head, bundle.head.mouth)
    source = BatchSource(entries, _STATISTICS_FRAME_SETS, NO_AUGMENTATION, seed=0)
    batches = [source[step] for step in range(_STATISTICS_BATCHES)]
    for backbone, points, pixels_BHW, points_BK4 in (
        (
            *(network.eye, network.eye_points, torch.cat([batch.eye_pixels_BHW for batch in batches])),
            torch.cat([batch.eye_points_BK4 for batch in batches]),
        ),
        (
            *(network.mouth, network.mouth_points, torch.cat([batch.mouth_pixels_BHW for batch in batches])),
            torch.cat([batch.mouth_points_BK4 for batch in batches]),
        ),
    ):
        _set_statistics(backbone, pixels_BHW)
        _set_points(backbone, points, pixels_BHW, points_BK4)
    return _record(bundle)


def _record(bundle: Bundle) -> dict[str, Any]:
    training = dict(bundle.training)
    training.pop("evaluation", None)
    return training | {"bundle": {"name": bundle.name, "digest": bundle.digest}}


def _weights(model: bytes) -> dict[str, Tensor]:
    """Initialisers by the names that torch gave them, halves widened."""
    return {
        tensor.name.removesuffix(".half"): torch.from_numpy(onnx.numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in onnx.load_from_string(model).graph.initializer
    }


def _load_folded(folder: Path, backbone: Backbone, weights: Mapping[str, Tensor]) -> None:
    norms = {
        f"blocks.{b}.conv.bias": (block.conv.weight, block.norm)
        for b, block in enumerate(backbone.blocks)
        if isinstance(block, ConvBlock)
    }
    norms |= {"linear.bias": (backbone.linear.weight, backbone.norm)}
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name in weights:
                if parameter.shape != weights[name].shape:
                    raise CheckpointError(
                        f"{name} of {folder} should be {list(parameter.shape)}. Found {list(weights[name].shape)}. "
                        "Train with the widths that the bundle has, or begin anew."
                    )
                parameter.copy_(weights[name])
        for name, (kernel, norm) in norms.items():
            if name not in weights:
                raise CheckpointError(
                    f"{folder} should hold {name}. Found none: a quantised bundle cannot be trained on."
                )
            assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
            norm.running_mean = torch.zeros_like(weights[name])
            norm.running_var = torch.full_like(weights[name], 1 - norm.eps)
            # Folded rows have any size, whole kernels down to a fifth of what a training brings them to. What the network says
            # does not depend on it, but a step of the optimiser does not shrink with them: it would be five steps.
            size_C = kernel.flatten(1).square().mean(1).sqrt().clamp(min=1e-6) / _KERNEL_RMS
            kernel.div_(size_C.view(-1, *[1] * (kernel.ndim - 1)))
            norm.weight.copy_(size_C)
            norm.bias.copy_(weights[name])


def _load_head(module: HeadModule, region: RegionHead) -> None:
    scale_O = module.scale_O.cpu()
    with torch.no_grad():
        module.down_FA.copy_(torch.from_numpy(region.down_FA))
        module.down_bias_A.copy_(torch.from_numpy(region.down_bias_A))
        module.up_AF.copy_(torch.from_numpy(region.up_AF))
        module.weight_FO.copy_(torch.from_numpy(region.weight_FO) / scale_O)
        module.bias_O.copy_(torch.from_numpy(region.bias_O) / scale_O)


@torch.no_grad()
def _set_statistics(backbone: Backbone, pixels_BHW: Tensor) -> None:
    """Gives each batch norm the mean and the spread of what reaches it, and the scale and offset that undo them."""
    norms = [block.norm for block in backbone.blocks if isinstance(block, ConvBlock)] + [backbone.norm]
    inputs: dict[nn.Module, Tensor] = {}
    hooks = [norm.register_forward_pre_hook(lambda module, given: inputs.update({module: given[0]})) for norm in norms]
    training = backbone.training
    backbone.eval()
    sums: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    chunks = torch.split(pixels_BHW, 64)
    for chunk in chunks:
        there = chunk.to(backbone.linear.weight.device)
        backbone(there, uncompared(there))
        for norm, given in inputs.items():
            channels_CN = given.transpose(0, 1).flatten(1).double()
            before = sums.get(norm, (torch.zeros(()), torch.zeros(())))
            found = (channels_CN.mean(1), channels_CN.square().mean(1))
            sums[norm] = (before[0] + found[0] / len(chunks), before[1] + found[1] / len(chunks))
    for hook in hooks:
        hook.remove()
    for norm, (mean_C, square_C) in sums.items():
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        norm.running_mean = mean_C.float()
        norm.running_var = (square_C - mean_C.square()).clamp(min=1e-6).float()
        norm.bias.add_(norm.weight * norm.running_mean)
        norm.weight.mul_((norm.running_var + norm.eps).sqrt())
    backbone.train(training)


@torch.no_grad()
def _set_points(backbone: Backbone, layer: nn.Linear, pixels_BHW: Tensor, points_BK4: Tensor) -> None:
    """The layer that reads the points off, by ridge regression: one that is far off would drag good features along."""
    training = backbone.training
    backbone.eval()
    device = layer.weight.device
    chunks = [chunk.to(device) for chunk in torch.split(pixels_BHW, 64)]
    features_BF = torch.cat([backbone(chunk, uncompared(chunk))[:, :LAST_COUNT] for chunk in chunks]).double()
    inputs_BD = torch.cat([features_BF, torch.ones_like(features_BF[:, :1])], 1)
    wanted_BO = (points_BK4.flatten(1) / POINT_SCALE_PX).to(device).double()
    gram_DD = inputs_BD.T @ inputs_BD
    gram_DD.diagonal().add_(_RIDGE * gram_DD.diagonal().mean())
    solution_DO = torch.linalg.solve(gram_DD, inputs_BD.T @ wanted_BO)
    layer.weight.copy_(solution_DO[:-1].T)
    layer.bias.copy_(solution_DO[-1])
    backbone.train(training)
