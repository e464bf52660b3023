"""Offset ranges: what was read is absorbed, what was not is not, in whatever pieces a log is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recstream.users.offset_ranges import (
    MAX_PARTITIONS,
    MAX_RANGES,
    OffsetRanges,
    absorb,
    is_absorbed,
    keep_newest_partitions,
)

END = 40
pieces = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)).map(sorted), max_size=8)
"""Parts of a log, in the order in which they are replayed."""


def replay(ranges: list[int], mine: set[int], first: int, stop: int, since: int) -> list[int]:
    """Read a part of the log; gives the offsets that were not absorbed before."""
    applied = []
    for offset in range(first, stop):
        if offset in mine and not is_absorbed(ranges, offset):
            absorb(ranges, offset, since)
            applied.append(offset)
    return applied


@given(st.sets(st.integers(0, END - 1)), pieces)
def test_each_event_counts_once_in_whatever_pieces_a_log_is_replayed(
    mine: set[int], pieces: list[list[int]]
) -> None:
    ranges: list[int] = []
    read: set[int] = set()
    for first, stop in pieces:
        part = {offset for offset in mine if first <= offset < stop}
        assert set(replay(ranges, mine, first, stop, since=first)) == part - read
        read |= part
    assert {offset for offset in mine if is_absorbed(ranges, offset)} == read
    assert ranges == sorted(ranges)


@given(st.sets(st.integers(0, END - 1)), st.integers(0, END), st.lists(st.integers(0, END), max_size=6))
def test_a_run_that_goes_on_after_restarts_needs_one_range(
    mine: set[int], since: int, restarts: list[int]
) -> None:
    ranges: list[int] = []
    position = since
    for stop in sorted(max(stop, since) for stop in restarts):
        replay(ranges, mine, max(since, position - 3), stop, since)  # a crash has the last ones read again
        position = stop
    assert len(ranges) <= 2
    assert {offset for offset in mine if is_absorbed(ranges, offset)} == {
        offset for offset in mine if since <= offset < position
    }


def test_an_offset_beyond_the_only_range_is_not_absorbed() -> None:
    assert not is_absorbed([], 0)
    assert [is_absorbed([5, 7], offset) for offset in (4, 5, 6, 7, 8)] == [False, True, True, True, False]


def test_ranges_are_bounded_and_the_oldest_are_joined() -> None:
    ranges: list[int] = []
    for offset in range(0, 10 * MAX_RANGES, 5):
        absorb(ranges, offset, since=offset)
    assert len(ranges) == 2 * MAX_RANGES
    assert ranges[0] == 0
    assert ranges[-2:] == [10 * MAX_RANGES - 5] * 2


def test_the_partitions_kept_are_bounded_and_the_first_go() -> None:
    offset_ranges: OffsetRanges = {f"log{number}": [0, 1] for number in range(MAX_PARTITIONS + 2)}
    keep_newest_partitions(offset_ranges)
    assert len(offset_ranges) == MAX_PARTITIONS
    assert next(iter(offset_ranges)) == "log2"
