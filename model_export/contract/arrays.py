"""What the arrays of a value have to be, and how a bundle's small files hold them: float32 of a shape, all numbers finite."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from model_export.contract.errors import ContractError
from model_export.contract.safetensors_header import read_metadata


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


def read_arrays(
    data: bytes, form: tuple[str, int], names: Iterable[str], counted: str, remedy: str
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """The named arrays of a safetensors file, widened to float32, and what its metadata counts under `counted`.

    Raises ContractError, with the remedy, for another form (format and version) than this one, or where something is missing.
    """
    metadata = read_metadata(data, ContractError)
    found = (metadata.get("format"), metadata.get("version"))
    if found != form:
        raise ContractError(f"It should be of {form[0]} version {form[1]}. Found {found}; {remedy}.")
    try:
        tensors = load_safetensors(data)
        return {name: tensors[name].astype(np.float32) for name in names}, int(metadata[counted])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ContractError(f"It should hold the arrays of {form[0]}. Found: {error}; {remedy}.") from None
