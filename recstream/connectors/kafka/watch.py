"""Notices that topics have more partitions, or are not those any more that are read: a new start is due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final

from typing_extensions import Self, override

from recstream.connectors.base import PartitionWatch
from recstream.connectors.kafka.admin import Topic, topics
from recstream.connectors.kafka.client import KafkaFault

__all__ = ["TopicWatch"]

_log = logging.getLogger(__name__)

_FIRST_S: Final = 1.0
"""Pace until the first answer."""
_WAIT_S: Final = 2.0


class TopicWatch(PartitionWatch):
    """Looks at the partitions of some topics again and again, in a thread of its own, within ``with``.

    A cluster out of reach is asked again at the next turn. A topic that lacks is looked for twice: a broker
    that has just started may not know all of them. Consumers notice neither that a topic is deleted nor that
    it is made again under its name.
    """

    def __init__(
        self,
        bootstrap: str,
        names: Sequence[str],
        *,
        every_s: float,
        client: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._names = list(names)
        self._client = client
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._wake = threading.Event()
        self._over = False
        self._lock = threading.Lock()
        self._is_due = True
        self._read: dict[str, Topic] = {}
        self._found: dict[str, Topic] = {}
        self._missed: dict[str, int] = {}
        self._is_away = False
        self._thread = threading.Thread(target=self._watch, name="recstream-partitions", daemon=True)

    @override
    def __enter__(self) -> Self:
        self._thread.start()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._wake.set()
        self._thread.join(1.0)  # one that waits for an answer is left behind

    @override
    def begin(self, stopping: Callable[[], bool]) -> None:
        """Take what there is now for what will be read; call it before the reading begins.

        Waits two seconds for an answer at most, and not once ``stopping()``. Without one what was read before
        stands, or else the first answer to come.
        """
        with self._lock:
            self._is_due = True
        self._wake.set()
        deadline = time.monotonic() + _WAIT_S
        while self._is_due and time.monotonic() < deadline and not stopping():
            time.sleep(0.01)

    @override
    def grown(self) -> str:
        with self._lock:
            for name, read in self._read.items():
                topic = self._found.get(name)
                if topic is None:
                    if self._missed[name] > 1:
                        return f"topic {name} is gone"
                    continue
                if topic.id != read.id:
                    return f"topic {name} was made again"
                was, now = len(read.partitions), len(topic.partitions)
                if was < now:
                    return f"topic {name} has {now} partitions, of which {was} are read"
        return ""

    def _watch(self) -> None:
        while not self._over:
            self._wake.clear()
            self._look()
            self._wake.wait(self._every_s if self._read else _FIRST_S)

    def _look(self) -> None:
        try:
            found = topics(self._bootstrap, self._names, client=self._client, timeout_s=self._timeout_s)
        except KafkaFault as fault:
            if not self._is_away:
                _log.warning("partitions of %s not looked at: %s", self._names, fault)
            self._is_away = True
            self._is_due = not self._read
            return
        self._is_away = False
        with self._lock:
            self._found = found
            self._missed = {name: self._missed.get(name, 0) + 1 for name in self._names if name not in found}
            if self._is_due:
                self._read, self._is_due = found, False
