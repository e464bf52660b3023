"""The reading of one Kafka partition: polling, ends, time bounds, lag, outages, the group's position."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bytewax.inputs import StatefulSourcePartition
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, TopicPartition
from typing_extensions import override

from recstream.connectors.kafka.admin import topics
from recstream.connectors.kafka.bounds import Position
from recstream.connectors.kafka.client import (
    AWAY,
    NO_GROUP,
    KafkaFault,
    StayedAwayFault,
    bad_settings,
    client_config,
    client_log,
    redact,
)
from recstream.records.transport import Partition, RawBatch

__all__ = ["GroupMirror", "KafkaPartition", "PartitionOptions"]

_log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0
"""Seconds between reports of the lag, looks at the brokers, and commits to the group."""
_CLOSE_S: Final = 3.0
"""How long a clean stop waits for the group's coordinator."""
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name


@dataclass(frozen=True)
class PartitionOptions:
    """How partitions of one source are read."""

    bootstrap: str
    client: Mapping[str, str] | None
    group: str | None
    stopping: Callable[[], bool]
    on_lag: Callable[[str, int], None] | None
    on_epoch: Callable[[], None] | None
    on_trouble: Callable[[str, str], None]
    poll_max: int
    idle: timedelta
    down_after_s: float
    buffer_kib: int
    before_ms: int | None
    """Records at or after this time are dropped."""


