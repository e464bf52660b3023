"""Records that are gone: retention has passed a position, or the log was cut before it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from recstream.connectors.kafka.admin import Watermarks, watermarks
from recstream.connectors.kafka.client import (
    NO_GROUP,
    KafkaSettingsFault,
    NoAnswerFault,
    bad_settings,
    client_config,
    client_log,
    unreachable,
)

__all__ = ["Loss", "find_losses", "loss_fault", "loss_in"]

_SKIP: Final = (
    'to go on without them, set kafka.on_loss = "skip" (or set the position: `recstream positions --to '
    "earliest`): user rows keep what they absorbed"
)


class Loss(NamedTuple):
    """What lies between a position and the record that the reading goes on with."""

    position: int
    goes_on: int
    """First offset held, or, of a log that was cut, the first whose record is another one than was read."""
    is_cut: bool = False

    @property
    def offsets(self) -> int:
        """Number of offsets: those of the gap, or those that were read and are held no more; 0: no loss."""
        return abs(self.goes_on - self.position)


def loss_in(position: int, marks: Watermarks) -> Loss:
    """What the offsets that are held tell of a loss.

    >>> loss_in(5, Watermarks(20, 90)).offsets, loss_in(5, Watermarks(0, 5)).offsets
    (15, 0)
    >>> loss_in(5, Watermarks(0, 3))
    Loss(position=5, goes_on=3, is_cut=True)
    """
    if position < marks.low:
        return Loss(position, marks.low)
    return Loss(position, min(position, marks.high), is_cut=position > marks.high)


def find_losses(
    bootstrap: str,
    asked: Mapping[tuple[str, int], tuple[int, int | None]],
    *,
    client: Mapping[str, str] | None,
    group: str = NO_GROUP,
    timeout_s: float,
) -> dict[tuple[str, int], Loss]:
    """Ask the leaders what is lost of partitions, by position and leader epoch of the record before it.

    Without an epoch (None), a log that was cut and has grown beyond the position again is not told from one
    that was not cut.

    Raises:
        KafkaFault: no answer came.
    """
    marks = watermarks(bootstrap, asked, client=client, group=group, timeout_s=timeout_s)
    losses = {part: loss_in(position, marks[part]) for part, (position, _) in asked.items()}
    known = {
        part: (position, epoch)
        for part, (position, epoch) in asked.items()
        if epoch is not None and position > marks[part].low
    }
    for part, other in _first_others(
        bootstrap, known, client=client, group=group, timeout_s=timeout_s
    ).items():
        position, cut = known[part][0], max(other, marks[part].low)
        losses[part] = Loss(position, cut, is_cut=True) if cut < position else Loss(position, position)
    return losses


def _first_others(
    bootstrap: str,
    asked: Mapping[tuple[str, int], tuple[int, int]],
    *,
    client: Mapping[str, str] | None,
    group: str,
    timeout_s: float,
) -> dict[tuple[str, int], int]:
    """Where a consumer goes on that has read up to a position: where the logs part, if they do."""
    if not asked:
        return {}
    ours = client_config(
        bootstrap, client, group_id=group, fetch_wait_max_ms=10, queued_max_messages_kbytes=1024
    )
    fixed = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    try:
        probe = Consumer({**ours, **fixed}, logger=client_log)
    except KafkaException as refusal:
        raise bad_settings(refusal, client) from None
    deadline = time.monotonic() + timeout_s
    found: dict[tuple[str, int], int] = {}
    try:
        probe.assign([TopicPartition(*part, at, leader_epoch=epoch) for part, (at, epoch) in asked.items()])
        while len(found) < len(asked):
            if time.monotonic() > deadline:
                lacking = sorted(asked.keys() - found.keys())
                msg = f"Kafka at {bootstrap}: no answer about {lacking} within {timeout_s:g} s"
                raise NoAnswerFault(msg)
            for message in probe.consume(len(asked), timeout=0.05):
                if message.topic() is None:
                    continue  # about the group, in which it has no part
                part, error = (message.topic(), message.partition()), message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise unreachable(bootstrap, KafkaException(error), client, what=f"reading {part}")
                if part not in found:
                    found[part] = message.offset()
                    probe.pause([TopicPartition(*part)])
    finally:
        probe.close()
    return found


def loss_fault(name: str, loss: Loss, what: str = "position") -> KafkaSettingsFault:
    """The fault for a loss that is not to be passed over."""
    if loss.is_cut:
        msg = (
            f"{name}: {what} {loss.position} is beyond the end, {loss.goes_on}, of the records read that "
            f"the log still holds: {loss.offsets} offsets are lost (unclean leader election?), or the "
            f"position belongs to another cluster; check kafka.bootstrap; {_SKIP}"
        )
    else:
        msg = (
            f"{name}: {what} {loss.position} is below the first offset held, {loss.goes_on}: {loss.offsets} "
            f"offsets are lost to retention; {_SKIP}; and lengthen the topic's retention.ms"
        )
    return KafkaSettingsFault(msg)
