"""Whether a log is in order of time: how many of its events come after others that are far newer."""

from __future__ import annotations

from typing import Final

import orjson

from recstream.records.checks import FieldError, timestamp

__all__ = ["TimeOrder", "out_of_order", "time_of"]

_FEW: Final = 0.01
"""Share of late events up to which a log counts as in order of time."""


class TimeOrder:
    """Counts events that are older than the newest one before them by more than ``lateness_s``.

    >>> order = TimeOrder(300.0)
    >>> for ts in (1000.0, 2000.0, 1800.0, 1000.0):
    ...     order.note(ts)
    >>> order.late
    1
    """

    def __init__(self, lateness_s: float) -> None:
        self._lateness_s = lateness_s
        self._newest = float("-inf")
        self.late = 0
        """Late events so far."""

    def note(self, ts: float) -> None:
        """Take in the time of the next event, Unix seconds."""
        self._newest = max(self._newest, ts)
        self.late += ts < self._newest - self._lateness_s


def out_of_order(name: str, late: int, events: int, lateness_s: float) -> str:
    """Say that a log is not in order of time; empty where it is, but for a few late events.

    >>> out_of_order("log.jsonl", late=3, events=4, lateness_s=300.0)
    'log.jsonl is not in order of time: 3 of 4 events (75 %) are more than 300 s older than one before them'
    >>> out_of_order("log.jsonl", late=3, events=300, lateness_s=300.0)
    ''
    """
    if late <= _FEW * events:
        return ""
    return (
        f"{name} is not in order of time: {late:,} of {events:,} events ({100 * late / events:.0f} %) are "
        f"more than {lateness_s:g} s older than one before them"
    )


def time_of(raw: bytes) -> float | None:
    """Give the time of a record that is not decoded yet, Unix seconds; None where it cannot be read.

    >>> time_of(b'{"ts": 17}'), time_of(b'{"ts": "1970-01-01T00:01:00Z"}'), time_of(b"{"), time_of(b"[]")
    (17.0, 60.0, None, None)
    """
    try:
        record = orjson.loads(raw)
        return timestamp(record["ts"], "ts") if isinstance(record, dict) and "ts" in record else None
    except (ValueError, FieldError):
        return None
