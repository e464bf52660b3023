"""What goes into the topics: films, ratings at a steady pace, and a few bad records among them."""

from __future__ import annotations

import threading
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from confluent_kafka import Producer

from recstream.connectors.kafka.client import client_config, client_log
from recstream.demo.films import Film, Rating

__all__ = ["Outgoing", "Sender", "producer", "send_films", "with_seasoning"]

_TICK_S: Final = 0.005
_BEHIND_S: Final = 1.0
"""The sender waits when the job is this far behind: a queue would say nothing about latency."""


class Outgoing(NamedTuple):
    """One record for the topic of events."""

    key: str
    value: bytes
    rating: Rating | None
    """None for a record that is not one of the log."""
    is_good: bool
    """Whether a list must come of it."""


def producer(bootstrap: str) -> Any:
    """A producer that hands on at once and is certain of what arrived."""
    settings = client_config(bootstrap, None, linger_ms=5, acks="all", enable_idempotence=True)
    return Producer(settings, logger=client_log)


def send_films(bootstrap: str, topic: str, films: Mapping[str, Film]) -> None:
    """Write every film, keyed by its id."""
    out = producer(bootstrap)
    for film in films.values():
        out.produce(topic, key=film.item_id, value=orjson.dumps(film.record()))
    if out.flush(30.0):
        msg = f"the broker at {bootstrap} did not take all films within 30 s"
        raise TimeoutError(msg)


def with_seasoning(ratings: Sequence[Rating], now: float) -> list[Outgoing]:
    """The log as records, with seven faulty ones spread through it (``now``: Unix seconds).

    Six are to end in the dead letters, each for another reason; the seventh is a rating sent twice.
    """
    records = [Outgoing(r.user_id, orjson.dumps(r.record()), r, True) for r in ratings]
    if not ratings:
        return records
    places = [len(ratings) * k // 8 for k in range(7, 0, -1)]  # from the end: earlier places stay true
    for number, place in enumerate(places):
        rating = ratings[place]
        records.insert(place + 1, Outgoing(rating.user_id, _faulty(number, rating, now), None, False))
    return records


def _faulty(number: int, rating: Rating, now: float) -> bytes:
    good = {**rating.record(), "event_id": f"faulty-{number}"}
    variants: list[bytes | dict[str, object]] = [
        orjson.dumps(good)[:-20],  # cut off
        {**good, "action": "adored"},
        {name: value for name, value in good.items() if name != "user_id"},
        {**good, "item_id": "a-film-nobody-knows"},
        {**good, "ts": now + 86_400.0},
        {**good, "rating": "five"},
        rating.record(),  # the same event again
    ]
    variant = variants[number]
    return variant if isinstance(variant, bytes) else orjson.dumps(variant)


class Sender:
    """Sends records in their order at a steady rate, from a thread of its own; notes when each left.

    A topic starts empty and has one writer, so a record's offset is its number within its partition:
    the time of sending is known before the list can be back. Delivery reports are held against it.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, *, follow: str) -> None:
        self._producer = producer(bootstrap)
        self._topic = topic
        self._follow = follow
        self.sent_at = [array("d") for _ in range(partitions)]
        """Moment of sending (monotonic seconds), by partition and offset."""
        self.sent = 0
        self.last_good: dict[str, tuple[int, int]] = {}
        """Partition and offset of each user's last event that a list must reflect."""
        self.just_rated: list[Rating] = []
        """What the followed user rated, oldest first."""
        self.held_s = 0.0
        """Seconds spent waiting for the job to catch up."""
        self.fault: BaseException | None = None
        self._undelivered = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, records: Iterable[Outgoing], rate: float, behind: Callable[[], int]) -> None:
        """Begin; ``behind()`` tells how many sent records the job has not answered yet."""

        def work() -> None:
            try:
                self._pace(records, rate, behind)
                self.flush()
            except BaseException as err:
                self.fault = err

        self._thread = threading.Thread(target=work, name="demo-sender", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether there is more to send."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Send no more; what is on its way may be lost."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def send(self, record: Outgoing) -> tuple[int, int]:
        """Send one record now; gives its partition and offset."""
        partition = zlib.crc32(record.key.encode()) % len(self.sent_at)  # as librdkafka would choose
        times = self.sent_at[partition]
        offset = len(times)
        if record.is_good:
            self.last_good[record.key] = (partition, offset)
        if record.rating is not None and record.key == self._follow:
            self.just_rated.append(record.rating)

        def report(error: Any, message: Any) -> None:
            self._undelivered -= 1
            if error is not None or message.offset() != offset:
                self.fault = RuntimeError(f"events/{partition}: record {offset} was not delivered: {error}")

        self._undelivered += 1
        times.append(time.monotonic())
        self._producer.produce(
            self._topic, key=record.key, value=record.value, partition=partition, on_delivery=report
        )
        self._producer.poll(0)
        self.sent += 1
        return partition, offset

    def flush(self) -> None:
        """Wait until the broker has everything."""
        self._producer.flush(30.0)
        if self._undelivered and not self._stop.is_set():
            msg = f"the broker did not confirm {self._undelivered} events within 30 s"
            raise TimeoutError(msg)

    def _pace(self, records: Iterable[Outgoing], rate: float, behind: Callable[[], int]) -> None:
        waiting = iter(records)
        due, last = 0.0, time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if behind() > max(50.0, rate * _BEHIND_S):
                self.held_s += now - last
            else:
                due += min((now - last) * rate, rate / 10)  # no burst to make up for a pause
            last = now
            while due >= 1.0:
                record = next(waiting, None)
                if record is None:
                    return
                self.send(record)
                due -= 1.0
            self._producer.poll(_TICK_S)
