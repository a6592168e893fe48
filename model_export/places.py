"""Where the faces of rendered wearers are: what a bundle reads of each fitting's rest pictures, for training on placed crops."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from model_export.contract import Bundle, Camera, ContractError, Resting, Slip, read_bundle
from model_export.data import Shard
from model_export.errors import TrainingError
from model_export.estimates import model_of
from model_export.placing import placings


@dataclass(frozen=True, slots=True)
class Places:
    """A bundle that tells where a face at rest is."""

    bundle: Bundle
    resting: Resting

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From a bundle's folder; raises TrainingError."""
        try:
            bundle = read_bundle(folder)
        except ContractError as error:
            raise TrainingError(f"{folder} should be a bundle that places faces. Found: {error}") from None
        if bundle.resting is None:
            raise TrainingError(
                f"{folder} should tell what a face at rest tells. Found nothing: `mien resting --bundle {folder}` first."
            )
        return cls(bundle, bundle.resting)

    def of(self, shard: Shard) -> dict[Camera, list[Slip]]:
        """How each fitting's crops are cut, upright and not mirrored; a tenth of a second of CPU for 8 fittings."""
        return {
            camera: placings(model_of(self.bundle, camera), self.resting, camera, rest_FHW)
            for camera, rest_FHW in shard.rests.items()
        }
