"""What a balancer is, and the ones there are.

Axes: E task; usually an expression unit, also gaze and confidence.
"""

from collections.abc import Callable
from typing import Final, Protocol

from torch import Tensor

from model_export.balancing.equal import EqualBalancer
from model_export.balancing.famo import FamoBalancer
from model_export.balancing.log import LogBalancer
from model_export.balancing.uncertainty import UncertaintyBalancer


class Balancer(Protocol):
    """Turns the losses of all tasks into the scalar to differentiate.

    Calling it changes nothing; what it remembers moves in `update` and goes in `reset`. `state` and `restore` carry that
    memory over a restart.
    """

    def __call__(self, losses_E: Tensor) -> Tensor:
        """A scalar whose gradient is the weighted sum of the tasks' gradients; losses are 0 or more."""

    def update(self, losses_E: Tensor) -> None:
        """Takes note of this step's losses, before or after they are balanced; no gradient flows."""

    def reset(self) -> None:
        """Forgets everything."""

    def state(self) -> dict[str, Tensor]:
        """What it remembers."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Remembers what `state` gave."""


_BALANCERS: Final[dict[str, Callable[[], Balancer]]] = {
    "equal": EqualBalancer,
    "log": LogBalancer,
    "uncertainty": UncertaintyBalancer,
    "famo": FamoBalancer,
}
BALANCER_NAMES: Final = tuple(_BALANCERS)


def balancer_by_name(name: str) -> Balancer:
    """A new balancer; raises ValueError for a name not in BALANCER_NAMES."""
    if name not in _BALANCERS:
        raise ValueError(f"A balancer should be one of {', '.join(BALANCER_NAMES)}. Found {name!r}.")
    return _BALANCERS[name]()
