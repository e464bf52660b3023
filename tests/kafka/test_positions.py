"""Positions on Apache Kafka: what was deleted, how old what is not read yet is, and how long it stays."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition

from recstream.config import Settings
from recstream.connectors.base import ConnectorError, PartitionPosition
from recstream.connectors.kafka.admin import topics
from recstream.connectors.kafka.bounds import Position
from recstream.connectors.kafka.positions import TopicPositions
from recstream.records.bounds import At
from tests.support.apache_kafka import ApacheKafka

DAY_S = 86_400.0
_numbers = itertools.count()


class Log:
    """A topic of two partitions with records of known times, and positions in it."""

    def __init__(self, kafka: ApacheKafka, **config: object) -> None:
        self.kafka = kafka
        self.name = f"positions-{next(_numbers)}"
        kafka.create(self.name, partitions=2, **config)
        self.topic = topics(kafka.bootstrap, [self.name])[self.name]
        self.positions = TopicPositions(kafka.bootstrap, self.name, group="positions")

    def send(self, partition: int, *ages_s: float) -> None:
        """Records that are so old."""
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap})
        for age_s in ages_s:
            producer.produce(
                self.name, b"{}", partition=partition, timestamp=int((time.time() - age_s) * 1000)
            )
        assert producer.flush(20) == 0

    def stored(self, *offsets: int) -> dict[str, Position]:
        return {
            f"{self.name}/{number}": Position(
                identity=self.topic.identity(number), offset=offset, from_ms=None, since=0
            )
            for number, offset in enumerate(offsets)
        }

    def compared(self, *offsets: int) -> list[PartitionPosition]:
        return self.positions.compared(self.stored(*offsets))

    def delete_before(self, partition: int, offset: int) -> None:
        admin = self.kafka.admin()  # kept: its requests die with it
        (done,) = admin.delete_records([TopicPartition(self.name, partition, offset)]).values()
        done.result(10)


def test_lag_and_retention_follow_from_the_next_record(kafka: ApacheKafka) -> None:
    log = Log(kafka, retention_ms=int(10 * DAY_S * 1000))
    log.send(0, 3 * DAY_S, 2 * DAY_S, DAY_S)
    log.send(1, DAY_S)
    one, other = log.compared(1, 1)
    assert (one.position, one.first, one.last, one.lag, one.trouble) == (1, 0, 2, 2, "")
    assert one.lag_s == pytest.approx(2 * DAY_S, abs=600.0)
    assert one.retention_left_s == pytest.approx(8 * DAY_S, abs=600.0)
    assert (other.lag, other.lag_s, other.retention_left_s) == (0, 0.0, None), "all is read"


@pytest.mark.parametrize("config", [{"cleanup_policy": "compact"}, {"retention_ms": -1}])
def test_what_is_never_deleted_for_its_age_has_no_retention(
    kafka: ApacheKafka, config: dict[str, object]
) -> None:
    log = Log(kafka, **config)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(log.name, b"{}", key=b"k", partition=0)
    assert producer.flush(20) == 0
    found = log.compared(0)[0]
    assert found.lag == 1
    assert found.retention_left_s is None


def test_records_that_were_deleted_unread_are_a_trouble(kafka: ApacheKafka) -> None:
    log = Log(kafka)
    log.send(0, *[60.0] * 9)
    log.delete_before(0, 6)
    one, other = log.compared(2, 0)
    assert "4 records were deleted" in one.trouble
    assert (one.first, one.last, one.lag) == (6, 8, 3)
    assert not other.trouble
    assert not log.compared(6)[0].trouble, "what is gone was read before"
    assert "the log was cut at 9" in log.compared(10)[0].trouble


@pytest.mark.parametrize(
    ("to", "offsets"),
    [
        ("earliest", (2, 0)),
        ("latest", (4, 2)),
        (lambda now: At(int((now - 1.5 * DAY_S) * 1000)), (3, 1)),
        (lambda now: At(int((now - 9 * DAY_S) * 1000)), (2, 0)),
        (lambda now: At(int((now + DAY_S) * 1000)), (4, 2)),
    ],
    ids=["earliest", "latest", "between", "before all", "after all"],
)
def test_positions_are_moved_to_what_is_held(
    kafka: ApacheKafka, to: str | Callable[[float], At], offsets: tuple[int, int]
) -> None:
    log = Log(kafka, retention_ms=-1)
    log.send(0, 5 * DAY_S, 4 * DAY_S, 2 * DAY_S, DAY_S)
    log.send(1, 3 * DAY_S, DAY_S)
    log.delete_before(0, 2)
    bound = to if isinstance(to, str) else to(time.time())
    moved = log.positions.moved(log.stored(0, 1), bound)  # type: ignore[arg-type]  # a word
    assert tuple(moved[f"{log.name}/{number}"]["offset"] for number in (0, 1)) == offsets
    for position in moved.values():
        assert position["since"] == (None if isinstance(bound, At) else position["offset"])
    assert not any(one.trouble for one in log.positions.compared(moved))


def test_a_record_that_is_not_held_is_no_place_to_go_on(kafka: ApacheKafka) -> None:
    log = Log(kafka)
    log.send(0, *[60.0] * 5)
    log.delete_before(0, 3)
    for offset in (2, 6):
        with pytest.raises(ConnectorError, match="start offset"):
            log.positions.moved(log.stored(0, 0), {f"{log.name}/0": offset})
    moved = log.positions.moved(log.stored(0, 0), {f"{log.name}/0": 4})
    assert {name: one["offset"] for name, one in moved.items()} == {f"{log.name}/0": 4}


def test_what_else_a_position_says_of_the_same_log_stays(kafka: ApacheKafka) -> None:
    log = Log(kafka)
    log.send(0, 1.0, 1.0)
    stored = log.stored(0, 0)
    name = f"{log.name}/0"
    stored[name]["more"] = [1]  # type: ignore[typeddict-unknown-key]  # of a later release
    assert log.positions.moved(stored, "latest")[name]["more"] == [1]  # type: ignore[typeddict-item]
    stored[name]["identity"] = "another log"
    assert "more" not in log.positions.moved(stored, "latest")[name]


def test_settings_reach_it(kafka: ApacheKafka) -> None:
    """By the connector, as commands do."""
    from recstream.connectors.kafka.connector import KafkaConnector

    log = Log(kafka)
    log.send(0, 1.0)
    settings = Settings.load(None, {}, {"kafka.bootstrap": kafka.bootstrap})
    connector = KafkaConnector(settings.options_of("kafka"))
    found = connector.positions(f"kafka:{log.name}", log.stored(0, 0))
    assert [(one.position, one.lag) for one in found] == [(0, 1), (0, 0)]
