"""How well replies follow the reference of a recording.

Axes: T frame set, N reference channel.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.contract.expression_units import EU_INDEX
from service.sources.source import Reference

LEAST_MOVEMENT: Final = 1e-3
"""Standard deviation below which a channel does not move, and a correlation would be one of noise."""
LEAST_ANSWERS: Final = 10


class Agreement:
    """Pearson correlation between replies and a reference, channel by channel.

    A reference that names a whole shape where EU set 1 has halves (browInnerUp, cheekPuff) is compared with their mean.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._channels = {
            number: indices for number, name in enumerate(reference.names) if (indices := _indices_of(name))
        }
        count = len(reference.values_TN)
        self._sums_TN = np.zeros((count, len(reference.names)))
        self._answers_T = np.zeros(count, np.int64)

    def add(self, index: int, values_E: NDArray[np.float32]) -> None:
        """Takes in the reply to moment `index` of the recording; later passes are averaged."""
        for number, indices in self._channels.items():
            self._sums_TN[index, number] += values_E[indices].mean()
        self._answers_T[index] += 1

    def correlations(self) -> dict[str, float]:
        """Pearson r for each channel that moves in the reference and was answered at least ten times."""
        seen_T = self._answers_T > 0
        if seen_T.sum() < LEAST_ANSWERS:
            return {}
        found: dict[str, float] = {}
        for number in self._channels:
            values_T = self._sums_TN[seen_T, number] / self._answers_T[seen_T]
            reference_T = self._reference.values_TN[seen_T, number].astype(np.float64)
            if reference_T.std() < LEAST_MOVEMENT:
                continue
            still = values_T.std() < 1e-9
            found[self._reference.names[number]] = 0.0 if still else float(np.corrcoef(values_T, reference_T)[0, 1])
        return found


def _indices_of(name: str) -> list[int]:
    names = (name,) if name in EU_INDEX else (f"{name}Left", f"{name}Right")
    return [EU_INDEX[one] for one in names if one in EU_INDEX]
