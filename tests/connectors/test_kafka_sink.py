"""Messages are confirmed or the write raises."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.connectors.kafka.client import KafkaFault
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import DeliveryError, KafkaSink, TopicWriter
from recstream.records.transport import Message

pytestmark = pytest.mark.kafka
Topics = Callable[..., str]
Run = Callable[..., None]


def _flow(messages: list[Message], sink: KafkaSink) -> Dataflow:
    df = Dataflow("sink")
    op.output("out", op.input("in", df, TestingSource(messages, batch_size=50)), sink)
    return df


def test_keys_values_headers_and_tombstones_arrive(
    broker: EmbeddedBroker, topic: Topics, run_flow: Run
) -> None:
    name = topic("out")
    sent = [
        Message(b"u1", b"{}", (("recstream-version", b"1"), ("recstream-version", b"2"))),
        Message(b"u1", None),
        Message(None, b"plain"),
        Message("ключ".encode(), b""),
    ]
    run_flow(_flow(sent, KafkaSink(broker.bootstrap, name, timeout_s=30.0)))
    got = list(read_topic(broker.bootstrap, name, start="earliest", follow=False))
    assert [Message(r.key, r.value, r.headers) for r in got] == sent
    assert [r.offset for r in got] == [0, 1, 2, 3]
    assert all(r.ts is not None and abs(r.ts - time.time()) < 60 for r in got)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_message_arrives_whatever_the_number_of_workers(
    broker: EmbeddedBroker, topic: Topics, run_flow: Run, workers: int
) -> None:
    name = topic("out", partitions=3)
    sent = [Message(b"u%d" % (i % 17), b"%d" % i) for i in range(2000)]
    flow = _flow(sent, KafkaSink(broker.bootstrap, name, compression="lz4", timeout_s=30.0))
    run_flow(flow, workers=workers, epoch=timedelta(seconds=10))
    got = list(read_topic(broker.bootstrap, name, start="earliest", follow=False))
    assert sorted(int(r.value or b"") for r in got) == list(range(2000))
    assert len({(r.key, r.partition) for r in got}) == 17, "one user, one partition"


def test_a_large_message_passes_and_a_too_large_one_is_an_error(
    broker: EmbeddedBroker, topic: Topics
) -> None:
    name = topic("out")
    writer = TopicWriter(broker.bootstrap, name, timeout_s=30.0)
    writer.write_batch([Message(b"k", bytes(5_000_000))])
    with pytest.raises(DeliveryError, match=r"1 of 2 messages refused.*max\.message\.bytes"):
        writer.write_batch([Message(b"k", bytes(9_000_000)), Message(b"k", b"small")])
    writer.close()


def test_a_queue_that_is_full_is_waited_for(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("out")
    writer = TopicWriter(
        broker.bootstrap, name, client={"queue.buffering.max.messages": "10"}, timeout_s=30.0
    )
    writer.write_batch([Message(None, b"%d" % i) for i in range(500)])
    assert len(list(read_topic(broker.bootstrap, name, start="earliest", follow=False))) == 500


def test_a_broker_that_dies_while_writing_is_an_error_within_the_limit() -> None:
    with EmbeddedBroker() as own:
        ensure_topics(own.bootstrap, {"out": 1})
        writer = TopicWriter(own.bootstrap, "out", timeout_s=2.0)
        writer.write_batch([Message(b"k", b"before")])
        threading.Timer(0.3, own.kill).start()
        began = time.monotonic()

        def write_on() -> None:
            while time.monotonic() - began < 10:
                writer.write_batch([Message(b"k", b"x" * 100)] * 100)

        with pytest.raises(DeliveryError, match=r"topic 'out'.*check that the broker runs") as caught:
            write_on()
        assert time.monotonic() - began < 5
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes


def test_a_missing_topic_is_a_fault_at_start(broker: EmbeddedBroker) -> None:
    sink = KafkaSink(broker.bootstrap, "never-made", timeout_s=30.0)
    with pytest.raises(KafkaFault, match="no topic 'never-made'"):
        sink.build("out", 0, 1)


def test_settings_that_are_refused_do_not_show_secrets() -> None:
    with pytest.raises(KafkaFault, match="refused") as caught:
        TopicWriter(
            "127.0.0.1:1",
            "out",
            client={"security.protocol": "hunter2", "sasl.password": "hunter2"},
            timeout_s=30.0,
        )
    assert "hunter2" not in str(caught.value)


def test_reading_from_the_end_sees_what_comes_after_the_call(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("out", partitions=2)
    writer = TopicWriter(broker.bootstrap, name, timeout_s=30.0)
    writer.write_batch([Message(b"%d" % i, b"old") for i in range(20)])
    records = read_topic(broker.bootstrap, name, timeout_s=10, until=lambda r: r.value == b"last")
    writer.write_batch([Message(b"k", b"new"), Message(b"k", b"last"), Message(b"k", b"later")])
    assert [r.value for r in records] == [b"new", b"last"]


def test_reading_ends_after_silence(broker: EmbeddedBroker, topic: Topics) -> None:
    assert list(read_topic(broker.bootstrap, topic("out"), idle_s=0.1)) == []
