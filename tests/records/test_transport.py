"""The spread of ids over shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.records.transport import shard_key, shard_of

FAMILIES: dict[str, Callable[[int], str]] = {
    "numbers": str,
    "prefixed": "user-{}".format,
    "padded": "{:012d}".format,
    "mails": "p{}@example.org".format,
    "uuids": lambda i: str(UUID(int=i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)),
    "hex": "{:x}".format,
}


@given(st.text(st.characters()), st.integers(1, 4096))
def test_every_id_has_a_shard_within_range(id_: str, shards: int) -> None:
    assert 0 <= shard_of(id_, shards) < shards


def test_shards_never_change() -> None:
    """A store made years ago depends on these numbers."""
    assert [shard_of(id_, 32) for id_ in ("", "u1", "42", "ünal", "💥", "x" * 512)] == [
        0,
        18,
        28,
        30,
        23,
        3,
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shards", [7, 32, 100])
def test_ids_spread_evenly(family: str, shards: int) -> None:
    n = 1000 * shards
    counts = Counter(shard_of(FAMILIES[family](i), shards) for i in range(n))
    assert len(counts) == shards
    assert 800 < min(counts.values())
    assert max(counts.values()) < 1200


@pytest.mark.parametrize("partitions", [8, 12, 32])
def test_users_of_one_kafka_partition_still_spread(partitions: int) -> None:
    ids = (f"u{i}" for i in range(64_000 * partitions // 8))
    one = [id_ for id_ in ids if crc32(id_.encode()) % partitions == 3]
    counts = Counter(shard_of(id_, 32) for id_ in one)
    mean = len(one) / 32
    assert len(counts) == 32
    assert 0.6 * mean < min(counts.values())
    assert max(counts.values()) < 1.4 * mean


def test_keys_sort_like_their_shards_below_a_hundred() -> None:
    keys = [shard_key(shard) for shard in range(100)]
    assert keys == sorted(keys)
    assert len({shard_key(shard) for shard in range(5000)}) == 5000
