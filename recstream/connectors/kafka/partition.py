"""The reading of one Kafka partition: what has arrived becomes batches; position, ends, time bounds."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Any

from bytewax.inputs import StatefulSourcePartition
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE
from typing_extensions import override

from recstream.connectors.kafka.bounds import Position, identity_at, incarnation
from recstream.connectors.kafka.losses import Loss
from recstream.connectors.kafka.reader import Inbox, PartitionReader, ReadingOptions, epoch_of
from recstream.records.transport import Partition, RawBatch

__all__ = ["KafkaPartition"]

_log = logging.getLogger(__name__)


class KafkaPartition(StatefulSourcePartition[RawBatch, Position]):
    """Emits the records that have arrived, without blocking, and knows its next offset exactly.

    The consumer is its reader's, which all partitions of the source in this process share.
    """

    def __init__(
        self,
        name: str,
        position: Position,
        *,
        stop: int | None,
        high: int,
        loss: Loss | None,
        reader: PartitionReader,
        options: ReadingOptions,
    ) -> None:
        self._since = position.get("since", 0)
        self._base = position["identity"]
        self._cuts = list(position.get("cuts", ()))
        self._next = position["offset"]
        self._read = position.get("read")
        self._from_ms = position["from_ms"]
        self._stop = stop
        self._r = options
        self._filters = self._from_ms is not None or options.before_ms is not None
        self._partition = Partition(name, self._base)
        self._bound: int | None = None
        """Offset from which on the partition may have another name."""
        self._enter(self._next)
        if loss is not None and loss.offsets:
            self._pass_over(loss)
        self._is_busy = False
        self._inbox = Inbox(name, self._base, self._next, read=self._read, high=high)
        self._reader = reader
        reader.join(self._inbox)

    @override
    def next_batch(self) -> list[RawBatch]:
        reader, inbox = self._reader, self._inbox
        if time.monotonic() >= reader.due:
            reader.poll(inbox)
        self._is_busy = False
        if reader.is_stopping or (self._stop is not None and self._next >= self._stop):
            raise StopIteration
        if inbox.arrived:
            batches = self._batches(reader.take(inbox))
            self._is_busy = bool(batches)
            inbox.emitted = self._next
            return batches
        if reader.fault is not None:
            reader.abandon()
            raise reader.fault
        return []

    def _batches(self, arrived: list[Any]) -> list[RawBatch]:
        batches: list[RawBatch] = []
        for message in arrived:
            if isinstance(message, Loss):
                if message.is_cut:
                    self._cuts.append(message.goes_on)
                self._pass_over(message)
                continue
            offset = message.offset()
            if message.error() is not None:  # the end; markers of transactions before it count as read
                self._next = max(self._next, offset)
                continue
            if self._stop is not None and offset >= self._stop:
                self._next = self._stop
                break
            self._next = offset + 1
            if (epoch := epoch_of(message)) is not None:
                self._read = max(self._read or (0, 0), (offset + 1, epoch))
            if self._filters and not self._in_time(message):
                self._since = None  # what is left out breaks the run: it may be replayed some day
                continue
            if self._since is None:
                self._since = offset
                self._partition = self._partition._replace(since=offset)
            if self._bound is not None and offset >= self._bound:
                self._enter(offset)
            if not batches or batches[-1].partition is not self._partition:
                batches.append(RawBatch(self._partition, [], [], {}))
            value = message.value()
            if value is None:
                batches[-1].tombstones[offset] = message.key()
            batches[-1].offsets.append(offset)
            batches[-1].values.append(b"" if value is None else value)
        return batches

    @override
    def next_awake(self) -> datetime | None:
        return None if self._is_busy else self._reader.awake

    @override
    def snapshot(self) -> Position:
        self._reader.on_snapshot(self._inbox, self._next)
        position = Position(identity=self._base, offset=self._next, from_ms=self._from_ms, since=self._since)
        if self._read is not None:
            position["read"] = self._read
        if self._cuts:
            position["cuts"] = list(self._cuts)
        return position

    @override
    def close(self) -> None:
        self._reader.leave(self._inbox)

    def _in_time(self, message: Any) -> bool:
        kind, ms = message.timestamp()
        if kind == TIMESTAMP_NOT_AVAILABLE:
            return True
        if self._from_ms is not None and ms < self._from_ms:
            return False
        return self._r.before_ms is None or ms < self._r.before_ms

    def _pass_over(self, loss: Loss) -> None:
        """Go on behind a loss. Where the log was cut, other records bear the offsets that were read."""
        name = self._partition.name
        if loss.is_cut:
            _log.warning(
                "partition=%s position=%d: the log was cut at %d: %d offsets that were read are lost, other "
                "records took their place; on_loss=skip: reading them",
                *(name, loss.position, loss.goes_on, loss.offsets),
            )
            if self._read is not None:
                self._read = (min(self._read[0], loss.goes_on), self._read[1])
        else:
            _log.warning(
                "partition=%s position=%d first_held=%d: %d offsets are lost to retention; on_loss=skip: "
                "reading on",
                *(name, loss.position, loss.goes_on, loss.offsets),
            )
        if self._r.on_loss is not None:
            self._r.on_loss(name, loss.offsets)
        self._next = loss.goes_on
        self._since = None if self._from_ms is not None else loss.goes_on
        self._enter(loss.goes_on)

    def _enter(self, offset: int) -> None:
        """Name the partition as the log that an offset is of."""
        if (cuts := incarnation(self._cuts, offset)) and self._since is not None:
            self._since = max(self._since, self._cuts[cuts - 1])
        self._partition = Partition(
            self._partition.name, identity_at(self._base, self._cuts, offset), self._since or 0
        )
        self._bound = min((cut for cut in self._cuts if cut > offset), default=None)
