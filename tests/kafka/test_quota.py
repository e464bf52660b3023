"""A broker that throttles is waited for, however long it takes in all."""

from __future__ import annotations

import os
import uuid

from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import TopicWriter
from recstream.records.transport import Message
from tests.support.apache_kafka import ApacheKafka


def test_a_quota_makes_writing_slow_and_nothing_else(kafka: ApacheKafka) -> None:
    """In all it takes several times as long as a confirmation may. Nothing is sent twice."""
    name = f"quota-{uuid.uuid4().hex}"
    kafka.create(name)
    kafka.tool(
        *("configs", "--alter", "--add-config", "producer_byte_rate=40000"),
        *("--entity-type", "clients", "--entity-name", name),
    )
    told: list[str] = []
    held: list[float] = []
    writer = TopicWriter(
        kafka.bootstrap,
        name,
        client={"client.id": name},
        timeout_s=1.5,
        down_after_s=60.0,
        on_trouble=lambda _, trouble: told.append(trouble),
        on_throttled=lambda _, seconds: held.append(seconds),
    )
    sent = [Message(b"u%d" % number, os.urandom(5_000)) for number in range(100)]
    writer.write_batch(sent)
    writer.snapshot()
    writer.close()
    assert sum(held) > 2
    assert any("throttled by the broker" in one for one in told)
    assert told[-1] == ""
    read = read_topic(kafka.bootstrap, name, start="earliest", follow=False)
    assert sorted(one.value or b"" for one in read) == sorted(one.value or b"" for one in sent)
