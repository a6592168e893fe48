"""Muon for kernels and matrices, AdamW for everything else, as one optimiser with one state to store.

Axes: O output, I input.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose five rounds take every singular value to about 1 (Jordan et al. 2024)."""
_ROUNDS: Final = 5
_MATCH_ADAM: Final = 0.2
"""Root mean square of AdamW's usual step in units of its rate: updates of that size let both share one rate."""


def orthogonalised(matrix_OI: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows (or columns), nearly: singular values come out between .7 and 1.2.

    Newton-Schulz iteration with the coefficients of Jordan et al. 2024, "Muon: an optimizer for hidden layers". What a round
    multiplies by is a polynomial of the rows' products alone, so the rounds run on those, a small square, and the matrix is
    multiplied once: half the time, and within .1 % of iterating in double precision.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix_OI.shape[0] <= matrix_OI.shape[1]
    x_OI: Tensor = matrix_OI if wide else matrix_OI.T
    x_OI = x_OI / (x_OI.norm() + 1e-7)
    gram_OO = x_OI @ x_OI.T
    taken_OO: Tensor | None = None
    for number in range(_ROUNDS):
        round_OO = torch.addmm(gram_OO, gram_OO, gram_OO, beta=b, alpha=c)
        round_OO.diagonal().add_(a)
        taken_OO = round_OO if taken_OO is None else round_OO @ taken_OO
        if number < _ROUNDS - 1:
            gram_OO = round_OO @ gram_OO @ round_OO
    assert taken_OO is not None
    x_OI = taken_OO @ x_OI
    return x_OI if wide else x_OI.T


class Muon(torch.optim.AdamW):
    """AdamW whose groups with `orthogonal=True` step along the orthogonalised momentum instead.

    Kernels [O, I, H, W] count as matrices [O, I H W]. The step is scaled to the root mean square that AdamW's has (Liu et al.
    2025, "Muon is scalable for LLM training"), so that one learning rate and one weight decay serve all groups.
    """

    def __init__(
        self,
        parameters: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__([{"orthogonal": False, **group} for group in parameters], lr=lr, betas=(0.9, 0.99))
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every group; a closure is not supported."""
        if closure is not None:
            raise ValueError("`closure` should be None. Found one. Compute the gradients first.")
        orthogonal = [group for group in self.param_groups if group["orthogonal"]]
        kept = [[p.grad for p in group["params"]] for group in orthogonal]
        for group in orthogonal:
            for parameter in group["params"]:
                self._step_along_rows(parameter, group)
                parameter.grad = None  # AdamW passes over what has no gradient
        super().step()
        for group, gradients in zip(orthogonal, kept, strict=True):
            for parameter, gradient in zip(group["params"], gradients, strict=True):
                parameter.grad = gradient

    def _step_along_rows(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        if parameter.grad is None:
            return
        state: dict[str, Tensor] = self.state[parameter]
        if "momentum" not in state:
            state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(parameter)}
        state["step"] += 1
        state["momentum"].lerp_(parameter.grad, 1 - self.momentum)
        ahead = parameter.grad.lerp(state["momentum"], self.momentum)
        direction_OI = orthogonalised(ahead.flatten(1))
        scale = _MATCH_ADAM * max(direction_OI.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction_OI.view(parameter.shape), alpha=-group["lr"] * scale)
