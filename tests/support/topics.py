"""Topics of a broker: records are sent, and all that is there is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.logs import Record


def produce(
    bootstrap: str,
    topic: str,
    records: Iterable[Record | bytes],
    *,
    pace_s: float = 0.0,
    outlast_s: float = 0.0,
) -> None:
    """Send records, keyed by their user or item; ``pace_s`` is slept after every ten.

    Each arrives once and in its order, though brokers go and come for ``outlast_s``.
    """
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 2, "enable.idempotence": outlast_s > 0.0}
    )
    for number, record in enumerate(records):
        key = None
        if isinstance(record, dict):
            key = str(record.get("user_id", record.get("item_id", ""))).encode()
        value = record if isinstance(record, bytes) else orjson.dumps(record)
        producer.produce(topic, value, key=key)
        if pace_s and number % 10 == 9:
            assert producer.flush(10) == 0
            time.sleep(pace_s)
    assert producer.flush(20.0 + outlast_s) == 0


def producing(bootstrap: str, topic: str, records: Sequence[Record], *, pace_s: float) -> threading.Thread:
    """The same in a thread."""
    thread = threading.Thread(target=produce, args=(bootstrap, topic, records), kwargs={"pace_s": pace_s})
    thread.start()
    return thread


class Reader:
    """An ordinary consumer of a topic from its beginning; keeps all it read."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"reader-{topic}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        known = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in known])
        self.messages: list[Any] = []

    def poll(self) -> list[Any]:
        """Read what is there; gives all messages so far."""
        while True:
            batch = self._consumer.consume(500, timeout=0.1)
            for message in batch:
                assert message.error() is None, message.error()
            self.messages += batch
            if not batch:
                return self.messages

    def records(self) -> list[Record]:
        """All values so far, tombstones left out."""
        return [orjson.loads(message.value()) for message in self.poll() if message.value() is not None]

    def versions(self) -> dict[str, int]:
        """Greatest version of a list so far, by user."""
        newest: dict[str, int] = {}
        for record in self.records():
            newest[record["user_id"]] = max(record["version"], newest.get(record["user_id"], 0))
        return newest

    def close(self) -> None:
        """Leave."""
        self._consumer.close()
