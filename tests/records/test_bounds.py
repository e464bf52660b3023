"""Where reading begins and ends, as settings say it."""

from __future__ import annotations

from typing import Literal

import pytest

from recstream.records.bounds import parse_bound


@pytest.mark.parametrize(
    ("text", "which", "wanted"),
    [
        ("erliest", "start", "wanted earliest, latest, ts="),
        ("end", "start", "wanted earliest, latest, ts="),
        ("earliest", "stop", "wanted end, ts="),
        ("ts=yesterday", "start", "RFC 3339 with an offset"),
        ("ts=2024-01-01T00:00:00", "start", "RFC 3339 with an offset"),
        ('offsets={"e/0": -1}', "stop", "JSON object of partition to offset"),
    ],
)
def test_a_bound_that_is_not_understood_says_what_is(
    text: str, which: Literal["start", "stop"], wanted: str
) -> None:
    with pytest.raises(ValueError, match=wanted):
        parse_bound(text, which)
