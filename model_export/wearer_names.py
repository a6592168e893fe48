"""Thousands of wearers' names in few words, for training records: "train-7" and "train-8" are "train-7..8".

A name is a kind, "-" and a seed. Records of before ranges, with one name after the other, read alike.
"""

import re
from collections.abc import Iterable
from typing import Final

from model_export.errors import DataError

MOST_NAMES: Final = 1_000_000
"""A record that names more is not believed."""
_NUMBERED: Final = re.compile(r"(.*-)(0|[1-9][0-9]{0,17})(?:\.\.(0|[1-9][0-9]{0,17}))?")


def ranges_of(names: Iterable[str]) -> list[str]:
    """The names, each once, in order; neighbouring seeds of a kind as one range."""
    seeds: dict[str, list[int]] = {}
    others = []
    for name in sorted(set(names)):
        found = _NUMBERED.fullmatch(name)
        if found is None or found[3] is not None:
            others.append(name)
        else:
            seeds.setdefault(found[1], []).append(int(found[2]))
    result = others
    for kind, numbers in seeds.items():
        runs: list[list[int]] = []
        for number in sorted(numbers):
            if runs and number == runs[-1][-1] + 1:
                runs[-1][1:] = [number]
            else:
                runs.append([number])
        result += [f"{kind}{'..'.join(map(str, run))}" for run in runs]
    return result


def names_in(ranges: Iterable[str]) -> set[str]:
    """All names in a list of names and ranges; raises DataError for a range that ends before it begins, or is too long."""
    result: set[str] = set()
    for entry in ranges:
        found = _NUMBERED.fullmatch(entry)
        if found is None or found[3] is None:
            result.add(entry)
            continue
        first, last = int(found[2]), int(found[3])
        if not 0 <= last - first < MOST_NAMES - len(result):
            raise DataError(
                f"A range of wearers should go up, over {MOST_NAMES:,} names in all at most. Found {entry!r}. "
                "Export the bundle again."
            )
        result.update(f"{found[1]}{seed}" for seed in range(first, last + 1))
    return result
