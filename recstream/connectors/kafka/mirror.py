"""The reading position, copied to a consumer group so that lag tools see it."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition

__all__ = ["GroupMirror"]

_log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0


class GroupMirror:
    """Commits positions of one partition to a group, for others to look at; never read back by us.

    bytewax tells nobody when an epoch is committed. When it asks for a snapshot it has closed the epoch
    of the one before, so that is what :meth:`on_snapshot` commits, at most once a second. A failure is
    a warning: the recovery store holds the truth. Without a group nothing happens.
    """

    def __init__(self, partition: TopicPartition, group: str | None) -> None:
        self._partition = partition
        self._group = group
        self._taken: int | None = None
        self._sent: int | None = None
        self._due = 0.0
        self._waiting = 0

    def on_snapshot(self, consumer: Any, offset: int, *, away: bool) -> None:
        """Remember this snapshot, commit the one before unless Kafka is away."""
        before, self._taken = self._taken, offset
        if before is not None and not away and time.monotonic() >= self._due:
            self._send(consumer, before)

    def on_commit(self, error: object, _partitions: object) -> None:
        """Take librdkafka's answer to a commit."""
        self._waiting -= 1
        if error is not None:
            self._warn(error)

    def finish(self, consumer: Any, timeout_s: float, *, away: bool) -> None:
        """Commit the last snapshot, unless Kafka is away, and wait for the answer."""
        if self._taken is not None and not away:
            self._send(consumer, self._taken)
        deadline = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < deadline:
            consumer.poll(0.01)
        if self._waiting:
            self._warn(f"no answer within {timeout_s:g} s")

    def _send(self, consumer: Any, offset: int) -> None:
        if self._group is None or offset == self._sent:
            return
        self._due = time.monotonic() + _EVERY_S
        self._sent = offset
        self._waiting += 1
        at = TopicPartition(self._partition.topic, self._partition.partition, offset)
        try:
            consumer.commit(offsets=[at], asynchronous=True)
        except KafkaException as err:
            self._waiting -= 1
            self._warn(err)

    def _warn(self, why: object) -> None:
        part = f"{self._partition.topic}/{self._partition.partition}"
        _log.warning("partition=%s group=%s: position not mirrored: %s", part, self._group, why)
