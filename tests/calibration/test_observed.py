"""Measuring takes once: the same as measuring anew, and nothing twice."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.features import TakeFeatures, features_of
from calibration.observed import Observed
from calibration.realign import moved_back, placed
from calibration.rested import neutral_of, rest_features
from calibration.seen import SeenTake, see, see_take
from model_export.contract import LAST_COUNT, MAP_COUNT, Bundle, Camera, Take
from tests.bundles import make_bundle, make_resting
from tests.calibration.moving_pictures import Person, calibration


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("observed") / "bundle")


@pytest.fixture(scope="module")
def takes() -> list[Take]:
    return calibration(Person(rate_hz=15.0), ("rest", "smile", "jaw_open"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured, in order."""
    said: list[str] = []

    def seen(take: Take, neutral: Mapping[Camera, NDArray[np.uint8]]) -> SeenTake:
        said.append(f"see {take.cue}")
        return see_take(take, neutral)

    def features(
        take: Take, bundle: Bundle, neutral: Mapping[Camera, NDArray[np.float32]] | None = None
    ) -> TakeFeatures:
        said.append(f"features {take.cue}")
        return features_of(take, bundle, neutral)

    monkeypatch.setattr("calibration.observed.see_take", seen)
    monkeypatch.setattr("calibration.observed.features_of", features)
    return said


def test_it_gives_what_measuring_anew_gives(bundle: Bundle, takes: list[Take]) -> None:
    observed = Observed(bundle)
    for one in takes[1:]:
        observed.sight([takes[0], one])
    for found, expected in zip(observed.sight(takes).takes, see(takes).takes, strict=True):
        assert (found.cue, found.cameras.keys()) == (expected.cue, expected.cameras.keys())
        for camera, seen in found.cameras.items():
            np.testing.assert_array_equal(seen.features_TF, expected.cameras[camera].features_TF)
    for take in takes:
        for camera, features_TF in features_of(take, bundle).features.items():
            np.testing.assert_array_equal(observed.features(take, None).features[camera], features_TF)


def test_faces_are_placed_by_their_rest_and_compared_with_it(bundle: Bundle, takes: list[Take]) -> None:
    read = np.random.default_rng(3).normal(0, 0.02, (MAP_COUNT, 4)).astype(np.float32)
    knowing = replace(bundle, resting=make_resting(eye_slip_M4=read, mouth_slip_M4=read))
    observed = Observed(knowing)
    slips = placed(takes[0], knowing)
    assert slips
    assert observed.placed(takes[0]) == slips
    assert observed.placed(None) == {}
    assert observed.rest(None) == {}
    rest = rest_features([features_of(moved_back(takes[0], slips), knowing)])
    for camera, rest_F in observed.rest(takes[0]).items():
        np.testing.assert_array_equal(rest_F, rest[camera])
    expected = features_of(moved_back(takes[1], slips), knowing, neutral_of(rest)).features
    for camera, features_TF in observed.features(takes[1], takes[0]).features.items():
        np.testing.assert_array_equal(features_TF, expected[camera])
        alike_TF = features_TF == observed.features(takes[1], None).features[camera]
        assert (camera in slips) != alike_TF[:, LAST_COUNT:].all()
        assert not alike_TF[:, :LAST_COUNT].all()


def test_nothing_is_measured_twice(bundle: Bundle, takes: list[Take], measured: list[str]) -> None:
    observed = Observed(bundle)
    for one in takes[1:]:
        observed.sight([takes[0], one])
        observed.features(one, takes[0])
    before = len(measured)
    observed.sight(takes)
    observed.features(takes[1], takes[0])
    assert measured[before:] == []
    assert sorted(measured) == sorted(set(measured))


def test_another_rest_is_another_neutral_image(bundle: Bundle, takes: list[Take], measured: list[str]) -> None:
    observed = Observed(bundle)
    observed.sight(takes[:2])
    again = calibration(Person(rate_hz=15.0), ("smile", "rest"))[1]  # the same pose, later
    observed.sight([again, takes[1]])
    assert measured.count("see smile") == 2


def test_what_was_done_again_is_forgotten(bundle: Bundle, takes: list[Take], measured: list[str]) -> None:
    observed = Observed(bundle)
    observed.sight(takes)
    observed.features(takes[1], takes[0])
    observed.keep([takes[0], takes[2]])
    observed.sight(takes)
    observed.features(takes[1], takes[0])
    assert measured.count("see smile") == 2
    assert measured.count("features smile") == 2
    assert measured.count("see jaw_open") == 1
