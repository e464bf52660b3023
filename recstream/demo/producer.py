"""Producer of the demo's records: films, ratings at a steady rate, and a few faulty records among them."""

from __future__ import annotations

import threading
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from recstream.demo.movielens import Film, Rating

if TYPE_CHECKING:
    from recstream.connectors import EmbeddedBroker

__all__ = ["EventSender", "OutgoingRecord", "send_films", "with_faulty_records"]

_TICK_S: Final = 0.005
"""Pause between looks at the clock."""
_MAX_BEHIND_S: Final = 1.0
"""The sender pauses while the dataflow is this far behind, so that no queue adds to the latency."""


class OutgoingRecord(NamedTuple):
    """Record to send to the topic of events."""

    key: str
    value: bytes
    rating: Rating | None
    """The rating it was made from; None for a faulty record."""
    is_good: bool
    """Whether it must lead to a list."""


def send_films(broker: EmbeddedBroker, topic: str, films: Mapping[str, Film]) -> None:
    """Send every film as an item record, keyed by its id."""
    out = broker.producer()
    for film in films.values():
        out.produce(topic, key=film.item_id, value=orjson.dumps(film.record()))
    if out.flush(30.0):
        msg = f"the broker at {broker.bootstrap} did not take all films within 30 s"
        raise TimeoutError(msg)


def with_faulty_records(ratings: Sequence[Rating], now: float) -> list[OutgoingRecord]:
    """The ratings as event records, with seven faulty ones spread among them (``now``: Unix seconds).

    Six become dead letters, each for another reason; the seventh is a duplicate of a rating.
    """
    records = [OutgoingRecord(r.user_id, orjson.dumps(r.record()), r, True) for r in ratings]
    if not ratings:
        return records
    places = [
        len(ratings) * k // 8 for k in range(7, 0, -1)
    ]  # from the end, so that inserting moves no later place
    for number, place in enumerate(places):
        rating = ratings[place]
        records.insert(place + 1, OutgoingRecord(rating.user_id, _faulty(number, rating, now), None, False))
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


class EventSender:
    """Sends records in their order at a steady rate from a thread of its own, and records when.

    The topic starts empty and has one writer, so a record's offset is its number within its partition. The
    time of sending is therefore known by offset before the list can arrive. Delivery reports are checked
    against these offsets.
    """

    def __init__(self, broker: EmbeddedBroker, topic: str, partitions: int, *, follow: str) -> None:
        self._producer = broker.producer()
        self._topic = topic
        self._follow = follow
        self.sent_at = [array("d") for _ in range(partitions)]
        """Time of sending (monotonic seconds), by partition and offset."""
        self.sent = 0
        self.last_good: dict[str, tuple[int, int]] = {}
        """Partition and offset of each user's last event that a list must reflect."""
        self.just_rated: list[Rating] = []
        """Ratings of the followed user that were sent, oldest first."""
        self.held_s = 0.0
        """Seconds spent waiting for the job to catch up."""
        self.fault: BaseException | None = None
        self._undelivered = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, records: Iterable[OutgoingRecord], rate: float, behind: Callable[[], int]) -> None:
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
        """Whether there are records left to send."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Stop sending; records on their way may be lost."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def send(self, record: OutgoingRecord) -> tuple[int, int]:
        """Send one record; gives its partition and offset."""
        partition = zlib.crc32(record.key.encode()) % len(self.sent_at)  # as its client would choose
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
        """Wait until the broker has confirmed every record."""
        self._producer.flush(30.0)
        if self._undelivered and not self._stop.is_set():
            msg = f"the broker did not confirm {self._undelivered} events within 30 s"
            raise TimeoutError(msg)

    def _pace(self, records: Iterable[OutgoingRecord], rate: float, behind: Callable[[], int]) -> None:
        waiting = iter(records)
        due, last = 0.0, time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if behind() > max(50.0, rate * _MAX_BEHIND_S):
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
