"""How lists of idle users are kept fresh."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IdleRefreshRules"]


@dataclass(frozen=True, slots=True)
class IdleRefreshRules:
    """Whose lists are made again while nothing comes of their users, and how many."""

    active_s: float = 30 * 86400.0
    """Users are left alone once their last event was read longer ago than this; where a log is worked off
    event by event: once it happened longer ago, by event time, than the newest event of the log."""
    after_events: float = 20.0
    """Events of the whole stream after which a list may be made again; doubled for a user each time that
    their list came out as it was."""
    lists_per_s: float = 50.0
    """Most lists made a second, by each worker."""
    items_per_s: int = 20
    """Most new items a second whose users are searched for, by each worker: the newest; 0: none."""
    item_users: int = 50
    """Users searched for a new item."""
    lists_per_event: float = 1.0
    """Lists made for each event of a log that is worked off event by event, in place of ``lists_per_s``."""
