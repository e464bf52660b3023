"""Recent events of a user, and sessions: runs of them without a gap in event time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["NO_ITEM", "RecentEvent", "Session", "sessions_of"]

NO_ITEM: Final = -1
"""Handle in a recent event that stands for words (a search, a comment) rather than for an item."""


class RecentEvent(NamedTuple):
    """One of the recent events kept of a user. Its first two fields order them, ties included."""

    ts: float
    digest: int
    """64-bit digest of the event's id, or of its content where it has none; odd for an event's words."""
    item: int
    """Catalogue handle, or `NO_ITEM`."""
    weight: float
    action: str


class Session(NamedTuple):
    """A run of events in which no two neighbours are further apart than the session gap."""

    start: float
    """Event time of its first event, Unix seconds."""
    end: float
    events: int
    actions: dict[str, int]
    """How many events of each action, in order of first appearance."""
    items: tuple[int, ...]
    """Catalogue handles, distinct, in order of first appearance."""


def sessions_of(recent: Sequence[RecentEvent], gap_s: float) -> list[Session]:
    """Cut events, ordered by event time, into sessions, oldest first.

    Only the recent events of a user are kept: older sessions are gone, and of a longer one the newest events
    count.

    >>> recent = [RecentEvent(0.0, 2, 7, 1.0, "view"), RecentEvent(60.0, 4, 8, 1.0, "view")]
    >>> recent.append(RecentEvent(4000.0, 6, 7, 1.0, "like"))
    >>> [(s.start, s.end, s.events, s.items) for s in sessions_of(recent, 1800.0)]
    [(0.0, 60.0, 2, (7, 8)), (4000.0, 4000.0, 1, (7,))]
    """
    runs: list[list[RecentEvent]] = []
    for entry in recent:
        if not runs or entry.ts - runs[-1][-1].ts > gap_s:
            runs.append([])
        runs[-1].append(entry)
    return [_session(run) for run in runs]


def _session(run: list[RecentEvent]) -> Session:
    digests = {entry.digest & ~1 for entry in run}  # a comment has two entries: its item and its words
    actions: dict[str, int] = {}
    counted: set[int] = set()
    for entry in run:
        if entry.digest & ~1 not in counted:
            counted.add(entry.digest & ~1)
            actions[entry.action] = actions.get(entry.action, 0) + 1
    items = tuple(dict.fromkeys(entry.item for entry in run if entry.item != NO_ITEM))
    return Session(run[0].ts, run[-1].ts, len(digests), actions, items)
