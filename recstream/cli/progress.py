"""Progress of long work: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from rich import progress as bars
from rich.console import Console

__all__ = ["Progress"]

_PLAIN_EVERY_S: Final = 5.0
"""Time between two plain lines."""
_LOOK_EVERY_S: Final = 0.2
"""Time between two updates of the bar."""


class Progress:
    """Shows the stages of work and how much of each is done, from a thread of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._share: Callable[[], float] | None = None
        self._name = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._bar: bars.Progress | None = None
        self._task: bars.TaskID | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            columns = (
                bars.TextColumn("{task.description:12}"),
                bars.BarColumn(),
                bars.TaskProgressColumn(),
                bars.TimeElapsedColumn(),
            )
            self._bar = bars.Progress(*columns, console=self._console, transient=True)
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
        """Begin a stage; ``share`` gives how much of it is done, from 0 to 1 (None: not known)."""
        self._name, self._share = name, share
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=None if share is None else 1.0)
        else:
            self._console.print(f"{name} ...")

    def _follow(self) -> None:
        begin = printed_at = time.monotonic()
        while not self._ended.wait(_LOOK_EVERY_S):
            share = self._share
            if share is None:
                continue
            done = share()
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=done)
            elif time.monotonic() - printed_at > _PLAIN_EVERY_S:
                printed_at = time.monotonic()
                self._console.print(f"{self._name} {done:.0%} after {printed_at - begin:.0f} s")
