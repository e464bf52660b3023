"""Work that no event waits for, such as writes of statistics and compaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias

__all__ = ["AFTER_BARRIER_S", "SLICE_S", "Background", "Later", "Work", "at_once"]

SLICE_S: Final = 0.002
"""Seconds of work done together in the worker's thread that can wait: an event that comes meanwhile does."""

AFTER_BARRIER_S: Final = 0.05
"""Seconds after a barrier in which nothing is done that can wait: events came meanwhile, and wait for it."""

Work: TypeAlias = Callable[[], object]
Later: TypeAlias = Callable[[Work], None]
"""Takes a piece of work and does it, now or soon."""


def at_once(work: Work) -> None:
    """Do the work now: the `Later` of a caller that needs the result."""
    work()


class Background:
    """Does pieces of work in a thread of its own, in order.

    An error of theirs is raised in the worker's thread by the next `check` or `wait`, and so stops the epoch
    as if it had happened at the barrier.

    >>> background, done = Background(), []
    >>> background.run(lambda: done.append(1))
    >>> background.wait()
    >>> done, background.is_idle
    ([1], True)
    """

    def __init__(self) -> None:
        self._is_awaited = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._under_way: list[Future[object]] = []

    @property
    def is_idle(self) -> bool:
        """Whether all work is done."""
        return all(work.done() for work in self._under_way)

    def run(self, work: Work) -> None:
        """Have the work done after that given before."""
        self._under_way.append(self._thread.submit(work))

    def run_after_barrier(self, work: Work) -> None:
        """As `run`, when the events that a barrier has held up should have their lists, or somebody waits."""

        def later() -> None:
            self._is_awaited.wait(2 * AFTER_BARRIER_S)
            work()

        self.run(later)

    def check(self) -> None:
        """Raise the error of work that has failed, if any has."""
        while self._under_way and self._under_way[0].done():
            self._under_way.pop(0).result()

    def wait(self) -> None:
        """Return when all work is done.

        Raises:
            Exception: the error of work that has failed.
        """
        self._is_awaited.set()
        try:
            while self._under_way:
                self._under_way.pop(0).result()
        finally:
            self._is_awaited.clear()
