"""The README and the documentation as data, so that tests run what a reader copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["PAGES", "ROOT", "Block", "blocks", "page", "prose", "snippets", "tables"]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
"""All pages, by their paths in the repository."""


class Block(NamedTuple):
    """A fenced code block."""

    page: str
    line: int
    """Of its first line, from 1."""
    language: str
    heading: str
    """The heading it stands under."""
    text: str

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[Block]:
    """The code blocks of a page, in their order."""
    found: list[Block] = []
    heading, language, begin, lines = "", "", 0, list[str]()
    for number, line in enumerate(page(name).splitlines(), 1):
        if line.startswith("```"):
            if begin:
                found.append(Block(name, begin, language, heading, "\n".join(lines) + "\n"))
                begin = 0
            else:
                language, begin, lines = line[3:].strip(), number + 1, []
        elif begin:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    assert not begin, f"{name}:{begin}: the block does not end"
    return found


def prose(name: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page(name), flags=re.DOTALL | re.MULTILINE)


def snippets(name: str, heading: str, language: str = "python") -> list[str]:
    """The code of one language under a heading of a page of docs, in their order."""
    found = [
        block.text
        for block in blocks(f"docs/{name}")
        if (block.heading, block.language) == (heading, language)
    ]
    assert found, f"docs/{name}: {heading!r} has no {language} example"
    return found


def tables(name: str, heading: str) -> list[list[list[str]]]:
    """The tables directly under a heading, as rows of cells; the row of column names is left out."""
    under = False
    found: list[list[list[str]]] = []
    for rows in _runs(prose(name).splitlines()):
        if rows[0].startswith("#"):
            under = rows[0].lstrip("#").strip() == heading
        elif under and rows[0].startswith("|"):
            found.append([_cells(row) for row in rows[2:]])
    assert found, f"{name} has no table under {heading!r}"
    return found


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def _runs(lines: list[str]) -> Iterator[list[str]]:
    """Neighbouring lines of tables together, every other line by itself."""
    run: list[str] = []
    for line in lines:
        if line.startswith("|"):
            run.append(line)
            continue
        if run:
            yield run
            run = []
        if line:
            yield [line]
    if run:
        yield run
