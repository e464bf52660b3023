"""Reading a topic outside a dataflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, TopicPartition

from recstream.connectors.kafka.admin import required_topics, watermarks
from recstream.connectors.kafka.bounds import first_offset
from recstream.connectors.kafka.client import (
    NO_GROUP,
    KafkaFault,
    bad_settings,
    client_config,
    client_log,
    redact,
)

__all__ = ["TopicRecord", "read_topic"]


class TopicRecord(NamedTuple):
    """One record of a topic, as it was read."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    """None for a tombstone."""
    headers: tuple[tuple[str, bytes], ...]
    ts: float | None
    """The record's own timestamp, Unix seconds."""


def read_topic(
    bootstrap: str,
    topic: str,
    *,
    start: Literal["earliest", "latest"] = "latest",
    follow: bool = True,
    until: Callable[[TopicRecord], bool] | None = None,
    idle_s: float | None = None,
    timeout_s: float | None = None,
    client: Mapping[str, str] | None = None,
    group: str | None = None,
) -> Iterator[TopicRecord]:
    """Read all partitions, each in its order, without leaving a trace. ``group`` is named only.

    ``start`` holds from this call on, not from the first ``next()``.
    Ends after the record for which ``until`` is true, after ``idle_s`` without a record, after
    ``timeout_s`` in all, or, without ``follow``, at the end as of now.

    Raises:
        KafkaFault: no such topic, or Kafka does not let us read it.
    """
    found = required_topics(bootstrap, [topic], "Read", client=client)[topic]
    group = group or NO_GROUP
    marks = watermarks(
        bootstrap, [(topic, number) for number in found.partitions], client=client, group=group
    )
    ours = client_config(bootstrap, client, fetch_wait_max_ms=10, fetch_queue_backoff_ms=20)
    fixed = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    try:
        consumer = Consumer({**ours, **fixed}, logger=client_log)
    except KafkaException as err:
        raise bad_settings(err, client) from None
    nexts = {n: first_offset(f"{topic}/{n}", start, mark, None) for (_, n), mark in marks.items()}
    ends = {n: mark.high for (_, n), mark in marks.items()}
    consumer.assign([TopicPartition(topic, number, offset) for number, offset in nexts.items()])

    def reached() -> bool:
        return not follow and all(nexts[number] >= end for number, end in ends.items())

    def records() -> Iterator[TopicRecord]:
        began = last = time.monotonic()
        try:
            while not reached():
                now = time.monotonic()
                if timeout_s is not None and now - began > timeout_s:
                    return
                if idle_s is not None and now - last > idle_s:
                    return
                for message in consumer.consume(500, timeout=0.02):
                    if message.topic() is None:
                        continue  # about the group, in which it has no part
                    record = _record(message, bootstrap, client)
                    number = message.partition()
                    nexts[number] = max(nexts[number], message.offset() + (record is not None))
                    if record is None or not (follow or record.offset < ends[number]):
                        continue
                    last = time.monotonic()
                    yield record
                    if until is not None and until(record):
                        return
        finally:
            consumer.close()

    return records()


def _record(message: Any, bootstrap: str, client: Mapping[str, str] | None) -> TopicRecord | None:
    """The record, or None for the end of a partition."""
    error = message.error()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            return None
        text = redact(error.str(), client)
        msg = f"Kafka at {bootstrap} refuses to read {message.topic()}/{message.partition()}: {text}"
        raise KafkaFault(msg)
    kind, ms = message.timestamp()
    return TopicRecord(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        None if kind == TIMESTAMP_NOT_AVAILABLE else ms / 1000.0,
    )
