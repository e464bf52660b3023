"""Texts that break what is careless."""

from __future__ import annotations

__all__ = ["HOSTILE_TEXTS"]

HOSTILE_TEXTS: tuple[str, ...] = (
    "",
    " ",
    "'",
    "''",
    "o'neil",
    "\\",
    "\\'",
    "a\nb\r\n",
    "\x00",
    "a\x00b",
    "a\x00c",
    "\t\x1a\x7f",
    '"',
    "%",
    "_",
    "-- drop",
    "/*",
    "'; DELETE FROM users; --",
    "') OR ('1'='1",
    "NULL",
    "{}",
    "${x}",
    "é",
    "e\u0301",
    "\u2028\ufeff",
    "\ud7ff\ue000",
    "\U0010ffff",
    "👩\u200d👩\u200d👧",
    "x" * 10_240,
    "'" * 10_240,
)
"""Ids and texts that break naive filters and encodings; every one must come back as it was."""
