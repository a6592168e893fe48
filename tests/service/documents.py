"""What the documents say, in a form that tests can compare: tables, fenced blocks, hex dumps, byte layouts."""

import re
import struct

from tests.conftest import REPOSITORY

_TYPES = {"B": "u8", "H": "u16", "I": "u32", "q": "i64", "f": "f32"}
_CODES = {name: code for code, name in _TYPES.items()}


def document(name: str) -> str:
    """The text of a document in docs/, or README.md."""
    folder = REPOSITORY if name == "README.md" else REPOSITORY / "docs"
    return (folder / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands under the one heading with this title, up to the next heading of the same level or a higher one."""
    found = re.findall(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert len(found) == 1, f"{len(found)} headings {title!r}"
    start = re.search(rf"^#+ {re.escape(title)}$", text, re.MULTILINE)
    assert start is not None
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(found[0])}}} ", rest, re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def tables(text: str) -> list[list[list[str]]]:
    """The tables, each a list of rows of cells, without heads."""
    found = re.findall(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()] for table in found]


def words_of(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def dumped_bytes(block: str) -> bytes:
    """The bytes of a hex dump; each line begins with its offset."""
    data = b""
    for line in block.splitlines():
        offset, _, digits = line.partition("  ")
        assert int(offset, 16) == len(data), line
        data += bytes.fromhex(digits)
    return data


def layout_of_table(rows: list[list[str]]) -> list[tuple[int, str]]:
    """Offset and type of each single field of a byte table; `u8 x 3` are three fields."""
    fields = []
    for offset, kind, *_ in rows:
        name, _, count = kind.partition(" x ")
        size = struct.calcsize(f"<{_CODES[name]}") if name in _CODES else int(name.removesuffix(" bytes"))
        fields += [(int(offset) + size * place, name) for place in range(int(count or 1))]
    return fields


def layout_of_struct(form: str) -> list[tuple[int, str]]:
    """The same of a struct format."""
    fields: list[tuple[int, str]] = []
    offset = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", form):
        if code == "s":
            fields.append((offset, f"{count} bytes"))
            offset += int(count)
            continue
        for _ in range(int(count or 1)):
            fields.append((offset, _TYPES[code]))
            offset += struct.calcsize(f"<{code}")
    return fields


def unpacked(layout: list[tuple[int, str]], data: bytes, start: int, end: int) -> list[int | float | bytes]:
    """The values of the fields from byte `start` up to byte `end`."""
    values: list[int | float | bytes] = []
    for offset, kind in layout:
        if start <= offset < end:
            code = _CODES[kind] if kind in _CODES else f"{kind.removesuffix(' bytes')}s"
            values += struct.unpack_from(f"<{code}", data, offset)
    return values
