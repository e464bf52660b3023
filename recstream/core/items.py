"""Items: what can be recommended, decoded and checked, and the text the encoder reads."""

from __future__ import annotations

from typing import NamedTuple

from recstream.core.arrays import Vector
from recstream.core.source import Partition

__all__ = ["Item"]


class Item(NamedTuple):
    """One accepted item record (DESIGN section 2)."""

    item_id: str
    title: str
    text: str | None
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    published_at: float | None
    """Unix seconds (UTC)."""
    available: bool
    deleted: bool
    vector: Vector | None
    """A ready vector of the producer's own, or the encoded text once the encode step has run."""
    partition: Partition
    offset: int
    raw: bytes
