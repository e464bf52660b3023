"""How records travel: partitions, batches of raw bytes, messages, and the shards of the dataflow."""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

__all__ = ["Message", "Partition", "RawBatch", "shard_key", "shard_of"]


class Partition(NamedTuple):
    """One ordered log of records: a partition of a topic, or a file.

    >>> Partition("events/3", "events/3@9f8c2d11").name
    'events/3'
    """

    name: str
    """Name for people and records (``as_of.partition``): ``"events/3"``, ``"events.jsonl.gz"``."""
    identity: str
    """Key of offset ranges: the name with the topic's id or the file's fingerprint, so that a re-created
    topic is not taken for one whose events were absorbed already."""
    since: int = 0
    """First offset of the unbroken run that reads the partition. No offset after it was left out, over all
    restarts."""


class RawBatch(NamedTuple):
    """Consecutive records of one partition that are not decoded yet. Offsets grow strictly.

    >>> RawBatch(Partition("f", "f@1"), [4, 5], [b"{}", b"[]"]).offsets
    [4, 5]
    """

    partition: Partition
    offsets: list[int]
    """Position of each record; for a file, its line (blank lines not counted) from 0."""
    values: list[bytes]
    """The records' bytes. A tombstone (null value) is ``b""``."""
    tombstones: dict[int, bytes | None] = {}  # noqa: RUF012 - a named tuple's default, never changed
    """Keys of the records with a null value, by their offset. None: it has no key either."""


class Message(NamedTuple):
    """One message for an output topic. A null ``value`` is a tombstone: it deletes the key's last record.

    >>> Message(b"u1", None).headers
    ()
    """

    key: bytes | None
    """Decides the partition, so that messages of one key stay in order. None spreads over the partitions."""
    value: bytes | None
    """The record's bytes, or None for a tombstone."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """Names may repeat; their order is kept."""


def shard_of(id: str, shards: int) -> int:  # noqa: A002 - the domain's own word
    """Give the shard of an id: the same on every machine, Python and run, for one number of shards.

    CRC-32, then a multiplicative mix of which the high bits count. Clients of message brokers choose
    partitions by the low bits of CRC-32: without the mix the users of one would crowd into few shards.

    >>> [shard_of(name, 32) for name in ("u1", "u2", "ünal")]
    [18, 13, 30]
    """
    mixed = crc32(id.encode("utf-8", "surrogatepass")) * 0x9E3779B1 & 0xFFFFFFFF
    return mixed * shards >> 32


def shard_key(shard: int) -> str:
    """Name a shard as the dataflow's key.

    >>> shard_key(7), shard_key(131)
    ('s07', 's131')
    """
    return f"s{shard:02d}"
