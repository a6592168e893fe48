"""What the eyes' answers say of each other, learnt from rendered wearers that a bundle's network was not trained on.

The network of model_export.contract.eye_pair, trained by AdamW on the answers that a bundle gives to these wearers: to fittings
as they are, placed by movement or by a rest (as the service meets them), every other crop changed as in training, some beyond
reading. A signal is read from its like alone: an EU from the same EU of both eyes, what goes across (yaw, eyeLookIn, eyeLookOut)
from what goes across, up from up. That costs up to .002 of r on rendered faces against reading all from all, and makes nothing
of what goes together in rendered faces only.

Axes: N frame set, B eye, X input, S signal of an eye, A hidden unit, O head output.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_export.augment import AugmentConfig, augment
from model_export.contract import (
    EYE_MOVEMENTS,
    EYE_SIGNALS,
    Bundle,
    Camera,
    EyePair,
    Head,
    read_bundle,
    write_bundle,
)
from model_export.contract.eye_pair import PAIR_INPUTS, in_range
from model_export.data import Shard, data_digest, list_shards, open_shard
from model_export.errors import DataError
from model_export.estimates import confidences, placed_head, region_outputs, rested_heads, seconds_of
from model_export.evaluate import SIDED, UNEVEN_FROM

_UNITS: Final = 6
"""Hidden units of each kind of signal."""
EPOCHS: Final = 20
_BATCH: Final = 512
_LEARNING_RATE: Final = 3e-3
_WEIGHT_DECAY: Final = 0.1
_WARM_UP: Final = 0.05
"""Share of the steps in which the learning rate rises; half a cosine follows."""
_EYES: Final = (Camera.LEFT_EYE, Camera.RIGHT_EYE)
_EUS: Final = len(EYE_MOVEMENTS)
_UNEVEN_WEIGHT: Final = 3.0
"""Uneven frames are rare, and the wearer means them: they come out as well as without a pair with 3, 3 % worse with 2."""
_WINK_WEIGHT: Final = 5.0
_BEYOND: Final = 0.02
"""An EU may be told to be this far beyond its range, and no further counts as an error: it is clipped when served."""
_STATES: Final = (0.25, 0.3, 0.45)
"""How often a fitting is seen as it is, placed by movement, and placed and moved by a rest."""
_CHANGED: Final = AugmentConfig(spoiled=0.12).scaled(0.3)


@dataclass(frozen=True, slots=True)
class PairMaterial:
    """What a bundle says of N frame sets, both eyes seen as left ones, and what is true."""

    signals_N2S: NDArray[np.float32]
    """float32 [N, 2, 14], left eye, right eye."""
    confidence_N2: NDArray[np.float32]
    truth_N2S: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.signals_N2S)
        shapes = (self.signals_N2S.shape, self.confidence_N2.shape, self.truth_N2S.shape)
        if not count or shapes != ((count, 2, EYE_SIGNALS), (count, 2), (count, 2, EYE_SIGNALS)):
            raise DataError(f"An eye pair is learnt from one or more frame sets with both eyes. Found shapes {shapes}.")


def material_of(bundle: Bundle, data: Path, seed: int = 0) -> PairMaterial:
    """The bundle's answers to all frame sets in `data`: about half a second of CPU a wearer."""
    found = []
    for number, entry in enumerate(list_shards(data)):
        shard, rng = open_shard(entry), np.random.default_rng([seed, number])
        for fitting in np.unique(shard.fitting_T):
            rows_N = np.flatnonzero(shard.fitting_T == fitting)
            found.append(_answers(bundle, shard, rows_N, rng))
    return PairMaterial(*map(np.concatenate, zip(*found, strict=True)))


_Answers = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _answers(bundle: Bundle, shard: Shard, rows_N: NDArray[np.intp], rng: np.random.Generator) -> _Answers:
    seen = shard.crops(rows_N)
    crops = {camera: seen[camera] for camera in _EYES}
    head = _head(bundle, shard, rows_N, crops, rng)
    out_2NO = []
    for camera, crops_NHW in crops.items():
        # changed before they are placed: as much as a place is read wrongly by, and a headset slips in use
        changed_NHW = [
            augment(crop_HW, rng, _CHANGED, mirrored=False).pixels_HW if rng.random() < 0.5 else crop_HW
            for crop_HW in crops_NHW
        ]
        out_2NO.append(region_outputs(bundle, head, camera, np.stack(changed_NHW)))
    out_N2O = np.stack(out_2NO, axis=1)
    truth_N2S = np.empty((len(rows_N), 2, EYE_SIGNALS), np.float32)
    truth_N2S[..., :_EUS] = shard.values_TE[rows_N, : 2 * _EUS].reshape(-1, 2, _EUS)
    truth_N2S[..., _EUS:] = shard.gaze_T4[rows_N].reshape(-1, 2, 2)
    truth_N2S[:, 1, _EUS] *= -1
    return in_range(out_N2O[..., :EYE_SIGNALS]), confidences(out_N2O[..., -1]), truth_N2S


