"""The ``users`` step: micro-batches of events in, their results out; state is written at the barrier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, TypeAlias

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from recstream.dataflow.messages import (
    BatchResult,
    ClosedSession,
    EncodedList,
    EventBatch,
    Forgotten,
    ListRequests,
)
from recstream.dataflow.services import DataflowRules
from recstream.dataflow.worker import Worker
from recstream.items.statistics import Interaction
from recstream.records.reject import Reject
from recstream.records.transport import shard_key, shard_of

__all__ = ["BarrierError", "UsersOut", "users"]

_AT_ONCE: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""A time that has always passed: bytewax notifies within the same activation."""
_LOG: Final = "log"
"""The only key where a log is worked off strictly in its order."""


class BarrierError(Exception):
    """The barrier was reached with events not applied: committing now would lose their lists."""


@dataclass(frozen=True)
class UsersOut:
    """All must be consumed."""

    due: Stream[ListRequests]
    """Users erased and users whose lists are due, by micro-batch."""
    lists: Stream[EncodedList | Forgotten]
    """Lists made in place (`DataflowRules.in_order`), in the order of the log."""
    interactions: Stream[list[Interaction]]
    rejects: Stream[Reject]
    sessions: Stream[ClosedSession]


Snapshot: TypeAlias = tuple[int | None, int]
"""A shard (None: the whole log, replayed in its order), and the number of the barrier it stands for."""


class _ShardLogic(StatefulBatchLogic[EventBatch, BatchResult, Snapshot]):
    """Collects its events with those of the worker's other shards; the first one notified applies them all.

    Bytewax hands every shard its batch, then notifies, within one activation and before the epoch can
    close. So a batch of cold users costs one look-up a worker rather than one a shard.
    """

    def __init__(self, worker: Worker, resumed: Snapshot | int | None = None) -> None:
        self.worker = worker
        self.leads = worker.claim_lead()
        self.shard: int | None = None
        if isinstance(resumed, tuple):
            self.shard, barrier = resumed
            if self.shard is None:
                worker.commits.resume(None, barrier)
            else:
                worker.own_shard(self.shard, barrier)
        elif resumed is not None:  # a snapshot of the first release, which kept no output to be confirmed
            self.shard = resumed
            worker.own_shard(resumed, None)

    @override
    def on_batch(self, values: list[EventBatch]) -> tuple[Iterable[BatchResult], bool]:
        if self.shard is None and not self.worker.rules.in_order:
            # bytewax does not tell a logic its key; the first event does
            self.shard = shard_of(values[0].events[0].user_id, self.worker.rules.shards)
            self.worker.own_shard(self.shard, None)
        self.worker.inbox.extend(values)
        return (), self.RETAIN

    @override
    def notify_at(self) -> datetime | None:
        if self.worker.inbox:
            return _AT_ONCE
        at = self.worker.next_step(leads=self.leads)
        return None if at is None else datetime.fromtimestamp(at, tz=timezone.utc)

    @override
    def on_notify(self) -> tuple[Iterable[BatchResult], bool]:
        return (self.worker.step(),), self.RETAIN

    @override
    def on_eof(self) -> tuple[Iterable[BatchResult], bool]:
        # The source ended, perhaps for a restart: nothing is announced or given up because of it.
        self.worker.is_ending = True
        return (), self.RETAIN

    @override
    def snapshot(self) -> Snapshot:
        """The barrier: bytewax asks every shard that was awake before it commits; the first flushes."""
        if self.worker.inbox:
            msg = (
                f"{sum(len(batch.events) for batch in self.worker.inbox)} events were not applied when "
                "the epoch closed; this bytewax schedules notifications differently (pinned: 0.21.1)"
            )
            raise BarrierError(msg)
        self.worker.flush()
        return self.shard, self.worker.commits.close()


@operator
def users(
    step_id: str,
    batches: Stream[EventBatch],
    worker: Callable[[], Worker],
    rules: DataflowRules,
) -> UsersOut:
    """Route events to user shards, apply them, and give the results of each micro-batch.

    With `DataflowRules.in_order` all events go to one key, in the order in which they were read.
    """

    def by_shard(batch: EventBatch) -> Iterable[tuple[str, EventBatch]]:
        if rules.in_order:
            return ((_LOG, batch),)
        shards: dict[int, list[int]] = {}
        for k, event in enumerate(batch.events):
            shards.setdefault(shard_of(event.user_id, rules.shards), []).append(k)
        return [
            (shard_key(shard), batch._replace(events=[batch.events[k] for k in places]))
            for shard, places in shards.items()
        ]

    def logic(resumed: Snapshot | int | None) -> _ShardLogic:
        if rules.in_order:
            worker().own_log()
        return _ShardLogic(worker(), resumed)

    keyed: KeyedStream[EventBatch] = op.flat_map("by_shard", batches, by_shard)
    results = op.key_rm("shard_rm", op.stateful_batch("shards", keyed, logic))
    return UsersOut(
        op.filter_map("due", results, _requests),
        op.flat_map("lists", results, lambda result: result.lists),
        op.filter_map("touches", results, lambda result: result.interactions or None),
        op.flat_map("rejects", results, lambda result: result.rejects),
        op.flat_map("sessions", results, lambda result: result.sessions),
    )


def _requests(result: BatchResult) -> ListRequests | None:
    has_any = result.forgotten or result.queries
    return ListRequests(result.forgotten, result.queries) if has_any else None
