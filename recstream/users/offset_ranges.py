"""Fences: which offsets of a log a user's state has absorbed, as ranges that grow while the log is read.

A range is two numbers in a flat, growing list: ``[3, 9, 20, 20]`` says that of the offsets 3 to 9, and of 20,
every one that concerns the user has been absorbed. One range is the rule. More come of reading a log in
pieces out of order: its end live and its beginning replayed later.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, TypeAlias

__all__ = [
    "LOGS_MOST",
    "RANGES_MOST",
    "OffsetRanges",
    "absorb",
    "cut_after",
    "is_absorbed",
    "keep_newest_logs",
]

OffsetRanges: TypeAlias = dict[str, list[int]]
"""Ranges by the identity of their partition."""
RANGES_MOST: Final = 64
"""Ranges kept a partition; beyond, the two oldest become one, with all that lies between."""
LOGS_MOST: Final = 1000
"""Partitions kept a user: those of a topic, and of every log replayed; the longest unread goes first."""


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
    """Take an offset in, in place; it must not be absorbed yet.

    ``since`` is where the unbroken run began that reads it. A range that reaches there is continued, for
    nothing between its end and this offset was left unread. Otherwise a new range begins at ``since``: the
    offset may be the first there that concerns the user, or they were erased meanwhile.

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
    if len(ranges) > 2 * RANGES_MOST:
        del ranges[1:3]


def cut_after(ranges: list[int], offset: int) -> None:
    """Forget, in place, that anything beyond an offset was absorbed; the offset itself is in no range.

    >>> ranges = [0, 9, 600, 700]
    >>> cut_after(ranges, 12)
    >>> ranges
    [0, 9]
    """
    del ranges[bisect_right(ranges, offset) :]


def keep_newest_logs(offset_ranges: OffsetRanges) -> None:
    """Hold a fence to `LOGS_MOST` partitions, in place; those that were added first go."""
    while len(offset_ranges) > LOGS_MOST:
        del offset_ranges[next(iter(offset_ranges))]
