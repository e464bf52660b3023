"""Why an event whose record is sound is rejected after all: its item is not known."""

from __future__ import annotations

from recstream.core.events import Event
from recstream.core.rejects import Reject

__all__ = ["too_many_waiting", "unknown_item"]


def unknown_item(event: Event, wait_s: float) -> Reject:
    """Reject an event whose item is not known and, after ``wait_s`` seconds, still was not."""
    detail = (
        f"item {event.item_id!r} is not in the catalogue and did not arrive within {wait_s:g} s: send its "
        "record to the items topic, or load it (recstream catalogue load), then replay this event"
    )
    return Reject("unknown_item", detail, event.partition, event.offset, event.raw)


def too_many_waiting(event: Event, most: int) -> Reject:
    """Reject an event of a user of whom ``most`` events wait already."""
    detail = (
        f"item {event.item_id!r} is not known and {most} events of user {event.user_id!r} wait for items "
        "already: load the items first (recstream catalogue load), or raise events.max_waiting, then "
        "replay this event"
    )
    return Reject("too_many_waiting", detail, event.partition, event.offset, event.raw)
