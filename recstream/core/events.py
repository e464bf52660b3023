"""Events: what a user did, decoded and checked."""

from __future__ import annotations

from typing import NamedTuple

from recstream.core.arrays import Vector
from recstream.core.items import Item
from recstream.core.source import Partition

__all__ = ["Event"]


class Event(NamedTuple):
    """One accepted event (DESIGN section 2)."""

    user_id: str
    ts: float
    """Event time, Unix seconds (UTC)."""
    action: str
    item_id: str | None
    text: str | None
    """Cleaned search query, comment or review."""
    rating: float | None
    event_id: str | None
    item: Item | None
    """A whole item record carried by the event, for sources without a catalogue topic."""
    rec: tuple[int, int] | None
    """``(version, rank)`` when the event answers a list we emitted."""
    partition: Partition
    offset: int
    raw: bytes
    """The record as read: kept so that a reject after decoding loses nothing."""
    vector: Vector | None = None
    """Encoded ``text``, filled by the encode step."""
