"""Wearers named as ranges: the same ones come back, and nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.errors import DataError
from model_export.wearer_names import names_in, ranges_of

NAMES = st.sets(
    st.tuples(st.sampled_from(["train", "near", "far-off"]), st.integers(0, 40)).map(
        lambda pair: f"{pair[0]}-{pair[1]}"
    )
)


@given(NAMES)
def test_ranges_name_the_same_wearers(names: set[str]) -> None:
    assert names_in(ranges_of(names)) == names
    assert names_in(sorted(names)) == names


def test_neighbours_are_one_range_and_others_stay_as_they_are() -> None:
    names = ["train-9", "train-10", "train-11", "train-13", "near-12", "somebody"]
    assert ranges_of(names) == ["somebody", "near-12", "train-9..11", "train-13"]


def test_names_that_only_look_numbered_stay_as_they_are() -> None:
    names = {"train-007", "train-", "train--1", "7"}
    assert names_in(ranges_of(names)) == names


@pytest.mark.parametrize("entry", ["train-9..3", "train-0..1000000"])
def test_a_range_that_cannot_be_is_refused(entry: str) -> None:
    with pytest.raises(DataError, match=r"should go up, over 1,000,000 names in all at most. Found 'train-"):
        names_in([entry])


@given(st.lists(st.text(max_size=12), max_size=5))
def test_any_text_is_read_or_refused(entries: list[str]) -> None:
    try:
        names_in(entries)
    except DataError as error:
        assert "range of wearers" in str(error)
