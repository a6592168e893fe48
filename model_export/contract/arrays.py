"""What the arrays of a value have to be: float32 of a shape, all numbers finite."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_export.contract.errors import ContractError


def require_float32(
    owner: object, shapes: Mapping[str, tuple[int, ...]], error: type[ContractError], remedy: str
) -> None:
    """Raises `error` for the first of the owner's fields that is not a finite float32 array of its shape; names the field."""
    for name, shape in shapes.items():
        array: NDArray[np.float32] = getattr(owner, name)
        if array.shape != shape or array.dtype != np.float32:
            raise error(f"`{name}` should be float32 {list(shape)}. Found {array.dtype} {list(array.shape)}.")
        if not np.isfinite(array).all():
            raise error(f"`{name}` should hold finite numbers. Found NaN or infinity; {remedy}.")
