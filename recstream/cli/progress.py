"""Progress of long work: a bar in a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

__all__ = ["Reporter"]

_PLAIN_EVERY_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.2


class Reporter:
    """Follows stages of work from a thread of its own, for the work itself holds the main thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._share: Callable[[], float] | None = None
        self._name = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Reporter:
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description:12}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str, share: Callable[[], float] | None) -> None:
        """A stage begins; ``share`` tells how much of it is done, 0 to 1 (None: not known)."""
        self._name, self._share = name, share
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=None if share is None else 1.0)
        else:
            self._console.print(f"{name} ...")

    def _follow(self) -> None:
        begin = told = time.monotonic()
        while not self._ended.wait(_LOOK_EVERY_S):
            share = self._share
            if share is None:
                continue
            done = share()
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=done)
            elif time.monotonic() - told > _PLAIN_EVERY_S:
                told = time.monotonic()
                self._console.print(f"{self._name} {done:.0%} after {told - begin:.0f} s")
