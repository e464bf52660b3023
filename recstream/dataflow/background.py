"""Writes that no event waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

__all__ = ["Background", "Later", "Work", "at_once"]

Work: TypeAlias = Callable[[], object]
Later: TypeAlias = Callable[[Work], None]
"""Has a piece of work done, now or soon."""


def at_once(work: Work) -> None:
    """Do it now: the `Later` of whoever needs the result."""
    work()


class Background:
    """Does what may be late, such as statistics and compaction, in a thread of its own, in order.

    What fails there is raised in the worker's thread by the next `check` or `wait`, and so stops the epoch as
    if it had failed at the barrier.

    >>> background, done = Background(), []
    >>> background.run(lambda: done.append(1))
    >>> background.wait()
    >>> done, background.is_idle
    ([1], True)
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._under_way: list[Future[object]] = []

    @property
    def is_idle(self) -> bool:
        """Whether all is done."""
        return all(work.done() for work in self._under_way)

    def run(self, work: Work) -> None:
        """Have it done after what was given before."""
        self._under_way.append(self._thread.submit(work))

    def check(self) -> None:
        """Raise what failed, if anything did."""
        while self._under_way and self._under_way[0].done():
            self._under_way.pop(0).result()

    def wait(self) -> None:
        """Return when all is done.

        Raises:
            Exception: what failed.
        """
        while self._under_way:
            self._under_way.pop(0).result()
