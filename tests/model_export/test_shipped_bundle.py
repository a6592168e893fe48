"""The bundle in the repository is the one that the committed reports describe, and it works."""

import json
from pathlib import Path

import numpy as np
import pytest

import model_export
from model_export.contract import Bundle, read_bundle
from model_export.estimates import estimate
from model_export.runtime import Runtime
from model_export.wearer_names import names_in

BASE = Path(model_export.__file__).parent / "bundles" / "base"
REPORTS = Path(__file__).resolve().parents[2] / "docs" / "evaluation"


@pytest.fixture(scope="module")
def base() -> Bundle:
    return read_bundle(BASE)


@pytest.mark.parametrize("name", ["near", "headset", "far", "long"])
def test_the_reports_describe_the_shipped_bundle_digest_for_digest(base: Bundle, name: str) -> None:
    evaluation = json.loads((REPORTS / f"{name}.json").read_text())
    assert [bundle["digest"] for bundle in evaluation["bundles"]] == [base.digest]
    assert base.digest in (REPORTS / f"{name}.md").read_text()


def test_the_model_card_names_the_shipped_bundle(base: Bundle) -> None:
    assert base.digest in (REPORTS.parent / "model-card.md").read_text()


def test_the_shipped_bundle_is_small_and_opens(base: Bundle) -> None:
    assert sum(file.stat().st_size for file in BASE.iterdir()) <= 3_000_000
    Runtime(base)


def test_nothing_that_was_judged_was_trained_on(base: Bundle) -> None:
    trained = names_in(base.training["data"]["trained_wearers"])
    assert len(trained) > 1000
    assert all(wearer.startswith("train-") for wearer in trained)


def test_a_dark_picture_is_not_trusted(base: Bundle) -> None:
    dark_THW = np.full((1, 128, 128), 2, np.uint8)
    assert estimate(base, dark_THW, dark_THW, dark_THW).confidence_T3.max() < 0.5
