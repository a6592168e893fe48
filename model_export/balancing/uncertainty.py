"""Weights that are learned as the noise of each task: uncertainty weighting.

Axes: E task.
"""

from typing import Final

from torch import Tensor

from model_export.balancing.adam import Adapted
from model_export.balancing.losses_check import check_losses

RATE: Final = 0.05
"""Step of Adam on the log variances: from 1 to the variance of a task with loss 0.01 in about 90 updates."""


class UncertaintyBalancer:
    """mean_k (exp(-s_k) L_k + s_k) / 2, with s_k = log sigma_k^2 learned beside the network.

    Kendall, Gal, Cipolla 2018 (CVPR, "Multi-task learning using uncertainty to weigh losses", eq. 7 with s as in its
    section 3.2): L_k is the squared error of task k, sigma_k^2 (`s_E` in logarithms, 0 at the start) the variance of its
    noise. Gradient in s_k: (1 - exp(-s_k) L_k) / 2, zero where exp(s_k) = L_k, so the weights tend to 1 / (2 L_k).
    We differ in that s moves by an Adam step of its own in `update`, not by the network's optimiser, and in the mean instead
    of the sum.

    >>> balancer = UncertaintyBalancer()
    >>> balancer(torch.tensor([1.0, 3.0]))
    tensor(1.)
    >>> balancer.update(torch.tensor([1.0, 3.0]))
    >>> balancer.state()["value_E"]
    tensor([0.0000, 0.0500])
    """

    def __init__(self) -> None:
        self._s: Adapted | None = None

    def __repr__(self) -> str:
        return f"UncertaintyBalancer(steps={0 if self._s is None else int(self._s.steps)})"

    def __call__(self, losses_E: Tensor) -> Tensor:
        """The balanced scalar; negative when the losses are small."""
        check_losses(losses_E, None if self._s is None else self._s.value_E)
        if self._s is None:
            return losses_E.mean() / 2
        return ((-self._s.value_E).exp() * losses_E + self._s.value_E).mean() / 2

    def update(self, losses_E: Tensor) -> None:
        """One step of the log variances on these losses."""
        losses_E = losses_E.detach()
        check_losses(losses_E, None if self._s is None else self._s.value_E)
        s = self._s or Adapted.zeros(losses_E)
        self._s = s.stepped((1 - (-s.value_E).exp() * losses_E) / 2, RATE)

    def reset(self) -> None:
        """Forgets the variances."""
        self._s = None

    def state(self) -> dict[str, Tensor]:
        """Log variances and the moments of their gradients."""
        return {} if self._s is None else self._s.tensors()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes up the memory of another run."""
        self._s = Adapted.of(state) if state else None
