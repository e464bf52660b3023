"""Offset ranges: which offsets of a partition a user's state has absorbed.

A range is two numbers in a flat, growing list. ``[3, 9, 20, 20]`` says that the events at the offsets 3 to 9
and 20 have been absorbed, as far as they concern the user. One range is the rule. Several come of a partition
that is read in pieces out of order: its end live, its beginning replayed later.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, TypeAlias

__all__ = [
    "MAX_PARTITIONS",
    "MAX_RANGES",
    "OffsetRanges",
    "absorb",
    "cut_after",
    "is_absorbed",
    "keep_newest_partitions",
]

OffsetRanges: TypeAlias = dict[str, list[int]]
"""Ranges by partition identity."""
MAX_RANGES: Final = 64
"""Most ranges kept a partition. Beyond it the two oldest become one, with all that lies between them."""
MAX_PARTITIONS: Final = 1000
"""Most partitions kept a user: those of a topic, and of every log replayed. Beyond it the one that was added
first is forgotten."""


def is_absorbed(ranges: list[int], offset: int) -> bool:
    """Whether an offset lies in one of the ranges.

    >>> [offset for offset in range(12) if is_absorbed([3, 5, 9, 9], offset)]
    [3, 4, 5, 9]
    """
    if not ranges or offset > ranges[-1]:
        return False
    if offset >= ranges[-2]:
        return True
    at = bisect_right(ranges, offset)
    return at % 2 == 1 or (at > 0 and ranges[at - 1] == offset)


def absorb(ranges: list[int], offset: int, since: int) -> None:
    """Add an offset that is in no range yet, in place.

    ``since`` is the first offset of the unbroken run that reads it. A range that ends there, or later, is
    continued, for nothing between its end and this offset was left out. Otherwise a new range begins at
    ``since``: the offset is the first since then that concerns the user, or the user was erased meanwhile.

    >>> live: list[int] = []
    >>> for offset in (700, 705):  # a run that began at 600
    ...     absorb(live, offset, 600)
    >>> for offset in (10, 35):  # later, the log from its beginning
    ...     absorb(live, offset, 0)
    >>> live
    [0, 35, 600, 705]
    """
    at = bisect_right(ranges, offset)
    if at and ranges[at - 1] >= since - 1:
        ranges[at - 1] = offset
        return
    ranges[at:at] = (since, offset)
    if len(ranges) > 2 * MAX_RANGES:
        del ranges[1:3]


def cut_after(ranges: list[int], offset: int) -> None:
    """Drop, in place, what was absorbed beyond an offset that is itself in no range.

    >>> ranges = [0, 9, 600, 700]
    >>> cut_after(ranges, 12)
    >>> ranges
    [0, 9]
    """
    del ranges[bisect_right(ranges, offset) :]


def keep_newest_partitions(offset_ranges: OffsetRanges) -> None:
    """Drop, in place, the partitions beyond `MAX_PARTITIONS` that were added first."""
    while len(offset_ranges) > MAX_PARTITIONS:
        del offset_ranges[next(iter(offset_ranges))]
