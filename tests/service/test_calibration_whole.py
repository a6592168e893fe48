"""A whole calibration: real service, real worker, real learner, and a wearer who performs each cue when it is asked for."""

import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.calibrate import read_takes
from benchmarks.simulated_wearer import Calibrated, SimulatedWearer
from calibration.profiles import Profiles
from model_export.contract import Take
from service.client import GivenConsent
from service.settings import shipped_bundle
from tests.calibration.moving_pictures import Person
from tests.conftest import REPOSITORY
from tests.service.conftest import RunningService, StartService

RENDERED = REPOSITORY / "data" / "takes_near" / "wearer_07000"
"""Made by `mien render-takes`, not in the repository."""


async def calibrated(url: str, takes: Mapping[str, Take], rate_hz: float) -> Calibrated:
    return await SimulatedWearer(url, takes, wearer="ada", rate_hz=rate_hz, before_s=1.0).run(GivenConsent("1"))


def metrics_of(service: RunningService) -> str:
    with urllib.request.urlopen(f"{service.http_url}/metrics") as answer:  # noqa: S310 - our own service
        return str(answer.read(), "utf-8")


def honest(found: Calibrated, store: Profiles, metrics: str) -> None:
    """What was told, what is stored and what answers agree, and no frame set was lost."""
    assert found.report is not None, found.events
    assert found.report["failure"] is None
    version = found.report["head_version"]
    profile = store.profile("ada")
    if version is None:
        assert profile.heads == ()
        assert found.head_versions == [0]
    else:
        assert profile.live_version == version
        assert found.head_versions == [0, version], "from one frame set to the next"
    replaced = int(re.search(r"^mien_replies_replaced(?:_total)? (\d+)", metrics, re.MULTILINE)[1])  # type: ignore[index]  # always there
    assert found.sent == found.answered + found.dropped + replaced, "every frame set came to its end"
    assert profile.takes == (), "nothing is kept that was not agreed to"


@pytest.mark.slow
async def test_a_moving_face_calibrates_from_start_to_report(start_service: StartService, tmp_path: Path) -> None:
    service = start_service("--profiles", str(tmp_path / "profiles"))
    person = Person()
    takes = {name: person.take(name) for name in ("rest", "brows_up", "jaw_open", "smile")}
    found = await calibrated(service.stream_url, takes, person.rate_hz)
    honest(found, Profiles(tmp_path / "profiles"), metrics_of(service))
    assert found.accepted[0] == "rest"
    assert "jaw_open" in found.accepted, found.refused
    assert found.gauges, "the movement was shown while it was made"


@pytest.mark.slow
@pytest.mark.skipif(not RENDERED.exists(), reason=f"{RENDERED.name} is absent (mien render-takes)")
async def test_a_rendered_wearer_calibrates_with_the_shipped_bundle(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service("--profiles", str(tmp_path / "profiles"), bundle=shipped_bundle())
    found = await calibrated(service.stream_url, read_takes(RENDERED), 30.0)
    honest(found, Profiles(tmp_path / "profiles"), metrics_of(service))
    assert len(found.accepted) >= 15, found.refused
