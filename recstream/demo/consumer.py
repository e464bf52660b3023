"""Consumer of lists and dead letters, which measures the latency of every list."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from recstream.connectors.base import ConnectorError

if TYPE_CHECKING:
    from recstream.connectors import EmbeddedBroker

__all__ = ["Latency", "ListConsumer", "latency"]

_WINDOW_S: Final = 5.0
"""Span over which the recent latency is computed."""


class Latency(NamedTuple):
    """Milliseconds from sending an event to receiving the list that reflects it."""

    p50_ms: float
    p99_ms: float
    worst_ms: float

    def __str__(self) -> str:
        """Median and 99th percentile in one line."""
        return f"p50 {self.p50_ms:,.0f} ms, p99 {self.p99_ms:,.0f} ms"


def latency(seconds: Sequence[float]) -> Latency | None:
    """Latency quantiles of these durations; None without any.

    >>> latency([0.001 * k for k in range(1, 101)])
    Latency(p50_ms=51.0, p99_ms=100.0, worst_ms=100.0)
    """
    if not seconds:
        return None
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
    return Latency(round(p50 * 1e3, 1), round(p99 * 1e3, 1), round(ordered[-1] * 1e3, 1))


class ListConsumer:
    """Reads lists and dead letters from the start of their topics, in a thread of its own."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        lists: tuple[str, int],
        dead_letters: str,
        sent_at: Sequence[array[float]],
        follow: str,
    ) -> None:
        self._lists = lists[0]
        self._sent_at = sent_at
        self._follow = follow
        topic, partitions = lists
        numbered = [(topic, number) for number in range(partitions)]
        self._consumer = broker.consumer([*numbered, (dead_letters, 0)])
        self.received = 0
        self.latest: dict[str, bytes] = {}
        """Newest list of each user, as received."""
        self.followed: list[bytes] = []
        """Every list of the followed user."""
        self.reflected: dict[str, tuple[int, int]] = {}
        """Partition and offset of the event in the ``as_of`` of each user's newest list."""
        self.dead_letters: list[bytes] = []
        self.seconds = array("d")
        """Latency of each list."""
        self.fault: BaseException | None = None
        self._high = [-1] * len(sent_at)
        self._recent: deque[tuple[float, float]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="demo-consumer", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; may be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def behind(self) -> int:
        """Number of records sent after the newest one that any list reflects, over all partitions."""
        return sum(len(times) - 1 - high for times, high in zip(self._sent_at, self._high, strict=True))

    def reflects(self, user: str, at: tuple[int, int]) -> bool:
        """Whether the user's newest list reflects the event at this partition and offset."""
        partition, offset = self.reflected.get(user, (-1, -1))
        return partition == at[0] and offset >= at[1]

    def recent_latency(self) -> Latency | None:
        """Latency over the last five seconds."""
        start = time.monotonic() - _WINDOW_S
        return latency([took for at, took in list(self._recent) if at >= start])

    def reasons(self) -> Counter[str]:
        """Number of dead letters by reason."""
        return Counter(str(orjson.loads(record)["reason"]) for record in list(self.dead_letters))

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                message = self._consumer.poll(0.05)
                if message is None:
                    continue
                if message.error() is not None:
                    raise ConnectorError(f"reading {self._lists}: {message.error().str()}")
                if message.topic() == self._lists:
                    self._take(message.value(), time.monotonic())
                else:
                    self.dead_letters.append(message.value())
        except BaseException as err:
            self.fault = err
        finally:
            self._consumer.close()

    def _take(self, value: bytes, now: float) -> None:
        record = orjson.loads(value)
        user, as_of = record["user_id"], record["as_of"]
        partition, offset = int(as_of["partition"].rpartition("/")[2]), as_of["offset"]
        times = self._sent_at[partition]
        if offset < len(times):  # other programs may send events, too (--keep-alive)
            took = now - times[offset]
            self.seconds.append(took)
            self._recent.append((now, took))
        while self._recent and self._recent[0][0] < now - _WINDOW_S:
            self._recent.popleft()
        self._high[partition] = max(self._high[partition], offset)
        self.latest[user] = value
        self.reflected[user] = (partition, offset)
        if user == self._follow:
            self.followed.append(value)
        self.received += 1