def _head(
    bundle: Bundle,
    shard: Shard,
    rows_N: NDArray[np.intp],
    crops: Mapping[Camera, NDArray[np.uint8]],
    rng: np.random.Generator,
) -> Head:
    state = rng.choice(len(_STATES), p=_STATES)
    if state == 0:
        return bundle.head
    if state == 1:
        return placed_head(bundle, crops, seconds_of(shard.t_ns[rows_N]))
    fitting = int(shard.fitting_T[rows_N[0]])
    return rested_heads(bundle, {camera: shard.rests[camera][fitting : fitting + 1] for camera in _EYES})[0]


def _kinds() -> NDArray[np.intp]:
    """Which kind each of an eye's signals is, [14]: like is read from like."""
    like = {"eyeLookIn": "across", "eyeLookOut": "across", "eyeLookUp": "up", "eyeLookDown": "up"}
    names = [*(like.get(name, name) for name in EYE_MOVEMENTS), "across", "up"]
    return np.array([names.index(name) for name in names])


_KIND_S: Final = torch.from_numpy(_kinds())
_KIND_A: Final = torch.from_numpy(np.repeat(np.unique(_kinds()), _UNITS))
_BOTH: Final = -1
"""Kind of the confidences, which every signal reads."""
_KIND_X: Final = torch.cat([_KIND_S, _KIND_S, torch.tensor([_BOTH, _BOTH])])


def _like(inputs: Tensor, outputs: Tensor) -> Tensor:
    """1 where an output of its kind reads an input of its kind, else 0."""
    return ((inputs[:, None] == outputs) | (inputs[:, None] == _BOTH)).float()


