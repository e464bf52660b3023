"""Stored positions of a topic, compared with what its partitions hold, and set to something else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, TopicPartition

from recstream.connectors.base import PartitionPosition
from recstream.connectors.kafka.admin import (
    Topic,
    Watermarks,
    configs,
    look_up,
    offset_bounds,
    offsets_at,
    required_topics,
    watermarks,
)
from recstream.connectors.kafka.bounds import Position, first_offset, loss_since, read_since
from recstream.connectors.kafka.client import KafkaSettingsFault, bad_settings, client_config, client_log
from recstream.connectors.kafka.losses import find_losses
from recstream.connectors.kafka.rights import Right, lacks, rights_fault
from recstream.connectors.kafka.topic_plan import keeps_s
from recstream.records.bounds import At, Bound

__all__ = ["TopicPositions"]

_ANSWER_S: Final = 10.0
"""How long the cluster has for each answer."""
_TIMES_S: Final = 5.0
"""How long it has for the records at the positions; of those that do not come, the age is not told."""


class TopicPositions:
    """Positions in one topic, by partition: ``{"events/3": ...}``.

    To compare them, the right to read the topic is wanted, and none on a group. Without the right to read its
    configuration (DescribeConfigs) the retention is not told.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        group: str,
        client: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._group = group
        self._client = client
        self._now = now

    def compared(self, stored: Mapping[str, Position], *, in_full: bool = True) -> list[PartitionPosition]:
        """Each partition that the topic has, or that a position is stored of, in its order.

        Without ``in_full`` nothing is read, and the right to describe the topic is enough.

        Raises:
            KafkaFault: the cluster gives no answer, or does not let us read the topic.
        """
        found, hidden = look_up(self._bootstrap, [self._topic], client=self._client, timeout_s=_ANSWER_S)
        if not found and not hidden:
            gone = "the topic does not exist"
            return [_unread(name, stored[name]["offset"], gone) for name in sorted(stored, key=_number)]
        if hidden or (in_full and lacks(found[self._topic].may, "Read")):
            operation = "Read" if in_full else "Describe"
            raise rights_fault(self._bootstrap, [Right(operation, "topic", self._topic)], self._client)
        topic = found[self._topic]
        marks = self._marks(topic, in_full=in_full)
        offsets = {name: stored[name]["offset"] for name in stored}
        next_to_read = {
            number: offsets[name]
            for number, mark in marks.items()
            if (name := f"{self._topic}/{number}") in offsets and mark.low <= offsets[name] < mark.high
        }
        cuts = self._cuts(topic, stored, marks, asks=in_full)
        times = self._times(next_to_read) if in_full else {}
        kept_s = self._keeps_s() if in_full else None
        parts = []
        for number, mark in sorted(marks.items()):
            name = f"{self._topic}/{number}"
            written_at = times.get(number)
            is_read = name in offsets and offsets[name] >= mark.high
            age_s = 0.0 if is_read else None if written_at is None else max(self._now() - written_at, 0.0)
            left_s = None if kept_s is None or written_at is None else written_at + kept_s - self._now()
            parts.append(
                PartitionPosition(
                    partition=name,
                    position=offsets.get(name),
                    first=mark.low,
                    last=mark.high - 1,
                    lag=max(mark.high - max(offsets[name], mark.low), 0) if name in offsets else None,
                    lag_s=age_s,
                    retention_left_s=left_s,
                    trouble=_trouble(stored[name], cuts.get(name), mark) if name in offsets else "",
                )
            )
        others = sorted(offsets.keys() - {one.partition for one in parts}, key=_number)
        return parts + [_unread(name, offsets[name], "the topic has no such partition") for name in others]

    def moved(self, stored: Mapping[str, Position], to: Bound) -> dict[str, Position]:
        """Positions from which the partitions go on at ``to``.

        What lies between the old position and the new one is left out, or read again: a new unbroken run
        begins, so that users take what they have not absorbed, and nothing twice.

        Raises:
            KafkaSettingsFault: a partition is named that has no position, or an offset that is not held.
            KafkaFault: the cluster gives no answer.
        """
        topic = required_topics(
            self._bootstrap, [self._topic], "Read", client=self._client, timeout_s=_ANSWER_S
        )[self._topic]
        marks = self._marks(topic)
        names = [name for number in marks if (name := f"{self._topic}/{number}") in stored]
        if isinstance(to, Mapping):
            unknown = sorted(to.keys() - set(names))
            if unknown:
                msg = f"topic {self._topic!r} has no stored position of {unknown}, wanted some of {names}"
                raise KafkaSettingsFault(msg)
            names = [name for name in names if name in to]
        times: Mapping[tuple[str, int], int] = {}
        if isinstance(to, At):
            parts = [(self._topic, _number(name)) for name in names]
            times = offsets_at(self._bootstrap, parts, to.ms, client=self._client, timeout_s=_ANSWER_S)
        cuts = self._cuts(topic, stored, marks, asks=True)
        found: dict[str, Position] = {}
        for name in names:
            number = _number(name)
            offset = first_offset(name, to, marks[number], times.get((self._topic, number)))
            from_ms = to.ms if isinstance(to, At) else None
            since = offset if from_ms is None else None
            moved = Position(identity=topic.identity(number), offset=offset, from_ms=from_ms, since=since)
            found[name] = {**stored[name], **moved} if name in cuts else moved
            if cuts.get(name, []) != stored[name].get("cuts", []):
                found[name]["cuts"] = cuts[name]
                if (read := read_since(stored[name], cuts[name])) is not None:
                    found[name]["read"] = read
        return found

    def _cuts(
        self, topic: Topic, stored: Mapping[str, Position], marks: Mapping[int, Watermarks], *, asks: bool
    ) -> dict[str, list[int]]:
        """Where the logs were cut that positions are stored of: they know it, and leaders if it ``asks``."""
        same = {
            number: stored[name]
            for number in marks
            if (name := f"{self._topic}/{number}") in stored
            and stored[name]["identity"] == topic.identity(number)
        }
        asked = {(self._topic, number): one["read"] for number, one in same.items() if asks and "read" in one}
        losses = find_losses(
            self._bootstrap, asked, client=self._client, group=self._group, timeout_s=_ANSWER_S
        )
        found = {}
        for number, one in same.items():
            cuts = list(one.get("cuts", ()))
            if (loss := losses.get((self._topic, number))) is not None and loss.is_cut:
                cuts.append(loss.goes_on)
            elif one["offset"] > marks[number].high:
                cuts.append(marks[number].high)
            found[f"{self._topic}/{number}"] = cuts
        return found

    def _marks(self, topic: Topic, *, in_full: bool = True) -> dict[int, Watermarks]:
        parts = [(self._topic, number) for number in topic.partitions]
        ask = partial(watermarks, group=self._group) if in_full else offset_bounds
        marks = ask(self._bootstrap, parts, client=self._client, timeout_s=_ANSWER_S)
        return {number: mark for (_, number), mark in marks.items()}

    def _keeps_s(self) -> float | None:
        """How long records are kept; None: for ever, or it is not told."""
        told = configs(self._bootstrap, [self._topic], client=self._client, timeout_s=_ANSWER_S)
        return keeps_s(told[self._topic] or {})

    def _times(self, offsets: Mapping[int, int]) -> dict[int, float]:
        """When the records at these offsets, or the next that there are, were written, Unix seconds."""
        if not offsets:
            return {}
        ours = client_config(
            self._bootstrap, self._client, fetch_wait_max_ms=10, queued_max_messages_kbytes=1024
        )
        fixed = {"group.id": self._group, "enable.auto.commit": False, "enable.partition.eof": True}
        try:
            reader = Consumer({**ours, **fixed, "isolation.level": "read_uncommitted"}, logger=client_log)
        except KafkaException as err:
            raise bad_settings(err, self._client) from None
        waiting, found = set(offsets), {}
        deadline = time.monotonic() + _TIMES_S
        try:
            reader.assign([TopicPartition(self._topic, number, offset) for number, offset in offsets.items()])
            while waiting and time.monotonic() < deadline:
                message: Any = reader.poll(0.1)
                if message is None or message.partition() not in waiting:
                    continue
                error = message.error()
                if error is None:
                    kind, ms = message.timestamp()
                    if kind != TIMESTAMP_NOT_AVAILABLE:
                        found[message.partition()] = ms / 1000.0
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    continue  # of this partition the age is not told
                waiting.discard(message.partition())
                reader.incremental_unassign([TopicPartition(self._topic, message.partition())])
        finally:
            reader.close()
        return found


def _number(partition: str) -> int:
    return int(partition.rpartition("/")[2])


def _unread(name: str, position: int, trouble: str) -> PartitionPosition:
    return PartitionPosition(name, position, None, None, None, None, None, trouble)


def _trouble(stored: Position, cuts: list[int] | None, marks: Watermarks) -> str:
    """What keeps a job from going on at a stored position; empty: nothing. Of another log are no ``cuts``."""
    if cuts is None:
        return "the topic was made again: it is read from kafka.start"
    loss = loss_since(stored, cuts, marks)
    if loss.is_cut and loss.offsets:
        return (
            f"the log was cut at {loss.goes_on} (unclean leader election?), or is of another cluster: "
            f"{loss.offsets:,} records that were read are gone"
        )
    return f"{loss.offsets:,} records were deleted before they were read" if loss.offsets else ""
