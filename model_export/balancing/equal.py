"""Equal weights, free of units: every task counts as a share of where it began.

Axes: E task.
"""

from typing import Final

import torch
from torch import Tensor

from model_export.balancing.losses_check import check_losses

SMALLEST_START: Final = 1e-4
"""A task that starts nearly solved is not divided by nearly nothing."""
START_STEPS: Final = 20
"""How many steps the starting losses are averaged over: one batch may not show a rare EU at all."""


class EqualBalancer:
    """mean_k L_k / L_k0, with L_k0 the mean of task k's losses over the first 20 updates (plain mean before any).

    >>> balancer = EqualBalancer()
    >>> balancer.update(torch.tensor([2.0, 8.0]))
    >>> balancer(torch.tensor([1.0, 2.0]))
    tensor(0.3750)
    """

    def __init__(self) -> None:
        self._start_E: Tensor | None = None
        self._steps = 0

    def __repr__(self) -> str:
        return f"EqualBalancer(steps={self._steps})"

    def __call__(self, losses_E: Tensor) -> Tensor:
        """The balanced scalar."""
        check_losses(losses_E, self._start_E)
        if self._start_E is None:
            return losses_E.mean()
        return (losses_E / self._start_E.clamp(min=SMALLEST_START)).mean()

    def update(self, losses_E: Tensor) -> None:
        """Averages the starting losses while the run is young."""
        check_losses(losses_E, self._start_E)
        if self._steps >= START_STEPS:
            return
        found_E = losses_E.detach().clone()
        start_E = found_E if self._start_E is None else self._start_E
        self._steps += 1
        self._start_E = start_E + (found_E - start_E) / self._steps

    def reset(self) -> None:
        """Forgets the starting losses."""
        self._start_E, self._steps = None, 0

    def state(self) -> dict[str, Tensor]:
        """Starting losses and number of updates."""
        if self._start_E is None:
            return {}
        return {"start_E": self._start_E, "steps": torch.tensor(self._steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes up the memory of another run."""
        self.reset()
        if state:
            self._start_E, self._steps = state["start_E"], int(state["steps"])
