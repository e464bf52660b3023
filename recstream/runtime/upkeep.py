"""Upkeep of a store by the clock: also while no events come, and so no barrier would begin it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final

from typing_extensions import Self

__all__ = ["UpkeepThread"]

_EVERY_S: Final = 5.0


class UpkeepThread:
    """Calls ``maintain`` every few seconds in a thread of its own, within ``with``.

    The end waits for the call that is under way. ``fail`` is called with what one raised.
    """

    def __init__(
        self,
        maintain: Callable[[], object],
        fail: Callable[[BaseException], object],
        *,
        every_s: float = _EVERY_S,
    ) -> None:
        self._maintain = maintain
        self._fail = fail
        self._every_s = every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                self._maintain()
            except BaseException as error:
                self._fail(error)
                return
