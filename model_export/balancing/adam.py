"""Adam for the few numbers that a balancer learns, as values: the balancer's memory stays its own.

Axes: E task.
"""

from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

_BETA_1: Final = 0.9
_BETA_2: Final = 0.999
_EPSILON: Final = 1e-8


@dataclass(frozen=True, slots=True)
class Adapted:
    """Learned numbers with the moments of their gradients (Kingma and Ba 2015)."""

    value_E: Tensor
    """The numbers themselves."""
    mean_E: Tensor
    """Running mean of the gradients."""
    square_E: Tensor
    """Running mean of their squares."""
    steps: Tensor
    """How many steps were taken."""

    @classmethod
    def zeros(cls, like_E: Tensor) -> "Adapted":
        """As many zeros as `like_E` has entries, no step taken."""
        return cls(torch.zeros_like(like_E), torch.zeros_like(like_E), torch.zeros_like(like_E), torch.tensor(0))

    def stepped(self, gradient_E: Tensor, rate: float) -> "Adapted":
        """After one step: value - rate m' / (sqrt(v') + 1e-8), m' and v' being the moments freed of their start at zero."""
        steps = self.steps + 1
        mean_E = _BETA_1 * self.mean_E + (1 - _BETA_1) * gradient_E
        square_E = _BETA_2 * self.square_E + (1 - _BETA_2) * gradient_E.square()
        count = int(steps)
        direction_E = (mean_E / (1 - _BETA_1**count)) / ((square_E / (1 - _BETA_2**count)).sqrt() + _EPSILON)
        return Adapted(self.value_E - rate * direction_E, mean_E, square_E, steps)

    def tensors(self) -> dict[str, Tensor]:
        """Its parts by name, for a balancer's `state`."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> "Adapted":
        """From what `tensors` gave; other names are left alone."""
        return cls(*(tensors[part.name] for part in fields(cls)))
