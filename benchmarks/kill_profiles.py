"""Kills a process that writes into a profile store, again and again, and holds what is left against what it had acknowledged.

    python -m benchmarks.kill_profiles --rounds 200

Each round a child opens the store that the last one left, then adds heads and takes, promotes, rolls back and deletes as fast as
it can, and says before each step what it is about to do and after it that it is done. SIGKILL reaches it at a random moment, in
one round of four while it still opens the store and tidies up. After that the live head must be the one acknowledged or the one
under way; every acknowledged head and take must be readable; what was deleted must be gone. The last line is one JSON object.
A killed process is not a lost power supply: what fsync is worth, only the latter shows. POSIX only.
"""

import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from calibration.errors import CalibrationError
from calibration.profiles import HeadRecord, Profile, Profiles, TakeRecord
from model_export.contract import Camera, Head, RegionHead, Take
from model_export.contract.head import LAST_COUNT, MAP_COUNT, OUTPUT_COUNT
from model_export.contract.take import Encoding

WEARER: Final = "ada"
PASSING: Final = "passing-7h3k9"
"""A second wearer, who comes and goes."""
_MOST: Final = 6
"""More heads or takes than this are deleted again, so that a round costs the same at the end as at the beginning."""


@dataclass(slots=True)
class State:
    """What a store holds, as far as this program looks."""

    live: int = 0
    heads: set[int] = field(default_factory=set)
    takes: set[int] = field(default_factory=set)
    passing: bool = False

    @classmethod
    def of(cls, store: Profiles) -> "State":
        """Read from the store."""
        profile = store.profile(WEARER)
        return cls(
            profile.live_version,
            {head.version for head in profile.heads},
            {take.number for take in profile.takes},
            PASSING in store.wearers(),
        )


def run(folder: Path, rounds: int, seed: int, longest_s: float = 0.3) -> dict[str, Any]:
    """Kills `rounds` writers; gives the counts, among them `faults`, which should be empty."""
    random_ = random.Random(seed)
    store = Profiles(folder)
    store.create(WEARER)
    store.give_consent(WEARER, "1", keep_takes=True)
    store.close()
    counts: Counter[str] = Counter()
    killed_at: Counter[str] = Counter()
    faults: list[str] = []
    started_s = time.monotonic()
    before = State()
    for number in range(rounds):
        opening = random_.random() < 0.25
        after_s = random_.uniform(0, 0.02 if opening else longest_s)
        lines = _kill_one(folder, random_.randrange(2**32), after_s, opening=opening)
        allowed, under_way = _replay(before, lines, counts)
        killed_at[under_way] += 1
        store = Profiles(folder)
        try:
            before = _check(store, folder, allowed)
        except (CalibrationError, AssertionError) as error:
            faults.append(f"round {number}, {under_way}: {error}")
            before = State.of(store)
        store.close()
        if not before.passing and any(
            PASSING.encode() in path.read_bytes() for path in folder.glob("profiles.sqlite*")
        ):
            faults.append(f"round {number}, {under_way}: traces of {PASSING}")
    return {
        "rounds": rounds,
        "seed": seed,
        "acknowledged": dict(sorted(counts.items())),
        "killed_during": dict(sorted(killed_at.items())),
        "faults": faults,
        "seconds": round(time.monotonic() - started_s, 1),
    }


def _kill_one(folder: Path, seed: int, after_s: float, *, opening: bool) -> list[dict[str, Any]]:
    """Starts a writer, kills it `after_s` after its first word (`opening`: after its start), and gives what it said."""
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_fd)
            _write_on(folder, random.Random(seed), write_fd)
        finally:
            os._exit(1)  # only reached by an exception, whose round then counts as a fault
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as said:
        first = b"" if opening else said.readline()
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        lines = [first, *said.readlines()]
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _write_on(folder: Path, random_: random.Random, said_fd: int) -> None:
    def say(**what: Any) -> None:
        os.write(said_fd, json.dumps(what).encode() + b"\n")

    store = Profiles(folder)
    say(begin="open", after=_said(State.of(store)))
    while True:
        state = State.of(store)
        step, after = _choose(store, state, random_)
        say(begin=step, after=_said(after))
        getattr(_Steps, step)(store, state, after, random_)
        say(done=step, state=_said(State.of(store)))


def _choose(store: Profiles, state: State, random_: random.Random) -> tuple[str, State]:
    """A step, and what the store holds when it has happened."""
    newest = max((head.version for head in store.profile(WEARER).heads), default=0)
    steps = ["add_head", "add_live_head", "add_take", "turn_passing", "make_live"]
    if state.live:
        steps.append("roll_back")
    if len(state.takes) > _MOST:
        return "withdraw", replace(state, takes=set())
    if len(state.heads - {state.live}) > _MOST:
        return "delete_head", replace(state, heads=state.heads - {min(state.heads - {state.live})})
    step = random_.choice(steps)
    changes: dict[str, dict[str, Any]] = {
        "add_head": {"heads": state.heads | {newest + 1}},
        "add_live_head": {"heads": state.heads | {newest + 1}, "live": newest + 1},
        "make_live": {"live": random_.choice([0, *state.heads])},
        "add_take": {"takes": state.takes | {-1}},  # its number is not known before
        "turn_passing": {"passing": not state.passing},
        "roll_back": {"live": -1},
    }
    return step, replace(state, **changes[step])


