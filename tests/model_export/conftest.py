"""Material that several tests of the training room share: rendered discs, and a finished small run with its bundle."""

from pathlib import Path

import pytest

from tests.model_export.shards import write_dataset


@pytest.fixture(scope="session")
def disc_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of five wearers with 64 frame sets each."""
    return write_dataset(tmp_path_factory.mktemp("discs"), wearers=5, frames=64)


@pytest.fixture(scope="session")
def disc_run(disc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the discs: long enough to learn them."""
    from model_export.train import train
    from tests.model_export.train_tiny import tiny_config

    out = tmp_path_factory.mktemp("run")
    train(tiny_config(disc_data, out, epochs=12))
    return out


@pytest.fixture(scope="session")
def disc_bundle(disc_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle exported from that run."""
    from model_export.export import export

    out = tmp_path_factory.mktemp("bundle") / "discs"
    export(disc_run, out, "discs")
    return out
