"""Which barriers have surely committed, so that output need not be kept for sending it again."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Commits"]


class Commits:
    """Numbers barriers, in this run and over restarts, and knows which of them have committed.

    Bytewax reads nothing of an epoch before all of the earlier ones is done, their commit included; so when
    a second barrier is reached, the first is long committed. Of the run before, bytewax itself says
    which barrier was the last to commit: its number is the snapshot that a shard is resumed from.

    >>> commits = Commits(now=lambda: 1.0)
    >>> first = commits.open()
    >>> commits.close() == first, commits.is_confirmed(first, shard=0)
    (True, False)
    >>> _ = commits.open(), commits.close(), commits.open()
    >>> commits.is_confirmed(first, shard=0)
    True
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._number = self._first = int(now() * 1e9)
        self._is_open = True
        self._has_output = False
        self._closed = [-1, -1]
        self._resumed: dict[int | None, int] = {}

    def resume(self, shard: int | None, barrier: int) -> None:
        """Note the last barrier that an earlier run committed for a shard (None: for all of them)."""
        self._resumed[shard] = barrier
        if barrier >= self._number:  # the clock was set back in between
            self._number = barrier + 1
            if not self._has_output:
                self._first = self._number

    def open(self) -> int:
        """Give the number of the barrier that commits what is made now."""
        if not self._is_open:
            self._number = max(self._number + 1, int(self._now() * 1e9))
            self._is_open = True
        self._has_output = True
        return self._number

    def close(self) -> int:
        """The barrier is reached; gives its number, the same to all shards that reach it."""
        if self._is_open:
            self._is_open = False
            self._closed = [self._closed[-1], self._number]
        return self._number

    @property
    def confirmed(self) -> int:
        """Greatest number of this run that has surely committed, -1 without one."""
        return self._closed[0]

    def is_confirmed(self, barrier: int, shard: int) -> bool:
        """Whether the output made before a barrier is known to have left."""
        if barrier >= self._first:
            return barrier <= self.confirmed
        return barrier <= max(self._resumed.get(shard, -1), self._resumed.get(None, -1))
