"""Offsets that partitions hold, now and at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from recstream.connectors.kafka.client import (
    NO_GROUP,
    KafkaFault,
    admin_client,
    client_config,
    client_log,
    result_of,
    unreachable,
)

__all__ = ["Watermarks", "offsets_at", "watermarks"]


class Watermarks(NamedTuple):
    """The offsets a partition holds: ``low <= offset < high``."""

    low: int
    high: int


def watermarks(
    bootstrap: str,
    parts: Iterable[tuple[str, int]],
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> dict[tuple[str, int], Watermarks]:
    """First offset held and next offset to be written, of each partition.

    The high one is what a fetch reports, not the answer to ListOffsets: Tansu's counts the last batch
    of records as one record.
    """
    asked = [TopicPartition(topic, number) for topic, number in parts]
    if not asked:
        return {}
    deadline = time.monotonic() + timeout_s
    low = _list_offsets(bootstrap, asked, OffsetSpec.earliest(), client, timeout_s)
    high = _list_offsets(bootstrap, asked, OffsetSpec.latest(), client, timeout_s)
    ours = client_config(
        bootstrap,
        client,
        group_id=NO_GROUP,
        fetch_wait_max_ms=10,
        queued_max_messages_kbytes=1024,
    )
    fixed = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    probe = Consumer({**ours, **fixed, "isolation.level": "read_uncommitted"}, logger=client_log)
    try:
        waiting = {(part.topic, part.partition) for part in asked}
        probe.assign([TopicPartition(*part, high[part]) for part in waiting])
        while waiting:
            if time.monotonic() > deadline:
                msg = (
                    f"Kafka at {bootstrap}: no answer about {sorted(waiting)} within {timeout_s:g} s; "
                    "check that the partitions' leaders are up and reachable from here"
                )
                raise KafkaFault(msg)
            for told in probe.consume(1, timeout=0.05):
                part = (told.topic(), told.partition())
                err = told.error()
                if err is not None and err.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise unreachable(bootstrap, KafkaException(err), client, what=f"reading {part}")
                marks = probe.get_watermark_offsets(TopicPartition(*part), cached=True)
                high[part] = max(high[part], marks[1] if marks else 0)
                waiting.discard(part)
    finally:
        probe.close()
    return {part: Watermarks(low[part], high[part]) for part in high}


def offsets_at(
    bootstrap: str,
    parts: Iterable[tuple[str, int]],
    ms: int,
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> dict[tuple[str, int], int]:
    """First offset whose record's timestamp is at or after ``ms`` (Unix), -1 when there is none.

    A lower bound only: Tansu says 0 always, so a reader must drop older records itself.
    """
    asked = [TopicPartition(topic, number) for topic, number in parts]
    return _list_offsets(bootstrap, asked, OffsetSpec.for_timestamp(ms), client, timeout_s)


def _list_offsets(
    bootstrap: str,
    asked: Sequence[Any],
    spec: object,
    client: Mapping[str, str] | None,
    timeout_s: float,
) -> dict[tuple[str, int], int]:
    if not asked:
        return {}
    deadline = time.monotonic() + timeout_s
    admin = admin_client(bootstrap, client)  # kept: its requests die with it
    futures = admin.list_offsets(dict.fromkeys(asked, spec), request_timeout=timeout_s)
    found = {}
    for part, future in futures.items():
        try:
            found[part.topic, part.partition] = int(result_of(future, deadline).offset)
        except KafkaException as err:
            where = f"asking for offsets of {part.topic}/{part.partition}"
            raise unreachable(bootstrap, err, client, what=where) from None
    return found
