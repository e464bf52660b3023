"""Shards: the fixed number of groups that users and items are spread over."""

from __future__ import annotations

from zlib import crc32

__all__ = ["shard_key", "shard_of"]


def shard_of(id: str, shards: int) -> int:  # noqa: A002 - the domain's own word
    """Give the shard of an id: the same on every machine, Python and run, for one number of shards.

    CRC-32, then a multiplicative mix of which the high bits count. Kafka clients choose partitions by
    the low bits of CRC-32; without the mix the users of one partition would crowd into few shards.

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