class _Steps:
    """Each step on a store in a state; what they are to reach was said before."""

    @staticmethod
    def add_head(store: Profiles, _state: State, _after: State, random_: random.Random) -> None:
        store.add_head(WEARER, _head(random_))

    @staticmethod
    def add_live_head(store: Profiles, _state: State, _after: State, random_: random.Random) -> None:
        store.add_head(WEARER, _head(random_), live=True)

    @staticmethod
    def make_live(store: Profiles, _state: State, after: State, _random: random.Random) -> None:
        store.make_live(WEARER, after.live)

    @staticmethod
    def roll_back(store: Profiles, _state: State, _after: State, _random: random.Random) -> None:
        store.roll_back(WEARER)

    @staticmethod
    def delete_head(store: Profiles, state: State, after: State, _random: random.Random) -> None:
        (gone,) = state.heads - after.heads
        store.delete_head(WEARER, gone)

    @staticmethod
    def withdraw(store: Profiles, _state: State, _after: State, _random: random.Random) -> None:
        store.withdraw_consent(WEARER)
        store.give_consent(WEARER, "1", keep_takes=True)

    @staticmethod
    def add_take(store: Profiles, _state: State, _after: State, random_: random.Random) -> None:
        store.add_take(WEARER, _take(random_))

    @staticmethod
    def turn_passing(store: Profiles, state: State, _after: State, random_: random.Random) -> None:
        if state.passing:
            store.delete_wearer(PASSING)
        else:
            store.create(PASSING)
            store.give_consent(PASSING, "1", keep_takes=True)
            store.add_take(PASSING, _take(random_))


def _said(state: State) -> dict[str, Any]:
    return {"live": state.live, "heads": sorted(state.heads), "takes": sorted(state.takes), "passing": state.passing}


def _heard(said: dict[str, Any]) -> State:
    return State(said["live"], set(said["heads"]), set(said["takes"]), said["passing"])


def _replay(before: State, lines: list[dict[str, Any]], counts: Counter[str]) -> tuple[tuple[State, State], str]:
    """The two states that the store may be in, the acknowledged and the one under way, and the step under way."""
    acknowledged, under_way, step = before, before, "open"
    for line in lines:
        if "done" in line:
            counts[line["done"]] += 1
            acknowledged = under_way = _heard(line["state"])
            step = "nothing"
        else:
            step, under_way = line["begin"], _heard(line["after"])
    return (acknowledged, under_way), step


def _check(store: Profiles, folder: Path, allowed: tuple[State, State]) -> State:
    """What the store holds now; raises AssertionError or CalibrationError when it may not hold that."""
    found, (old, new) = State.of(store), allowed
    lives = {old.live, new.live} | (found.heads | {0} if new.live == -1 else set())  # -1: whatever came before
    assert found.live in lives, f"live head {found.live}, should be one of {sorted(lives)}"
    assert found.live == 0 or found.live in found.heads, f"live head {found.live} is none of {sorted(found.heads)}"
    assert old.heads & new.heads <= found.heads <= old.heads | new.heads, f"heads {sorted(found.heads)}, {allowed}"
    assert old.takes & new.takes <= found.takes, f"takes {sorted(old.takes - found.takes)} are lost"
    assert len(found.takes - old.takes) <= len(new.takes - old.takes), f"takes {sorted(found.takes)}, {allowed}"
    assert found.passing in (old.passing, new.passing), f"{PASSING} is {found.passing}, {allowed}"
    for version in found.heads:
        assert store.head(WEARER, version).head_version == version
    for number in found.takes:
        store.take(WEARER, number)
    if store.profile(WEARER).consent is None:  # killed between withdrawing and giving it
        store.give_consent(WEARER, "1", keep_takes=True)
    store.purge()
    named = {record.digest for wearer in store.wearers() for record in records(store.profile(wearer))}
    left = {path.name for path in (folder / "files").iterdir()} - named
    assert not left, f"{len(left)} files that nothing names"
    return found


def records(profile: Profile) -> tuple[HeadRecord | TakeRecord, ...]:
    """All that has a file of its own."""
    return (*profile.heads, *profile.takes)


def _head(random_: random.Random) -> Head:
    numbers = np.random.default_rng(random_.randrange(2**32))

    def region(camera: Camera) -> RegionHead:
        outputs = OUTPUT_COUNT[camera]
        shapes = ((LAST_COUNT, 4), (4,), (4, LAST_COUNT), (LAST_COUNT, outputs), (outputs,), (MAP_COUNT, outputs))
        arrays = [numbers.standard_normal(shape).astype(np.float32) for shape in shapes]
        return RegionHead(*arrays)

    left_eye, right_eye, mouth = map(region, Camera)
    return Head(left_eye, right_eye, mouth, backbone_digest="ab" * 32)


def _take(random_: random.Random) -> Take:
    image = random_.randbytes(128 * 128)
    return Take("smile", Encoding.GRAY8, np.array([1], np.int64), {Camera.MOUTH: (image,)}, size_px=(128, 128))


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="Writers to kill.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--longest", "longest_s", default=0.3, show_default=True, help="Latest kill after a writer's start, seconds."
)
def main(rounds: int, seed: int, longest_s: float) -> None:
    """Kills writers of a profile store; exit code 1 when one of them left a fault."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder) / "profiles", rounds, seed, longest_s)
    click.echo(json.dumps(result))
    raise SystemExit(1 if result["faults"] else 0)


if __name__ == "__main__":
    main()
