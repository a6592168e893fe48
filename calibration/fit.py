"""One region's head fitted to one wearer; torch lives in this module alone.

Axes: T frame, F feature, A adapter, O head output.

Loss of output o over the frames t, with w the weights of the material (they sum to 1), y the targets and e = out - y, where an
output beyond [0, 1] counts no further than the end that it is clipped to:

    L_o = sum_t w_to H(e_to) + ranking * R_o                      H is Huber's, corner at `corner`
    R_o = mean of max(0, |y_t - y_s| / 2 - sign(y_t - y_s) (out_t - out_s))
          over neighbours s, t of one repetition with |y_t - y_s| > 0.02

The ranking term asks an onset to rise and an offset to fall, by at least half of what the targets do, whatever their scale is.
The losses go through a balancer to one scalar B, whose gradient weighs them; with q all that was added to the head where the fit
began, a step of up to three iterations of L-BFGS follows

    sum_o v_o L_o  +  pull |q|^2          v_o = (dB / dL_o) / sum_p (dB / dL_p) L_p, constant within the step

The divisor frees the weights of B's unit, so that one `pull` suits every balancer. L2 keeps a change to directions in which this
wearer's features vary. Adam with a pull apart from the gradient (AdamW's) was tried first: it moves all directions alike, and
free movement came out worse than before (docs/experiments.md). The pull is relaxed from strong to weak, step by step; held-out
repetitions say where to stop. An infinite one gives the head that the fit began with, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.features import GAZE_OUTPUTS
from calibration.material import FOLDS, Material
from model_export.balancing import Balancer, balancer_by_name
from model_export.contract import Camera, RegionHead

_GAZE_SCALE_DEG: Final = 10.0
"""A gaze output counts in units of so many degrees, as in training."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a head is fitted."""

    balancer: str = "log"
    """Of the losses of the outputs."""
    steps: int = 24
    """At most so many, of up to 3 iterations each; held-out repetitions say when to stop."""
    check_steps: int = 4
    """Held-out repetitions are looked at every so many steps."""
    stop_early: bool = True
    """Whether held-out repetitions say when to stop; else the last step is taken."""
    pull: float = 10.0
    """How strongly what is added is drawn back to nothing at the last step."""
    relaxation: float = 100.0
    """How many times stronger the pull is at the first step."""
    corner: float = 0.2
    """Error above which Huber's loss grows linearly."""
    ranking: float = 0.0
    """Weight of the ranking term; 0 leaves it out: what it is worth has not been measured yet."""
    adapter: bool = True
    """Whether the adapter is fitted too, or the linear layer alone."""

    def __post_init__(self) -> None:
        for name, smallest in (("steps", 1), ("check_steps", 1), ("pull", 0), ("relaxation", 1), ("ranking", 0)):
            if not getattr(self, name) >= smallest:
                raise ValueError(f"`{name}` should be {smallest} or more. Found {getattr(self, name)}.")
        if not self.corner > 0:
            raise ValueError(f"`corner` should be above 0. Found {self.corner}.")
        balancer_by_name(self.balancer)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted head, and what heads fitted without them say of held-out frames."""

    region: RegionHead
    """Fitted to all frames, as many steps as did best on held-out ones."""
    held_out_TO: NDArray[np.float32]
    """Outputs for each frame of the material, by the fit that did not see it; NaN where every fit did."""
    steps: int
    """How many steps did best; 0: none did better than where the fit began."""


def fit_region(base: RegionHead, material: Material, config: FitConfig | None = None) -> Fitted:
    """Fits two heads, each on one half of the repetitions, and then one on all, for as long as helped the two."""
    config = config or FitConfig()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the products are small; two threads wait for each other, on a busy machine for seconds
    try:
        return _fit(base, material, config)
    finally:
        torch.set_num_threads(threads)


def _fit(base: RegionHead, material: Material, config: FitConfig) -> Fitted:
    sides = [material.weights_TO[material.fold_T != fold] for fold in range(FOLDS)]
    if not all(side_TO.any() for side_TO in sides):
        return Fitted(base, np.full_like(material.targets_TO, np.nan), 0)
    courses = [_run(base, material, material.fold_T != fold, config, config.steps) for fold in range(FOLDS)]
    held_out_CTO = np.full((len(courses[0].checks), *material.targets_TO.shape), np.nan, np.float32)
    for fold, course in enumerate(courses):
        judged_T = material.fold_T == fold
        for place, region in enumerate(course.checks):
            held_out_CTO[place, judged_T] = region.apply(material.features_TF[judged_T])
    scores = [held_out_score(material, out_TO, held_out_CTO[0]) for out_TO in held_out_CTO]
    best = int(np.argmin(scores)) if config.stop_early else len(scores) - 1
    steps = best * config.check_steps
    whole = _run(base, material, np.ones(len(material), bool), config, steps) if steps else courses[0]
    return Fitted(whole.checks[-1] if steps else base, held_out_CTO[best], steps)


def held_out_score(material: Material, out_TO: NDArray[np.float32], base_TO: NDArray[np.float32]) -> float:
    """Mean over asked outputs of the squared error on held-out frames as a share of what it was; 1.0 when none is judged."""
    judged_T = np.isfinite(out_TO).all(axis=1)
    known_TO = material.known_TO[judged_T]
    targets_TO = material.targets_TO[judged_T]
    gaze = slice(0, 0) if material.camera is Camera.MOUTH else GAZE_OUTPUTS
    errors = []
    for answer_TO in (out_TO[judged_T], base_TO[judged_T]):
        clipped_TO = answer_TO.clip(0, 1)
        clipped_TO[:, gaze] = answer_TO[:, gaze]
        errors.append((known_TO * (clipped_TO - targets_TO) ** 2).sum(axis=0))
    judged_O = material.asked_O & (known_TO.sum(axis=0) > 0)
    smallest_O = 1e-4 * known_TO.sum(axis=0)  # an error of 0.01 is none
    share_O = (errors[0] + smallest_O) / (errors[1] + np.maximum(smallest_O, 1e-9))
    return float(np.mean(share_O[judged_O])) if judged_O.any() else 1.0


@dataclass(frozen=True, slots=True)
class _Course:
    checks: Sequence[RegionHead]
    """The head before the first step, then after every `check_steps` steps."""


def _run(base: RegionHead, material: Material, chosen_T: NDArray[np.bool_], config: FitConfig, steps: int) -> _Course:
    batch = _Batch(material, chosen_T, config)
    module = _TorchHead(base, material.features_TF[chosen_T], batch.scale_O)
    trained = module.parameters_of(adapter=config.adapter)
    optimiser = torch.optim.LBFGS(trained, max_iter=3, history_size=12, line_search_fn="strong_wolfe")
    balancer = balancer_by_name(config.balancer)
    checks = [base]
    for step in range(steps if np.isfinite(config.pull) else 0):
        pull = config.pull * config.relaxation ** (1 - step / max(config.steps - 1, 1))

        with torch.no_grad():
            losses_O = batch.losses(module())
        balancer.update(losses_O)
        weights_O = _weights(balancer, losses_O)

        def objective(pull: float = pull, weights_O: Tensor = weights_O) -> Tensor:
            optimiser.zero_grad(set_to_none=True)
            loss = (weights_O * batch.losses(module())).sum() + pull * torch.stack(
                [part.square().sum() for part in trained]
            ).sum()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs
            return loss

        optimiser.step(objective)  # type: ignore[no-untyped-call]  # torch's stubs
        if not all(bool(part.isfinite().all()) for part in trained):
            break  # nothing was left to learn, and the line search ran away
        if (step + 1) % config.check_steps == 0:
            checks.append(module.to_region_head())
    return _Course([*checks, *[checks[-1]] * (1 + steps // config.check_steps - len(checks))])


def _weights(balancer: Balancer, losses_O: Tensor) -> Tensor:
    """The weights that the balancer gives these losses, freed of its unit: their products with the losses sum to 1."""
    watched_O = losses_O.detach().requires_grad_()
    (weights_O,) = torch.autograd.grad(balancer(watched_O), watched_O)
    return weights_O / (weights_O * losses_O.detach()).sum().clamp(min=1e-6)


class _Batch:
    """The chosen frames as tensors, and the losses of what a head says of them."""

    def __init__(self, material: Material, chosen_T: NDArray[np.bool_], config: FitConfig) -> None:
        outputs = material.targets_TO.shape[1]
        self.scale_O = torch.ones(outputs)
        gaze_O = torch.zeros(outputs, dtype=torch.bool)
        if material.camera is not Camera.MOUTH:
            self.scale_O[GAZE_OUTPUTS] = _GAZE_SCALE_DEG
            gaze_O[GAZE_OUTPUTS] = True
        weights_TO = torch.from_numpy(material.weights_TO[chosen_T])
        self._trained_O = weights_TO.sum(0) > 0
        self._weights_TO = (weights_TO / weights_TO.sum(0).clamp(min=1e-9))[:, self._trained_O]
        self._targets_TO = (torch.from_numpy(material.targets_TO[chosen_T]) / self.scale_O)[:, self._trained_O]
        free_O = gaze_O[self._trained_O]
        self._lowest_TO = torch.where((self._targets_TO <= 0) & ~free_O, -torch.inf, self._targets_TO)
        self._highest_TO = torch.where((self._targets_TO >= 1) & ~free_O, torch.inf, self._targets_TO)
        self._corner = config.corner
        self._ranking = config.ranking
        rise_TO = self._targets_TO[1:] - self._targets_TO[:-1]
        unit_T = torch.from_numpy(material.unit_T[chosen_T])
        known_TO = torch.from_numpy(material.known_TO[chosen_T] > 0)[:, self._trained_O]
        counted_TO = (unit_T[1:] == unit_T[:-1])[:, None] & known_TO[1:] & known_TO[:-1] & (rise_TO.abs() > 0.02)
        self._sign_TO = torch.where(counted_TO, rise_TO.sign(), 0.0)
        self._margin_TO = torch.where(counted_TO, rise_TO.abs() / 2, 0.0)
        self._pairs_O = counted_TO.sum(0).clamp(min=1)

    def losses(self, out_TO: Tensor) -> Tensor:
        """Of outputs in units of the scale: float32 [outputs that are trained], each 0 or more."""
        out_TO = out_TO[:, self._trained_O]
        # where the target is an end of the scale, what lies beyond it is right
        nearest_TO = torch.minimum(torch.maximum(out_TO.detach(), self._lowest_TO), self._highest_TO)
        error_TO = torch.nn.functional.huber_loss(out_TO, nearest_TO, reduction="none", delta=self._corner)
        losses_O = (self._weights_TO * error_TO).sum(0)
        if self._ranking:
            missing_TO = torch.relu(self._margin_TO - self._sign_TO * (out_TO[1:] - out_TO[:-1]))
            losses_O = losses_O + self._ranking * missing_TO.sum(0) / self._pairs_O
        return losses_O


class _TorchHead:
    """The base head and what the fit adds to it, in numbers of size 1.

    Features enter freed of their mean m and divided by their spread s, so that offsets and slopes are drawn back alike:

        out = f W + b + g [x dW + db + relu(f D + d + x dD + dd) (U W / g + dM)],     x = (f - m) / s

    with g the scale of the outputs (gaze: 10 degrees). What is added to the adapter's second product is followed as dM, and
    becomes a part of U at the end, through the pseudo-inverse of the last layer.
    """

    def __init__(self, base: RegionHead, features_TF: NDArray[np.float32], scale_O: Tensor) -> None:
        self._base, self._scale_O = base, scale_O
        self._mean_F = features_TF.mean(axis=0, dtype=np.float64)
        self._spread = max(float((features_TF - self._mean_F).std()), 1e-6)
        self._plain_TF = torch.from_numpy(((features_TF - self._mean_F) / self._spread).astype(np.float32))
        self._linear_TO = torch.from_numpy(features_TF @ base.weight_FO + base.bias_O) / scale_O
        self._before_TA = torch.from_numpy(features_TF @ base.down_FA + base.down_bias_A)
        self._more_AO = torch.from_numpy(base.up_AF @ base.weight_FO) / scale_O
        adapter, outputs = self._more_AO.shape
        self.weight_FO = torch.zeros(len(self._mean_F), outputs, requires_grad=True)
        self.bias_O = torch.zeros(outputs, requires_grad=True)
        self.down_FA = torch.zeros(len(self._mean_F), adapter, requires_grad=True)
        self.down_bias_A = torch.zeros(adapter, requires_grad=True)
        self.more_AO = torch.zeros(adapter, outputs, requires_grad=True)

    def parameters_of(self, *, adapter: bool) -> list[Tensor]:
        """What is added, zero at the start."""
        linear = [self.weight_FO, self.bias_O]
        return [*linear, self.down_FA, self.down_bias_A, self.more_AO] if adapter else linear

    def __call__(self) -> Tensor:
        """Outputs [T, O] of the features it was made with, in units of the scale."""
        hidden_TA = torch.relu(self._before_TA + self._plain_TF @ self.down_FA + self.down_bias_A)
        added_TO = self._plain_TF @ self.weight_FO + self.bias_O
        return self._linear_TO + added_TO + hidden_TA @ (self._more_AO + self.more_AO)

    def to_region_head(self) -> RegionHead:
        """The base with what was added, for numpy; the base itself where nothing was."""
        deltas = [self.weight_FO, self.bias_O, self.down_FA, self.down_bias_A, self.more_AO]
        weight_FO, bias_O, down_FA, down_bias_A, more_AO = (delta.detach().double().numpy() for delta in deltas)
        if not any(delta.any() for delta in (weight_FO, bias_O, down_FA, down_bias_A, more_AO)):
            return self._base
        base, scale_O = self._base, self._scale_O.double().numpy()
        added_FO, added_FA = weight_FO * scale_O / self._spread, down_FA / self._spread
        weight_FO = base.weight_FO + added_FO
        more_AO = base.up_AF.astype(np.float64) @ base.weight_FO + more_AO * scale_O
        up_AF = base.up_AF + (more_AO - base.up_AF @ weight_FO) @ np.linalg.pinv(weight_FO)
        parts = {
            "down_FA": base.down_FA + added_FA,
            "down_bias_A": base.down_bias_A + down_bias_A - self._mean_F @ added_FA,
            "up_AF": up_AF,
            "weight_FO": weight_FO,
            "bias_O": base.bias_O + bias_O * scale_O - self._mean_F @ added_FO,
        }
        return RegionHead(**{name: np.ascontiguousarray(part, np.float32) for name, part in parts.items()})
