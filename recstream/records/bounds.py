"""Where the reading of a log begins and ends, as settings say it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from recstream.records.checks import FieldError, timestamp

__all__ = ["At", "Bound", "parse_bound"]


class At(NamedTuple):
    """A point in time of the records' own timestamps."""

    ms: int
    """Unix time in milliseconds."""


Bound: TypeAlias = Literal["earliest", "latest", "end"] | At | Mapping[str, int]
"""Mapping: an offset for each partition, by name (``{"events/0": 17}``)."""

_WORDS: Final[dict[str, tuple[Literal["earliest", "latest", "end"], ...]]] = {
    "start": ("earliest", "latest"),
    "stop": ("end",),
}


def parse_bound(text: str, which: Literal["start", "stop"]) -> Bound:
    """Read one setting: a word, ``ts=...``, or ``offsets={...}``.

    Raises:
        ValueError: it is none of these; the message says what was wanted.

    >>> parse_bound("latest", "start")
    'latest'
    >>> parse_bound("ts=2023-11-14T22:13:20Z", "start")
    At(ms=1700000000000)
    >>> parse_bound('offsets={"events/0": 12, "events/1": 7}', "stop")
    {'events/0': 12, 'events/1': 7}
    """
    kind, equals, rest = text.partition("=")
    if kind == "ts" and equals:
        return At(_milliseconds(rest))
    if kind == "offsets" and equals:
        return _offsets(rest)
    for word in _WORDS[which]:
        if text == word:
            return word
    raise ValueError(
        f"wanted {', '.join(_WORDS[which])}, ts=<Unix seconds or RFC 3339>, or "
        'offsets={"<topic>/<partition>": <offset>, ...}'
    )


def _milliseconds(text: str) -> int:
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    try:
        return round(timestamp(value, "ts") * 1000)
    except FieldError as err:
        wanted = "wanted ts=<Unix seconds>, or ts=<RFC 3339 with an offset> such as ts=2024-01-01T00:00:00Z"
        raise ValueError(f"{wanted} ({err.detail})") from None


def _offsets(text: str) -> dict[str, int]:
    wanted = 'wanted offsets=<JSON object of partition to offset>, such as offsets={"events/0": 12}'
    try:
        offsets = json.loads(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not isinstance(offsets, dict) or not offsets:
        raise ValueError(wanted)
    for partition, offset in offsets.items():
        if not re.match(r"^[A-Za-z0-9._-]+/\d+$", partition) or type(offset) is not int or offset < 0:
            raise ValueError(wanted)
    return offsets