class _PairModule(nn.Module):
    """The pair in torch, on inputs of unit spread; `to_eye_pair` gives the same arithmetic on inputs as they are."""

    mean_S: Tensor
    spread_S: Tensor
    like_XS: Tensor
    like_XA: Tensor
    like_AS: Tensor

    def __init__(self, mean_S: NDArray[np.float32], spread_S: NDArray[np.float32], generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("mean_S", torch.from_numpy(mean_S))
        self.register_buffer("spread_S", torch.from_numpy(spread_S))
        self.moves_XS = nn.Parameter(torch.zeros(PAIR_INPUTS, EYE_SIGNALS))
        for name, inputs, outputs in (
            ("like_XS", _KIND_X, _KIND_S),
            ("like_XA", _KIND_X, _KIND_A),
            ("like_AS", _KIND_A, _KIND_S),
        ):
            self.register_buffer(name, _like(inputs, outputs))
        self.down_XA = nn.Parameter(
            torch.randn(PAIR_INPUTS, len(_KIND_A), generator=generator) / self.like_XA.sum(0).sqrt()
        )
        self.down_bias_A = nn.Parameter(torch.zeros(len(_KIND_A)))
        self.up_AS = nn.Parameter(torch.zeros(len(_KIND_A), EYE_SIGNALS))
        self.bias_S = nn.Parameter(torch.zeros(EYE_SIGNALS))

    def forward(self, own_BS: Tensor, other_BS: Tensor, own_B1: Tensor, other_B1: Tensor) -> Tensor:
        """An eye's signals [B, 14] after it read the other."""
        own, other = ((one_BS - self.mean_S) / self.spread_S for one_BS in (own_BS, other_BS))
        x_BX = torch.cat([own_B1 * own, other_B1 * other, 2 * own_B1 - 1, 2 * other_B1 - 1], 1)
        direct_XS, down_XA, up_AS = self._matrices()
        hidden_BA = torch.relu(x_BX @ down_XA + self.down_bias_A)
        return self.mean_S + (x_BX @ direct_XS + hidden_BA @ up_AS + self.bias_S) * self.spread_S

    def _matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Direct, down and up, of like signals; an eye begins with what it says itself."""
        own_XS = torch.eye(PAIR_INPUTS, EYE_SIGNALS)
        return (
            own_XS + self.moves_XS * self.like_XS,
            self.down_XA * self.like_XA,
            self.up_AS * self.like_AS,
        )

    @torch.no_grad()
    def to_eye_pair(self, frame_sets: int) -> EyePair:
        """(v - mean) / spread * c and 2 c - 1 are linear in c v and c, and so are folded into the matrices."""
        into_XX = torch.zeros(PAIR_INPUTS, PAIR_INPUTS, dtype=torch.float64)
        constant_X = torch.zeros(PAIR_INPUTS, dtype=torch.float64)
        spread_S, mean_S = self.spread_S.double(), self.mean_S.double()
        for eye in range(2):
            signals, confidence = slice(eye * EYE_SIGNALS, (eye + 1) * EYE_SIGNALS), 2 * EYE_SIGNALS + eye
            into_XX[signals, signals] = torch.diag(1 / spread_S)
            into_XX[confidence, signals] = -mean_S / spread_S
            into_XX[confidence, confidence] = 2.0
            constant_X[confidence] = -1.0
        direct_XS, down_XA, up_AS = (matrix.double() for matrix in self._matrices())
        direct_XS *= spread_S
        return EyePair(
            direct_XS=_float32(into_XX @ direct_XS),
            down_XA=_float32(into_XX @ down_XA),
            down_bias_A=_float32(constant_X @ down_XA + self.down_bias_A),
            up_AS=_float32(up_AS * spread_S),
            bias_S=_float32(constant_X @ direct_XS + self.bias_S * spread_S + mean_S),
            frame_sets=frame_sets,
        )


def _float32(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.numpy(), np.float32)


def fit_eye_pair(material: PairMaterial, epochs: int = EPOCHS, seed: int = 0) -> EyePair:
    """Trains the pair on material: ten seconds of one core for 25,000 frame sets; equal material and seed give equal pairs.

    Squared error of each signal over its variance, on uneven faces counted `_UNEVEN_WEIGHT` times.
    """
    generator = torch.Generator().manual_seed(seed)
    own_BS, other_BS = _either_way(material.signals_N2S)
    own_B1, other_B1 = _either_way(material.confidence_N2[..., None])
    truth_BS, truth_other_BS = _either_way(material.truth_N2S)
    weight_BS = _weights(truth_BS, truth_other_BS)
    mean_S, spread_S = own_BS.mean(axis=0), own_BS.std(axis=0) + 1e-3
    module = _PairModule(mean_S, spread_S, generator)
    tensors = [torch.from_numpy(array) for array in (own_BS, other_BS, own_B1, other_B1, truth_BS, weight_BS)]
    steps = max(1, round(epochs * len(own_BS) / _BATCH))
    optimiser = torch.optim.AdamW(module.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps + 1, pct_start=_WARM_UP)
    for _ in range(steps):
        chosen_B = torch.randint(len(own_BS), (_BATCH,), generator=generator)
        *inputs, truth, weight = (tensor[chosen_B] for tensor in tensors)
        out = module(*inputs)
        served = torch.cat([out[:, :_EUS].clamp(-_BEYOND, 1 + _BEYOND), out[:, _EUS:]], 1)
        loss = (weight * (served - truth) ** 2).mean(0).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return module.to_eye_pair(len(material.signals_N2S))


def _either_way(of_eyes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An array [N, 2, ...] as one eye's and the other's, each eye once as the one: [2 N, ...] both."""
    left, right = of_eyes[:, 0], of_eyes[:, 1]
    return np.concatenate([left, right]), np.concatenate([right, left])


def _weights(truth_BS: NDArray[np.float32], other_BS: NDArray[np.float32]) -> NDArray[np.float32]:
    extra_S = np.zeros(EYE_SIGNALS, np.float32)
    extra_S[:_EUS] = np.where(np.isin(EYE_MOVEMENTS, SIDED), _UNEVEN_WEIGHT - 1, 0.0)
    extra_S[EYE_MOVEMENTS.index("eyeBlink")] = _WINK_WEIGHT - 1
    uneven_BS = np.abs(truth_BS - other_BS) > UNEVEN_FROM
    return np.asarray((1 + extra_S * uneven_BS) / (truth_BS.var(axis=0) + 1e-6), np.float32)


def add_eye_pair(folder: Path, data: Path, seed: int = 0) -> Bundle:
    """Puts an eye pair into the bundle in `folder`, in place of any, and into its record what it is from."""
    bundle, entries = replace(read_bundle(folder), eye_pair=None), list_shards(data)
    pair = fit_eye_pair(material_of(bundle, data, seed), seed=seed)
    record = {
        "data_sha256": data_digest(entries),
        "wearers": len({entry.wearer for entry in entries}),
        "frame_sets": pair.frame_sets,
        "seed": seed,
    }
    return write_bundle(folder, replace(bundle, training={**bundle.training, "eye_pair": record}, eye_pair=pair))
