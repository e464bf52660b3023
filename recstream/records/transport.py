"""Where a record came from: partitions, offsets, and batches of raw bytes."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Message", "Partition", "RawBatch"]


class Partition(NamedTuple):
    """One ordered log of records: a partition of a topic, or a file.

    >>> Partition("events/3", "events/3@9f8c2d11").name
    'events/3'
    """

    name: str
    """What a reader is shown (``as_of.partition``): ``"events/3"``, ``"events.jsonl.gz"``."""
    identity: str
    """What fences are keyed by: the name plus the topic's id or the file's fingerprint, so that a
    re-created topic is not taken for one whose events were absorbed already."""
    since: int = 0
    """First offset of the unbroken run that reads it: nothing was left out since, restarts included."""


class RawBatch(NamedTuple):
    """Consecutive records of one partition, not decoded yet. Offsets grow strictly.

    >>> RawBatch(Partition("f", "f@1"), [4, 5], [b"{}", b"[]"]).offsets
    [4, 5]
    """

    partition: Partition
    offsets: list[int]
    """Position of each record; for a file, its line (blank lines not counted) from 0."""
    values: list[bytes]
    """The records' bytes. A Kafka tombstone (null value) is ``b""``."""


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
