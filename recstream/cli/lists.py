"""A list for people: titles where they are known, scores, and why each item is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["print_list", "reasons"]


def reasons(item: Mapping[str, Any], titles: Mapping[str, str], *, signals: int = 2) -> str:
    """The strongest signals of a list's item, and the user's own items behind it.

    >>> item = {"signals": {"together": 0.4, "trending": 0.1}, "because": ["i3"]}
    >>> reasons(item, {"i3": "Alien"})
    'together .40, trending .10; because of Alien'
    """
    strongest = sorted(item["signals"].items(), key=lambda pair: -abs(pair[1]))[:signals]
    text = ", ".join(f"{name} {_short(value)}" for name, value in strongest)
    because = " and ".join(titles.get(cause) or cause for cause in item["because"])
    return f"{text}; because of {because}" if because else text


def _short(value: float) -> str:
    """Two places, without a zero before the point.

    >>> _short(0.4), _short(-0.25), _short(10.05)
    ('.40', '-.25', '10.05')
    """
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 1.0 and not text.strip("-").startswith("1") else text


def print_list(
    console: Console,
    record: Mapping[str, Any],
    *,
    items: int = 10,
    titles: Mapping[str, str] | None = None,
    heading: str | None = None,
) -> None:
    """Print the first ``items`` of a recommendation record."""
    titles = titles or {}
    as_of = record["as_of"]
    console.print(
        heading
        or f"user {escape(record['user_id'])}  version {record['version']}  ({record['trigger']}, as of "
        f"{as_of['partition']}:{as_of['offset']})"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    for item in record["items"][:items]:
        name = titles.get(item["item_id"]) or item["item_id"]
        why = reasons(item, titles)
        table.add_row(f"{item['rank']:>3}", escape(name), f"{item['score']:.3f}", escape(why))
    console.print(table)
