"""What a profile store holds of the wearer who calibrates, and whether it may hold that after a kill."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.simulated_wearer import Calibrated
from calibration.errors import UnknownWearerError
from calibration.profiles import Profiles

WEARER: Final = "ada"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store holds of the wearer, all of it read."""

    live: int = 0
    live_file: bytes = b""
    heads: frozenset[int] = frozenset()
    takes: Mapping[int, str] = field(default_factory=dict)
    """Number of each take -> its cue, in the order in which they were kept."""

    @classmethod
    def of(cls, store: Profiles) -> "Kept":
        """Reads every head and every take; raises CalibrationError for one that is not as it was written."""
        try:
            profile = store.profile(WEARER)
        except UnknownWearerError:
            return cls()
        for head in profile.heads:
            assert store.head(WEARER, head.version).head_version == head.version
        for take in profile.takes:
            assert store.take(WEARER, take.number).cue == take.cue
        live = profile.live_version
        file = store.head_file(WEARER, live) if live else b""
        heads = frozenset(head.version for head in profile.heads)
        return cls(live, file, heads, {take.number: take.cue for take in profile.takes})


def check(store: Profiles, before: Kept, told: Calibrated) -> Kept:
    """What the store holds after a kill; raises AssertionError or CalibrationError when it may not hold that."""
    found = Kept.of(store)
    assert told.head_versions[:1] in ([], [before.live]), (
        f"{told.head_versions} answered, should begin as {before.live}"
    )
    assert set(told.head_versions) <= {before.live, found.live}, f"{told.head_versions} answered, live is {found.live}"
    if told.report is not None:
        live = told.report["head_version"] or before.live
        assert found.live == live, f"live head {found.live}, should be the reported one, {live}"
    new = found.heads - before.heads
    assert before.heads <= found.heads, f"heads {sorted(before.heads - found.heads)} are lost"
    if found.live == before.live:
        assert found.live_file == before.live_file, f"the file of head {found.live} is another one"
        assert not new, f"heads {sorted(new)} are there and not live"
    else:
        assert new == {found.live}, f"live head {found.live}, new ones {sorted(new)}"
        assert any(event.event == "fitting" for event in told.events), f"head {found.live} of no fit"
        parent = store.head(WEARER, found.live).parent
        assert parent == before.live, f"head {found.live} was fitted from {parent}, should be from {before.live}"
    assert before.takes.items() <= found.takes.items(), "takes of earlier rounds are lost"
    cues = [cue for number, cue in found.takes.items() if number not in before.takes]
    assert len(cues) <= len(told.accepted) + 1, f"takes {cues}, acknowledged were {told.accepted}"
    rest = iter(cues)
    assert all(cue in rest for cue in told.accepted), f"takes {cues}, acknowledged were {told.accepted}"
    return found
