import pytest

from model_export.contract import CUES, EU_NAMES, SCRIPT, Cue, TakeError, cue_by_name


def test_every_cue_is_found_by_its_name_and_asks_for_eus_of_the_set() -> None:
    assert len({cue.name for cue in CUES}) == len(CUES) == 20
    for cue in CUES:
        assert cue_by_name(cue.name) is cue
        assert [EU_NAMES[index] for index in cue.eu_indices] == list(cue.eus)


def test_the_script_takes_about_a_minute_and_asks_for_no_free_movement() -> None:
    assert 45 <= sum(cue.seconds for cue in SCRIPT) <= 65
    assert [cue.name for cue in CUES if cue not in SCRIPT] == ["free"]


def test_rest_comes_first_because_all_movement_is_measured_from_it() -> None:
    assert CUES[0].name == "rest"
    assert not CUES[0].eus


def test_an_unknown_cue_or_eu_is_refused_by_name() -> None:
    with pytest.raises(TakeError, match="one of rest, .* Found 'grin'"):
        cue_by_name("grin")
    with pytest.raises(TakeError, match="Found mouthGrin"):
        Cue("grin", "Grin.", ("mouthGrin",))
