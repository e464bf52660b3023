"""What a process does by the clock: also while no events come, and so nothing else would begin it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from typing_extensions import Self

__all__ = ["PeriodicCall"]


class PeriodicCall:
    """Calls ``call`` every ``every_s`` seconds in a thread of its own, within ``with``.

    The end waits for the call that is under way, for ``end_s`` seconds at most where it is given: one that
    takes longer is left behind. ``fail`` is called with what one raised, and no other call follows.
    """

    def __init__(
        self,
        name: str,
        call: Callable[[], object],
        fail: Callable[[BaseException], object],
        *,
        every_s: float,
        end_s: float | None = None,
    ) -> None:
        self._call = call
        self._fail = fail
        self._every_s = every_s
        self._end_s = end_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(self._end_s)

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                self._call()
            except BaseException as error:
                self._fail(error)
                return
