"""Weights 1/L: every task's loss may shrink by the same factor a step.

Axes: E task.
"""

from typing import Final

import torch
from torch import Tensor

from model_export.balancing.losses_check import check_losses

FLOOR: Final = 1e-5
"""Added to a loss before its logarithm, so that a solved task does not take over; an RMSE of 0.3 % of a movement's range."""


class LogBalancer:
    """mean_k log(L_k + 1e-5): the gradient weighs task k with 1 / (L_k + 1e-5).

    Free of units, and remembers nothing. The rule that our studies found hard to beat (geometric loss strategy,
    Chennupati et al. 2019, without their root).

    >>> LogBalancer()(torch.tensor([1.0, 1.0])).item() < 1e-4
    True
    """

    def __repr__(self) -> str:
        return "LogBalancer()"

    def __call__(self, losses_E: Tensor) -> Tensor:
        """The balanced scalar; may be negative."""
        check_losses(losses_E, None)
        return torch.log(losses_E + FLOOR).mean()

    def update(self, losses_E: Tensor) -> None:
        """Remembers nothing."""
        check_losses(losses_E, None)

    def reset(self) -> None:
        """Has nothing to forget."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes nothing up; refuses another balancer's memory."""
        if state:
            raise ValueError(f"`state` should be empty for LogBalancer. Found {sorted(state)}.")
