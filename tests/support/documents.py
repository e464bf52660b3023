"""Snippets of the documentation, so that tests run what a reader copies."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["snippets"]

DOCS = Path(__file__).parents[2] / "docs"


def snippets(page: str, heading: str, language: str = "python") -> list[str]:
    """The code blocks of one language in the section under a heading, in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"docs/{page} has no section {heading!r}"
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", found[2], re.DOTALL | re.MULTILINE)
    assert blocks, f"docs/{page}: {heading!r} has no {language} example"
    return blocks
