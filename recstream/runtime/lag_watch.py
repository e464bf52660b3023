"""Looks now and then at how much of what the partitions hold is not read yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final

from typing_extensions import Self

from recstream.connectors.base import ConnectorError, PartitionPosition
from recstream.runtime.positions import PositionsError

__all__ = ["LagWatch"]

_log = logging.getLogger(__name__)
_EVERY_S: Final = 60.0


class LagWatch:
    """Within ``with``, calls ``report`` with each partition's position, again and again, in its own thread.

    Where ``look`` gets no answer, what was reported before stands until the next look.
    """

    def __init__(
        self,
        look: Callable[[], Iterable[PartitionPosition]],
        report: Callable[[PartitionPosition], None],
        *,
        every_s: float = _EVERY_S,
    ) -> None:
        self._look = look
        self._report = report
        self._every_s = every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(1.0)  # one that waits for an answer is left behind

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                for position in self._look():
                    self._report(position)
            except (ConnectorError, PositionsError) as error:
                _log.info("lag not compared with what is held: %s", error)
