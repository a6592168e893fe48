"""The network: an eye and a mouth backbone from crops to features, and the universal heads on top.

Axes: B batch, H W image, C channel, G grid, M feature of the map, F feature of the last layer, A adapter, O head output, K point
of the face.

Both backbones are plain convolution nets: a stem of stride 4, stages at 16x16 and 8x8, and a narrow 8x8 map that is
flattened, not averaged, because where lids and lips are is the answer. Dense 3x3 convolutions at low resolution reach three
quarters of a core's peak in onnxruntime; depthwise ones, squeeze-excitation and normalisation after the stem were slower
for the same accuracy budget (docs/experiments.md). Every batch norm is folded away at export.
"""

import copy
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from model_export.contract import EYE_MOVEMENTS, LAST_COUNT, MAP_COUNT, MOUTH_EUS, Head, RegionHead
from model_export.points import EYE_POINTS, MOUTH_POINTS
from model_export.standardise import LocalStandardisation

ADAPTER_COUNT: Final = 16
"""Width of a head's bottleneck."""
EYE_EU_COUNT: Final = len(EYE_MOVEMENTS)
MOUTH_EU_COUNT: Final = len(MOUTH_EUS)
GAZE_SCALE_DEG: Final = 10.0
"""A gaze output of 1 inside training stands for so many degrees; folded into the head's last layer on the way out."""
POINT_SCALE_PX: Final = 16.0
"""An output of 1 inside training stands for so many px of a point's place."""
GRID: Final = 8
"""Side of the last feature map."""


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """Widths and depths of one backbone."""

    stem: int = 32
    """Channels at 32x32."""
    middle: int = 48
    """Channels at 16x16."""
    middle_blocks: int = 1
    """Residual 3x3 convolutions at 16x16."""
    top: int = 96
    """Channels at 8x8."""
    top_blocks: int = 2
    """Residual 3x3 convolutions at 8x8."""
    flat: int = MAP_COUNT // GRID**2
    """Channels of the 8x8 map that is flattened; what a wearer's head may read is part of the contract."""
    comparison: int = 64
    """Units that compare each place of the map with the neutral one's."""

    def __post_init__(self) -> None:
        if min(self.stem, self.middle, self.top, self.comparison) < 1 or min(self.middle_blocks, self.top_blocks) < 0:
            raise ValueError(f"Widths should be 1 or more and depths 0 or more. Found {self}.")
        if self.flat * GRID**2 != MAP_COUNT:
            raise ValueError(f"`flat` should be {MAP_COUNT // GRID**2}. Found {self.flat}.")


EYE_BACKBONE: Final = BackboneConfig()
MOUTH_BACKBONE: Final = BackboneConfig(middle=64, top=128)
"""More channels where 32 EUs meet in one picture."""


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU; adds its input when `residual`."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, *, residual: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, (size - stride + 1) // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.residual = residual

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """float32 [B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        y_BCHW = torch.relu_(self.norm(self.conv(x_BCHW)))
        return x_BCHW + y_BCHW if self.residual else y_BCHW


class Comparison(nn.Module):
    """A map seen beside the neutral one of the same face: what of it is how this face is made, and what is movement.

    Place by place, with the same few numbers everywhere: matrices over whole maps learnt faces by heart, and 3x3 kernels began to
    (docs/decisions/011).
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(2 * channels, units, 1)
        self.out = nn.Conv2d(units, channels, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, map_BM: Tensor, neutral_BM: Tensor) -> Tensor:
        """float32 [B, 1024] of the crops, [B, 1024] of the faces at rest, zeros where that is not known -> [B, 1024]."""
        both_BCGG = torch.cat([map_BM, neutral_BM], 1).view(-1, self.into.in_channels, GRID, GRID)
        compared_BCGG: Tensor = self.out(torch.relu(self.into(both_BCGG)))
        return map_BM + compared_BCGG.flatten(1)


class Neutral(NamedTuple):
    """What a region's crops are compared with in training: maps of each other and of faces at rest; zeros: with nothing."""

    of_crops_BB: Tensor
    """float32 [B, B]: share that the map of each crop has in what this one is compared with; below 0 it counts against."""
    of_rests_BM: Tensor
    """float32 [B, 1024]: maps at rest, with the shares that they have."""


