"""How much the partitions of a source give at once, whatever the client has fetched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from recstream.connectors.base import never, untold
from recstream.connectors.kafka import reader
from recstream.connectors.kafka.bounds import Position
from recstream.connectors.kafka.client import Outage
from recstream.connectors.kafka.partition import KafkaPartition
from recstream.connectors.kafka.reader import PartitionReader, ReadingOptions


class Record:
    """As the client gives it."""

    def __init__(self, part: int, offset: int, size: int) -> None:
        self._part = part
        self._offset = offset
        self._value = b"x" * size

    def topic(self) -> str:
        return "events"

    def partition(self) -> int:
        return self._part

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return self._value

    def error(self) -> None:
        return None

    def leader_epoch(self) -> int:
        return 0

    def __len__(self) -> int:
        return len(self._value)


class Client:
    """A consumer that has fetched records of all partitions in turns; gives so many bytes at once."""

    def __init__(self, records: list[Record], at_once: int) -> None:
        self._records = records
        self._at_once = at_once
        self._paused: set[int] = set()

    def consume(self, count: int, timeout: float) -> list[Record]:
        given: list[Record] = []
        size = 0
        for record in list(self._records):
            if record.partition() in self._paused:
                continue
            size += len(record)
            if len(given) == count or (given and size > self._at_once):
                break
            self._records.remove(record)
            given.append(record)
        return given

    def pause(self, parts: list[Any]) -> None:
        self._paused.update(part.partition for part in parts)

    def resume(self, parts: list[Any]) -> None:
        self._paused.difference_update(part.partition for part in parts)

    def incremental_assign(self, parts: list[Any]) -> None:
        pass

    def get_watermark_offsets(self, part: Any, cached: bool) -> tuple[int, int]:
        return 0, 0


Build = Callable[..., list[KafkaPartition]]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Partitions of a topic, of which so many records of so many bytes are fetched."""

    def make(count: int, *, each: int, size: int = 1, poll_max: int, buffer_kib: int = 8192) -> Any:
        fetched = [Record(part, offset, size) for offset in range(each) for part in range(count)]
        client = Client(fetched, 1024 * buffer_kib)
        monkeypatch.setattr(reader, "Consumer", lambda *_, **__: client)
        options = ReadingOptions(
            bootstrap="127.0.0.1:1",
            client=None,
            group="g",
            mirrors=False,
            stopping=never,
            on_lag=None,
            on_epoch=None,
            on_loss=None,
            on_trouble=untold,
            skips_losses=False,
            poll_max=poll_max,
            idle_s=0.0,
            down_after_s=600.0,
            outage=Outage(),
            buffer_kib=buffer_kib,
            before_ms=None,
        )
        shared = PartitionReader(options, lambda: datetime.now(timezone.utc))
        start = Position(identity="events", offset=0, from_ms=None, since=0)
        return [
            KafkaPartition(
                f"events/{part}", start, stop=None, high=0, loss=None, reader=shared, options=options
            )
            for part in range(count)
        ]

    return make


def turn(parts: list[KafkaPartition]) -> list[list[bytes]]:
    """Ask each partition once, as for one micro-batch; the values that each gives."""
    return [[value for batch in part.next_batch() for value in batch.values] for part in parts]


@pytest.mark.parametrize(("count", "at_once"), [(1, 10), (4, 40), (8, 80), (64, 80)])
def test_a_micro_batch_holds_what_each_of_few_partitions_may_give(
    build: Build, count: int, at_once: int
) -> None:
    """A job that catches up makes a list for each user of a micro-batch."""
    parts = build(count, each=30, poll_max=10)
    given = turn(parts)
    assert sum(map(len, given)) == at_once
    assert max(map(len, given)) <= 10


def test_large_records_are_given_a_few_at_once_and_none_is_lost(build: Build) -> None:
    parts = build(4, each=40, size=10_000, poll_max=1000, buffer_kib=64)
    total = [0] * 4
    for _ in range(200):
        for number, values in enumerate(turn(parts)):
            assert sum(map(len, values)) <= 65_536
            total[number] += len(values)
    assert total == [40] * 4
    assert {part.snapshot()["offset"] for part in parts} == {40}


def test_a_record_that_is_larger_than_all_that_may_be_given_is_given_alone(build: Build) -> None:
    (part,) = build(1, each=3, size=100_000, poll_max=1000, buffer_kib=64)
    assert [len(turn([part])[0]) for _ in range(4)] == [1, 1, 1, 0]


def test_what_a_partition_does_not_take_is_bounded_in_bytes(build: Build) -> None:
    """As one does not whose epoch is not closed yet; the others are read on."""
    parts = build(2, each=400, size=10_000, poll_max=1000, buffer_kib=64)
    given = sum(len(turn(parts[1:])[0]) for _ in range(2000))
    assert given == 400
    waiting = parts[0]._inbox.arrived
    assert 65_536 < sum(map(len, waiting)) <= 3 * 65_536
    turns = [turn(parts[:1])[0] for _ in range(2000)]
    assert max(sum(map(len, values)) for values in turns) <= 65_536
    assert sum(map(len, turns)) == 400
