"""Whether a process of the live job is alive, and whether it is at work: what probes ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Health"]

_SHOWN: Final = 3
"""Troubles that a reason names; of the others it tells how many there are."""
_COMPUTING: Final = 0.2
"""Cores that a process keeps busy which computes; one that hangs has threads that do next to nothing."""
_COMPUTING_TIMES: Final = 10
"""How many times as long a turn may take then."""


class Health:
    """Told by those who read, work and write, from any thread; asked by probes. A reason is empty when well.

    * *Alive*: the worker's loop has turned within ``stalled_after_s``, ten times that while the process
      computes: a model may take minutes for many new texts. Places that give no answer are no reason to start
      the process again, so whoever waits for one says so (`report`).
    * *Ready*: it is also reading, everything can be read and written, and epochs are closed: the newest is at
      most ``epoch_late_s`` old. It is not while ``is_stopping()``, which is asked once the loop has turned.

    ``cpu`` gives the seconds that all threads of the process have computed.

    >>> clock = [0.0]
    >>> health = Health(stalled_after_s=60, epoch_late_s=30, now=lambda: clock[0])
    >>> health.why_dead(), health.why_not_ready()
    ('', 'starting: nothing is read yet')
    >>> health.turned()
    >>> health.report("topic 'lists'", "no broker answers")
    >>> health.why_not_ready()
    "topic 'lists': no broker answers"
    >>> health.report("topic 'lists'", "")
    >>> clock[0] = 31.0
    >>> health.why_not_ready(), health.why_dead()
    ('the last epoch was closed 31 s ago', '')
    """

    def __init__(
        self,
        *,
        stalled_after_s: float,
        epoch_late_s: float,
        is_stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._stalled_after_s = stalled_after_s
        self._epoch_late_s = epoch_late_s
        self._is_stopping = is_stopping
        self._now = now
        self._cpu = cpu
        self._turned: float | None = None
        self._epoch = 0.0
        self._troubles: dict[str, str] = {}
        self._seen = (0.0, 0.0, 0.0)
        """The last turn that a probe has seen; when it first saw it, and what was computed until then."""

    def turned(self) -> None:
        """Note that the worker's loop has turned."""
        if self._turned is None:
            self._epoch = self._now()
        self._turned = self._now()

    def closed_epoch(self) -> None:
        """Note that an epoch was closed."""
        self._epoch = self._now()

    def report(self, place: str, trouble: str) -> None:
        """Note that a place cannot be read or written, or (empty) that it can. Whoever says so is alive."""
        if trouble:
            self._troubles[place] = trouble
        else:
            self._troubles.pop(place, None)
        if self._turned is not None:
            self._turned = self._now()

    def why_dead(self) -> str:
        """Give the reason to start the process again."""
        turned, now, cpu = self._turned, self._now(), self._cpu()
        if turned is None:
            return ""
        if turned != self._seen[0]:
            self._seen = (turned, now, cpu)
        _, since, computed = self._seen
        computes = cpu - computed > _COMPUTING * (now - since)
        limit_s = self._stalled_after_s * (_COMPUTING_TIMES if computes else 1)
        return f"the worker's loop has not turned for {now - turned:.0f} s" if now - turned > limit_s else ""

    def why_not_ready(self) -> str:
        """Give the reason why no new lists are to be expected."""
        troubles = self._troubles.copy()
        if troubles:
            shown = [f"{place}: {trouble}" for place, trouble in list(troubles.items())[:_SHOWN]]
            more = [f"and {len(troubles) - _SHOWN} more"] if len(troubles) > _SHOWN else []
            return "; ".join([*shown, *more])
        if self._turned is None:
            return "starting: nothing is read yet"
        if self._is_stopping():
            return "stopping"
        age = self._now() - self._epoch
        return f"the last epoch was closed {age:.0f} s ago" if age > self._epoch_late_s else self.why_dead()
