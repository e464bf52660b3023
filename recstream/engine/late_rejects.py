"""Why a record that is sound is rejected after all: its item is not known, or its text cannot be encoded."""

from __future__ import annotations

from recstream.core.events import Event
from recstream.core.fields import describe
from recstream.core.items import Item
from recstream.core.rejects import Reject

__all__ = ["too_many_waiting", "unencodable", "unknown_item"]


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


def unencodable(record: Event | Item, field: str, text: str, why: str) -> Reject:
    """Reject a record with a text, at ``field``, that the encoder cannot encode, and says ``why``."""
    detail = (
        f"{field}: got {describe(text)}, wanted a text that the encoder can encode ({why}); shorten or mend "
        "it at the producer, or change the encoder's limit (a server's, or encoder.max_tokens), then replay "
        "this record (recstream deadletter replay)"
    )
    return Reject("unencodable", detail, record.partition, record.offset, record.raw)