class Backbone(nn.Module):
    """uint8 crops [B, 128, 128] -> float32 features [B, 1280]: the last layer's 256, then the map's 1,024; none negative.

    The last layer reads the map beside the neutral one of the same face, where that is known; the map itself knows nothing of it.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.standardise = LocalStandardisation()
        self.blocks = nn.Sequential(
            ConvBlock(1, config.stem, 8, 4),
            ConvBlock(config.stem, config.middle, 3, 2),
            *(ConvBlock(config.middle, config.middle, residual=True) for _ in range(config.middle_blocks)),
            ConvBlock(config.middle, config.top, 3, 2),
            *(ConvBlock(config.top, config.top, residual=True) for _ in range(config.top_blocks)),
            ConvBlock(config.top, config.flat, 1),
        )
        self.comparison = Comparison(config.flat, config.comparison)
        self.linear = nn.Linear(MAP_COUNT, LAST_COUNT, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(LAST_COUNT)

    def forward(self, pixels: Tensor, neutral: Tensor) -> Tensor:
        """All features of these crops, as exported; `pixels` and `neutral` are the names of the inputs."""
        map_BM = self.map(self.standardise(pixels))
        return torch.cat([self.last(map_BM, neutral), map_BM], 1)

    def map(self, standardised_BCHW: Tensor) -> Tensor:
        """The map [B, 1024] of crops that are standardised already."""
        map_BCHW: Tensor = self.blocks(standardised_BCHW)
        return map_BCHW.flatten(1)

    def last(self, map_BM: Tensor, neutral_BM: Tensor) -> Tensor:
        """The last layer's features [B, 256] of these maps."""
        return torch.relu(self.norm(self.linear(self.comparison(map_BM, neutral_BM))))


class HeadModule(nn.Module):
    """One region's head in torch; `to_region_head` gives the same arithmetic in numpy."""

    scale_O: Tensor

    def __init__(self, outputs: int, adapter: int = ADAPTER_COUNT) -> None:
        super().__init__()
        self.down_FA = nn.Parameter(torch.randn(LAST_COUNT, adapter) / LAST_COUNT**0.5)
        self.down_bias_A = nn.Parameter(torch.zeros(adapter))
        self.up_AF = nn.Parameter(torch.zeros(adapter, LAST_COUNT))
        self.weight_FO = nn.Parameter(torch.randn(LAST_COUNT, outputs) * 0.1 / LAST_COUNT**0.5)
        self.bias_O = nn.Parameter(torch.zeros(outputs))
        scale_O = torch.ones(outputs)
        if outputs == EYE_EU_COUNT + 3:
            scale_O[EYE_EU_COUNT : EYE_EU_COUNT + 2] = GAZE_SCALE_DEG
        self.register_buffer("scale_O", scale_O, persistent=False)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Raw outputs [B, O]."""
        hidden_BA = torch.relu(features_BF @ self.down_FA + self.down_bias_A)
        adapted_BF = features_BF + hidden_BA @ self.up_AF
        return (adapted_BF @ self.weight_FO + self.bias_O) * self.scale_O

    def to_region_head(self) -> RegionHead:
        """The head's numbers for numpy, the gaze scale folded into the last layer."""
        parts = (
            self.down_FA,
            self.down_bias_A,
            self.up_AF,
            self.weight_FO * self.scale_O,
            self.bias_O * self.scale_O,
        )
        return RegionHead(*(np.ascontiguousarray(part.detach().cpu().numpy(), np.float32) for part in parts))


class Outputs(NamedTuple):
    """What the network says of eye crops (right eyes mirrored) and of mouth crops."""

    eye_BO: Tensor
    """Raw outputs [B, 15], gaze in degrees."""
    mouth_BO: Tensor
    """Raw outputs [B, 33]."""
    eye_points_BK4: Tensor
    """Points of the face in px, as batches.Batch has them; learnt beside the outputs and not exported."""
    mouth_points_BK4: Tensor


