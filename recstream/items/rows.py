"""Items and their statistics as stored."""

from __future__ import annotations

from typing import NamedTuple

from recstream.records.arrays import Vector

__all__ = ["ItemRow", "StatisticsRow"]


class ItemRow(NamedTuple):
    """One item as stored and as replicas read it."""

    item_id: str
    title: str
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    published_at: float | None
    available: bool
    deleted: bool
    """A deleted item stays as a tombstone, so that replicas learn of it."""
    text_hash: str
    """Digest of the encoder's input: an unchanged text is not encoded again."""
    vector: Vector
    """Unit vector of the encoder's input; zeros for a tombstone."""
    seq: int
    """Grows with every write of any process (time of the write in ns): replicas read what is newer."""
    terms: bytes = b""
    """Lexical terms as `recstream.items.terms.pack` writes them; ``b""`` when they are not known, as of a
    tombstone, and of an item that was stored before layout 3 and not loaded again since."""


class StatisticsRow(NamedTuple):
    """What was learned across users about one item."""

    item_id: str
    shard: int
    seq: int
    """As for items."""
    tick: float
    """Stream position (events counted) at which the decayed counts hold."""
    counts: tuple[float, ...]
    """Decayed and all-time counts, one a scale."""
    state: bytes
    """Bounded neighbour lists, encoded (its first byte is the codec's version)."""
