"""Stores in memory keep what was called last, and no more than that."""

from __future__ import annotations

from recstream.stores.memory import MemoryUserStore


def test_the_newest_calls_are_kept_and_those_long_ago_are_not() -> None:
    store = MemoryUserStore(dim=1)
    for n in range(5_000):
        store.fetch([f"u{n}"])
    assert store.calls[-1000:] == [("fetch", (f"u{n}",)) for n in range(4_000, 5_000)]
    assert len(store.calls) <= 2_000
