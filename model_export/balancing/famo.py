"""Weights that make all tasks improve by the same share a step: FAMO.

Axes: E task.
"""

from typing import Final

import torch
from torch import Tensor

from model_export.balancing.adam import Adapted
from model_export.balancing.losses_check import check_losses

RATE: Final = 0.025
"""beta, the step of Adam on the logits, as the authors use it."""
DECAY: Final = 1e-3
"""gamma: how strongly logits are drawn back to equal weights."""
FLOOR: Final = 1e-5
"""Added to a loss before its logarithm; the authors add 1e-8, and a solved task then takes all weight."""


class FamoBalancer:
    """c sum_k z_k log(L_k), z = softmax(w), c = 1 / sum_k(z_k / L_k) held constant: the gradient weighs task k with
    (z_k / L_k) / sum_j(z_j / L_j).

    Liu, Feng, Stone, Liu 2023 (NeurIPS, arXiv 2306.03792), algorithm 1: after a step with the weights z, with L before it
    and L' after it, delta = J^T (log L - log L'), J = diag(z) - z z^T the softmax's Jacobian, and
    w <- w - beta (delta + gamma w): the task that improved least gains weight. The step is taken by Adam, as in the
    authors' code. There, L' costs a forward pass of its own on the same batch; here `update`, called once a step, takes the
    losses of the next step for L'. On a full batch that is the same number for nothing; on small batches it adds their
    noise. L stands for L + 1e-5 everywhere.

    >>> balancer = FamoBalancer()
    >>> losses_E = torch.tensor([1.0, 3.0], requires_grad=True)
    >>> torch.autograd.grad(balancer(losses_E), losses_E)[0]
    tensor([0.7500, 0.2500])
    """

    def __init__(self) -> None:
        self._w: Adapted | None = None
        self._before_E: Tensor | None = None

    def __repr__(self) -> str:
        return f"FamoBalancer(steps={0 if self._w is None else int(self._w.steps)}, watching={self._w is not None})"

    def __call__(self, losses_E: Tensor) -> Tensor:
        """The balanced scalar; may be negative."""
        check_losses(losses_E, self._before_E)
        w_E = torch.zeros_like(losses_E) if self._w is None else self._w.value_E
        z_E = w_E.detach().softmax(0)
        losses_E = losses_E + FLOOR
        scale = 1 / (z_E / losses_E.detach()).sum()
        return scale * (z_E * losses_E.log()).sum()

    def update(self, losses_E: Tensor) -> None:
        """Moves the weights by what the last step did to the losses; the first call only takes note of them."""
        losses_E = losses_E.detach().clone()
        check_losses(losses_E, self._before_E)
        if self._w is None or self._before_E is None:
            self._w, self._before_E = Adapted.zeros(losses_E), losses_E
            return
        gain_E = (self._before_E + FLOOR).log() - (losses_E + FLOOR).log()
        z_E = self._w.value_E.softmax(0)
        delta_E = z_E * (gain_E - (z_E * gain_E).sum())
        self._w = self._w.stepped(delta_E + DECAY * self._w.value_E, RATE)
        self._before_E = losses_E

    def reset(self) -> None:
        """Forgets weights and losses."""
        self._w = self._before_E = None

    def state(self) -> dict[str, Tensor]:
        """Logits with the moments of their gradients, and the losses of the last step."""
        if self._w is None or self._before_E is None:
            return {}
        return {**self._w.tensors(), "before_E": self._before_E}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes up the memory of another run."""
        self.reset()
        if state:
            self._w, self._before_E = Adapted.of(state), state["before_E"]
