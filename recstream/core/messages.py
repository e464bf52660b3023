"""What leaves for a topic: one message, whatever carries it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Message"]


class Message(NamedTuple):
    """One message for an output topic. A null ``value`` is a tombstone: it deletes the key's last record.

    >>> Message(b"u1", None).headers
    ()
    """

    key: bytes | None
    """Decides the partition; messages of one key stay in order. None spreads over the partitions."""
    value: bytes | None
    """The record's bytes, or None for a tombstone."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """Names may repeat; their order is kept."""
