"""The newest events of a user, as the ring of a profile keeps them."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["NO_ITEM", "Recent"]

NO_ITEM: Final = -1
"""Handle of a ring entry that stands for words (a search, a comment) rather than for an item."""


class Recent(NamedTuple):
    """One entry of the ring of recent events. Its first two fields order the ring, ties included."""

    ts: float
    digest: int
    """64-bit digest of the event's id, or of its content where it has none; odd for an event's words."""
    item: int
    """Catalogue handle, or `NO_ITEM`."""
    weight: float
    action: str
