"""The cached encoder: what it asks the model, what it remembers, what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.encoders.cached import CachedEncoder, CacheStats, open_cached_encoder
from recstream.encoders.hashing import HashingEncoder
from recstream.records.arrays import Matrix
from tests.support.builders import encoder_spec

SPEC = encoder_spec(backend="hashing", dim=16)


class Recording(HashingEncoder):
    """Remembers the batches it was given."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Matrix:
        self.calls.append(list(texts))
        return super().encode(texts)


def counts(stats: CacheStats) -> tuple[int, ...]:
    return (
        stats.requested,
        stats.lru_hits,
        stats.disk_hits,
        stats.encoded,
        stats.repeats,
        stats.evictions,
    )


def test_each_distinct_text_is_encoded_once() -> None:
    inner = Recording()
    encoder = CachedEncoder(inner, None, 10)
    encoder.encode(["a", "b", "a", "a"])
    encoder.encode(["b", "c"])
    assert inner.calls == [["a", "b"], ["c"]]
    assert counts(encoder.stats()) == (6, 1, 0, 3, 2, 0)
    assert encoder.stats().encode_seconds > 0


def test_disk_answers_what_memory_forgot(tmp_path: Path) -> None:
    first = open_cached_encoder(SPEC, tmp_path, max_mb=16, lru_size=10)
    rows = first.encode(["a", "b"])
    first.close()
    second = open_cached_encoder(SPEC, tmp_path, max_mb=16, lru_size=10)
    np.testing.assert_array_equal(second.encode(["b", "c", "a"])[[2, 0]], rows)
    assert counts(second.stats()) == (3, 0, 2, 1, 0, 0)
    second.close()


def test_the_least_recently_used_goes_first() -> None:
    inner = Recording()
    encoder = CachedEncoder(inner, None, 2)
    for text in ("a", "b", "a", "c", "a", "b"):
        encoder.encode([text])
    assert inner.calls == [["a"], ["b"], ["c"], ["b"]]
    assert encoder.stats().evictions == 2


def test_writing_to_a_row_leaves_the_memory_alone() -> None:
    encoder = CachedEncoder(Recording(), None, 10)
    for _ in range(3):
        rows = encoder.encode(["a", "b"])
        np.testing.assert_array_equal(rows, HashingEncoder(SPEC).encode(["a", "b"]))
        rows[:] = 7


def test_a_function_is_called_at_the_first_need() -> None:
    made: list[Recording] = []

    def make() -> Recording:
        made.append(Recording())
        return made[-1]

    encoder = CachedEncoder(make, None, 10)
    assert made == []
    assert encoder.dim == 16
    encoder.encode(["a"])
    assert len(made) == 1


def test_long_texts_are_told_apart() -> None:
    encoder = CachedEncoder(Recording(), None, 10)
    texts = ["x" * 5000 + " one", "x" * 5000 + " two"]
    encoder.encode(texts)
    np.testing.assert_array_equal(encoder.encode(texts), HashingEncoder(SPEC).encode(texts))
    assert encoder.stats().lru_hits == 2


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([*"abcdefgh", "x" * 200])), max_size=8), st.integers(0, 6))
def test_any_batches_through_any_memory_give_the_encoders_rows(batches: list[list[str]], size: int) -> None:
    inner = Recording()
    encoder = CachedEncoder(inner, None, size)
    for batch in batches:
        np.testing.assert_array_equal(encoder.encode(batch), HashingEncoder(SPEC).encode(batch))
    stats = encoder.stats()
    assert stats.requested == sum(map(len, batches))
    assert stats.requested == stats.lru_hits + stats.encoded + stats.repeats
    assert stats.encoded == sum(map(len, inner.calls))


def test_threads_may_share_it() -> None:
    encoder = CachedEncoder(Recording(), None, 50)
    texts = [f"text {i % 80}" for i in range(400)]
    expected = HashingEncoder(SPEC).encode(texts)

    def work(start: int) -> bool:
        part = slice(start, start + 40)
        return bool(np.array_equal(encoder.encode(texts[part]), expected[part]))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, list(range(0, 400, 20)) * 5))
    assert encoder.stats().requested == 20 * 5 * 40 - 5 * 20
