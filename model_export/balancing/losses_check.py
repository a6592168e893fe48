"""What every balancer asks of the losses it is given.

Axes: E task.
"""

from torch import Tensor


def check_losses(losses_E: Tensor, remembered_E: Tensor | None) -> None:
    """Raises ValueError unless `losses_E` is a vector of one or more losses, as long as what is remembered."""
    expected = "[E]" if remembered_E is None else str(list(remembered_E.shape))
    if losses_E.ndim != 1 or not len(losses_E) or (remembered_E is not None and losses_E.shape != remembered_E.shape):
        raise ValueError(f"`losses_E` should have shape {expected}. Found {list(losses_E.shape)}.")