class ExpressionNetwork(nn.Module):
    """Both backbones with their universal heads: what training updates.

    With `precision` torch.bfloat16 the backbones' layers compute in mixed precision; pixels are standardised and heads applied
    in float32 all the same, because a variance or a gaze angle does not fit into 8 bits of mantissa.
    """

    def __init__(
        self,
        eye: BackboneConfig = EYE_BACKBONE,
        mouth: BackboneConfig = MOUTH_BACKBONE,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.eye = Backbone(eye)
        self.mouth = Backbone(mouth)
        self.eye_head = HeadModule(EYE_EU_COUNT + 3)
        self.mouth_head = HeadModule(MOUTH_EU_COUNT + 1)
        self.eye_points = nn.Linear(LAST_COUNT, 4 * EYE_POINTS)
        self.mouth_points = nn.Linear(LAST_COUNT, 4 * MOUTH_POINTS)

    def forward(
        self, eye_pixels_BHW: Tensor, mouth_pixels_BHW: Tensor, eye_neutral: Neutral, mouth_neutral: Neutral
    ) -> Outputs:
        """The outputs for eye crops and for mouth crops, uint8 [B, 128, 128] each."""
        eye_BF = self._features(self.eye, eye_pixels_BHW, eye_neutral)
        mouth_BF = self._features(self.mouth, mouth_pixels_BHW, mouth_neutral)
        return Outputs(
            self.eye_head(eye_BF),
            self.mouth_head(mouth_BF),
            _points(self.eye_points, eye_BF),
            _points(self.mouth_points, mouth_BF),
        )

    def map_of(self, backbone: Backbone, pixels_BHW: Tensor) -> Tensor:
        """The map [B, 1024] of crops, computed in this network's precision."""
        standardised_BCHW = backbone.standardise(pixels_BHW)
        with self._autocast(pixels_BHW.device):
            return backbone.map(standardised_BCHW)

    def _features(self, backbone: Backbone, pixels_BHW: Tensor, neutral: Neutral) -> Tensor:
        map_BM = self.map_of(backbone, pixels_BHW)
        # what a face is compared with is as it is: nothing is learnt through it
        neutral_BM = (neutral.of_crops_BB @ map_BM.detach().float() + neutral.of_rests_BM).clamp(min=0)
        with self._autocast(pixels_BHW.device):
            features_BF = backbone.last(map_BM, neutral_BM)
        return features_BF.float()

    def _autocast(self, device: torch.device) -> torch.autocast:
        low = self.precision != torch.float32
        return torch.autocast(device.type, self.precision if low else None, enabled=low)

    def to_head(self) -> Head:
        """The universal head; both eyes carry the same numbers because both are seen as left eyes."""
        eye = self.eye_head.to_region_head()
        return Head(left_eye=eye, right_eye=eye, mouth=self.mouth_head.to_region_head(), backbone_digest="")


def _points(layer: nn.Linear, features_BF: Tensor) -> Tensor:
    points_BO: Tensor = POINT_SCALE_PX * layer(features_BF)
    return points_BO.view(len(points_BO), -1, 4)


def uncompared(pixels_BHW: Tensor) -> Tensor:
    """What crops are compared with when nothing is known of their faces: zeros [B, 1024]."""
    return torch.zeros(len(pixels_BHW), MAP_COUNT, device=pixels_BHW.device)


def folded(backbone: Backbone) -> Backbone:
    """A copy for inference whose batch norms are folded into the layers before them; same features."""
    result = copy.deepcopy(backbone).eval()
    for block in result.blocks:
        if isinstance(block, ConvBlock) and isinstance(block.norm, nn.BatchNorm2d):
            block.conv, block.norm = fuse_conv_bn_eval(block.conv, block.norm), nn.Identity()
    if isinstance(result.norm, nn.BatchNorm1d):
        result.linear, result.norm = fuse_linear_bn_eval(result.linear, result.norm), nn.Identity()
    return result


def deployed(network: ExpressionNetwork) -> ExpressionNetwork:
    """A copy as it is shipped: norms folded, kernels and the linear layer rounded to half precision.

    Rounding moves features by about one part in 2,000 and halves the file; computing stays in float32.
    """
    result = copy.deepcopy(network).eval()
    result.eye, result.mouth = folded(network.eye), folded(network.mouth)
    with torch.no_grad():
        for parameter in (*result.eye.parameters(), *result.mouth.parameters()):
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    return result


def convolution_flops(config: BackboneConfig) -> int:
    """Floating point operations (2 x multiply-accumulates) of one crop, convolutions and linear layer."""
    layers = (
        (1 * 64, config.stem, 32),
        (config.stem * 9, config.middle, 16),
        *[(config.middle * 9, config.middle, 16)] * config.middle_blocks,
        (config.middle * 9, config.top, 8),
        *[(config.top * 9, config.top, 8)] * config.top_blocks,
        (config.top, config.flat, 8),
        (2 * config.flat, config.comparison, 8),
        (config.comparison, config.flat, 8),
        (MAP_COUNT, LAST_COUNT, 1),
    )
    return sum(2 * inputs * outputs * side * side for inputs, outputs, side in layers)