class KafkaPartition(StatefulSourcePartition[RawBatch, Position]):
    """Emits the records of each poll without blocking, and knows its next offset exactly.

    Each has a consumer of its own: one connection and a few threads of librdkafka, no shared state.
    """

    def __init__(
        self,
        partition: Partition,
        position: Position,
        *,
        stop: int | None,
        high: int,
        reading: PartitionOptions,
        now: Callable[[], datetime],
    ) -> None:
        self._since = position.get("since", 0)
        self._partition = partition._replace(since=self._since or 0)
        self._next = position["offset"]
        self._from_ms = position["from_ms"]
        self._stop = stop
        self._high = high
        """Offset after the last record, as far as it is known."""
        self._r = reading
        self._now = now
        topic, _, number = partition.name.rpartition("/")
        self._tp = TopicPartition(topic, int(number))
        self._where = f"{partition.name} at {reading.bootstrap}"
        self._idle_until: datetime | None = None
        self._mirror = GroupMirror(self._tp, reading.group)
        self._lag_due = 0.0
        self._down_since: float | None = None
        self._paused = False
        self._look: threading.Thread | None = None
        self._seen: str | None = None
        self._fault: KafkaFault | None = None
        self._filters = self._from_ms is not None or reading.before_ms is not None
        self._consumer: Any = self._open()
        self._consumer.assign([TopicPartition(topic, int(number), self._next)])

    @override
    def next_batch(self) -> list[RawBatch]:
        if self._r.stopping() or (self._stop is not None and self._next >= self._stop):
            raise StopIteration
        batches: list[RawBatch] = []
        found = self._consumer.consume(self._r.poll_max, timeout=0)
        for message in found:
            error = message.error()
            if error is not None:
                self._on_message_error(error, message)
                continue
            offset = message.offset()
            if self._stop is not None and offset >= self._stop:
                self._next = self._stop
                break
            self._next = offset + 1
            if self._filters and not self._in_time(message):
                self._since = None  # what is left out breaks the run: it may be replayed some day
                continue
            if self._since is None:
                self._since = offset
                self._partition = self._partition._replace(since=offset)
            if not batches or batches[-1].partition is not self._partition:
                batches.append(RawBatch(self._partition, [], [], {}))
            value = message.value()
            if value is None:
                batches[-1].tombstones[offset] = message.key()
            batches[-1].offsets.append(offset)
            batches[-1].values.append(b"" if value is None else value)
        if found:
            self._idle_until = None
        else:
            self._idle_until = self._now() + self._r.idle
        if self._down_since is not None:
            self._while_away(self._down_since)
        self._report_lag()
        if not batches and self._fault is not None:
            self._leave()
            raise self._fault
        return batches

    @override
    def next_awake(self) -> datetime | None:
        return self._idle_until

    @override
    def snapshot(self) -> Position:
        if self._r.on_epoch is not None:
            self._r.on_epoch()
        away = self._down_since is not None or self._fault is not None
        self._mirror.on_snapshot(self._consumer, self._next, away=away)
        return Position(
            identity=self._partition.identity, offset=self._next, from_ms=self._from_ms, since=self._since
        )

    @override
    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.pause([self._tp])
            self._mirror.finish(self._consumer, _CLOSE_S, away=self._down_since is not None)
            self._leave().join(_CLOSE_S)

    def _leave(self) -> threading.Thread:
        """Close the consumer in a thread of its own, which may be left behind.

        With a commit unanswered, closing *or freeing* a consumer can take a minute; a stop, or the way
        out of a fault, cannot wait for that.
        """
        closing = threading.Thread(target=self._consumer.close, name="recstream-close", daemon=True)
        self._consumer = None
        closing.start()
        return closing

    def _open(self) -> Any:
        ours = client_config(
            self._r.bootstrap,
            self._r.client,
            fetch_wait_max_ms=10,
            fetch_queue_backoff_ms=20,
            queued_min_messages=10 * self._r.poll_max,
            queued_max_messages_kbytes=self._r.buffer_kib,
            reconnect_backoff_max_ms=2000,
            # A broker that hangs keeps its connections: it is away once it left a request unanswered so long.
            # It tries twice; so it is taken for away after half of the time.
            socket_timeout_ms=int(1000 * min(30.0, max(1.0, self._r.down_after_s / 4))),
            statistics_interval_ms=int(_EVERY_S * 1000),
        )
        fixed = {
            "group.id": self._r.group or NO_GROUP,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "error_cb": self._on_error,
            "stats_cb": self._on_stats,
            "on_commit": self._mirror.on_commit,
        }
        try:
            return Consumer({**ours, **fixed}, logger=client_log)
        except KafkaException as err:
            raise bad_settings(err, self._r.client) from None

    def _in_time(self, message: Any) -> bool:
        kind, ms = message.timestamp()
        if kind == TIMESTAMP_NOT_AVAILABLE:
            return True
        if self._from_ms is not None and ms < self._from_ms:
            return False
        return self._r.before_ms is None or ms < self._r.before_ms

    def _on_message_error(self, error: Any, message: Any) -> None:
        if error.code() == _EOF:
            # Beyond the last record may lie markers of transactions: they count as read.
            self._next = max(self._next, message.offset())
        elif error.fatal() or not (error.retriable() or error.code() in AWAY):
            mend = "check that the topic still exists, its retention, and our right to read it"
            self._fail(f"Kafka refuses to read {self._where} from offset {self._next}: {error.str()}; {mend}")
        else:
            _log.warning("partition=%s error=%s: waiting for it to pass", self._where, error.name())

    def _on_error(self, error: Any) -> None:
        if error.fatal() or error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):  # noqa: SLF001
            text = redact(error.str(), self._r.client)
            self._fail(f"Kafka does not let us read {self._where}: {text}; check the security settings")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and self._down_since is None:  # noqa: SLF001
            self._down_since = time.monotonic()
            self._r.on_trouble(self._where, "no broker answers")
            _log.warning(
                "partition=%s: no broker answers, waiting up to %g s", self._where, self._r.down_after_s
            )

    def _on_stats(self, text: str) -> None:
        """See by the connections whether the cluster is back: an idle topic sends nothing."""
        if self._down_since is None or self._look is not None:
            return
        brokers = json.loads(text)["brokers"].values()
        if any(broker["nodeid"] >= 0 and broker["state"] == "UP" for broker in brokers):
            self._look = threading.Thread(target=self._look_at_topic, name="recstream-look", daemon=True)
            self._look.start()

    def _look_at_topic(self) -> None:
        """Look up the topic, in a thread of its own: the worker must not block."""
        try:
            found = topics(self._r.bootstrap, [self._tp.topic], client=self._r.client, timeout_s=5.0)
        except KafkaFault:
            self._seen = None  # away again
        else:
            topic = found.get(self._tp.topic)
            self._seen = topic.identity(self._tp.partition) if topic else "(no such topic)"

    def _while_away(self, since: float) -> None:
        """Read nothing until the cluster is back and the topic is known to be the one we were reading.

        Another one under its name would be taken for the old: its events would seem absorbed already.
        """
        if not self._paused:
            self._paused = True
            self._consumer.pause([self._tp])
        if self._look is not None and not self._look.is_alive():
            self._look, seen, self._seen = None, self._seen, None
            if seen == self._partition.identity:
                _log.warning("partition=%s: Kafka answers again", self._where)
                self._down_since, self._paused = None, False
                self._r.on_trouble(self._where, "")
                self._consumer.resume([self._tp])
                return
            if seen is not None:
                self._fail(
                    f"{self._where} was {self._partition.identity} and is now {seen}: the topic was "
                    "re-created during an outage; restart, and it is read from the configured start"
                )
        if time.monotonic() - since > self._r.down_after_s:
            self._fail(
                f"no broker of {self._where} has answered for {self._r.down_after_s:g} s; "
                "check that Kafka runs and is reachable; the position is kept, a restart goes on from it",
                StayedAwayFault,
            )

    def _fail(self, text: str, kind: type[KafkaFault] = KafkaFault) -> None:
        """Note a fault to raise at the end of an empty batch: callbacks cannot raise, records come first."""
        self._fault = self._fault or kind(text)

    def _report_lag(self) -> None:
        if self._r.on_lag is None or time.monotonic() < self._lag_due:
            return
        self._lag_due = time.monotonic() + _EVERY_S
        marks = self._consumer.get_watermark_offsets(self._tp, cached=True)
        self._high = max(self._high, marks[1] if marks else 0)  # below 0 before the first answer
        self._r.on_lag(self._partition.name, max(0, self._high - self._next))


class GroupMirror:
    """Commits positions of one partition to a consumer group, for lag tools; never read back.

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
