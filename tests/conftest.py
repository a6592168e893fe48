"""Fixtures of the whole suite: material that a fresh clone does not have, named when it is missing."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of shared material: $MIEN_SHARED, else `shared` beside the repository."""
    folder = Path(os.environ.get("MIEN_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"shared material is absent: {folder.name} (set MIEN_SHARED)")
    return folder


@pytest.fixture(scope="session")
def face_rig_path(shared_dir: Path) -> Path:
    """The packed ICT-FaceKit rig."""
    path = shared_dir / "data" / "faces" / "ict_facekit.npz"
    if not path.is_file():
        pytest.skip("the packed face rig ict_facekit.npz is absent")
    return path


@pytest.fixture(scope="session")
def real_clips(shared_dir: Path) -> list[Path]:
    """Clips of real people, for checking only."""
    clips = sorted((shared_dir / "data" / "real").glob("*.npz"))
    if not clips:
        pytest.skip("the real clips are absent")
    return clips
