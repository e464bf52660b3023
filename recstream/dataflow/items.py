"""The ``store_items`` and ``count_touches`` steps: items and their statistics, by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import NamedTuple

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from recstream.dataflow.services import DataflowRules
from recstream.dataflow.worker import Worker
from recstream.items.codec import ItemRow
from recstream.items.statistics import Interaction, Pairs, pairs_of
from recstream.records.transport import shard_key, shard_of

__all__ = ["count_interactions", "store_items"]


class _Counts(NamedTuple):
    """Interactions and pairs for one statistics key to count. Items go by ids, which any process knows."""

    key: int
    ids: list[str]
    """Distinct item ids; the arrays hold places in this list."""
    items: npt.NDArray[np.int32]
    """The item of each interaction."""
    pairs: Pairs


class _ItemsLogic(StatefulBatchLogic[list[ItemRow], int, int]):
    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    @override
    def on_batch(self, values: list[list[ItemRow]]) -> tuple[Iterable[int], bool]:
        changed = sum(self.worker.replica.put(row) for rows in values for row in rows)
        return (changed,), self.RETAIN

    @override
    def on_eof(self) -> tuple[Iterable[int], bool]:
        self.worker.is_ending = True
        return (), self.RETAIN

    @override
    def snapshot(self) -> int:
        self.worker.flush()
        return 1


class _CountLogic(StatefulBatchLogic[_Counts, int, int]):
    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    @override
    def on_batch(self, values: list[_Counts]) -> tuple[Iterable[int], bool]:
        replica = self.worker.replica
        for key, ids, items, pairs in values:
            replica.own(key)
            handles = np.array([replica.catalogue.intern(item_id) for item_id in ids], np.int32)
            interactions = [Interaction(int(item), ()) for item in handles[items].tolist()]
            known = pairs._replace(rows=handles[pairs.rows], others=handles[pairs.others])
            replica.statistics.count(interactions, known, ticks_each=replica.ticks_each)
        return (), self.RETAIN

    @override
    def notify_at(self) -> datetime | None:
        at = self.worker.next_checkpoint()
        return None if at is None else datetime.fromtimestamp(at, tz=timezone.utc)

    @override
    def on_notify(self) -> tuple[Iterable[int], bool]:
        self.worker.wake()  # bytewax asks a logic that was awake for a snapshot: nothing else is needed
        return (), self.RETAIN

    @override
    def on_eof(self) -> tuple[Iterable[int], bool]:
        self.worker.is_ending = True
        return (), self.RETAIN

    @override
    def snapshot(self) -> int:
        self.worker.flush()
        return 1


@operator
def store_items(
    step_id: str, rows: Stream[list[ItemRow]], worker: Callable[[], Worker], rules: DataflowRules
) -> Stream[int]:
    """Take items in at their shard's worker; gives the number of new or changed ones of each batch."""

    def by_shard(batch: list[ItemRow]) -> Iterable[tuple[str, list[ItemRow]]]:
        shards: dict[int, list[ItemRow]] = {}
        for row in batch:
            shards.setdefault(shard_of(row.item_id, rules.statistics_keys), []).append(row)
        return [(shard_key(shard), some) for shard, some in shards.items()]

    keyed: KeyedStream[list[ItemRow]] = op.flat_map("by_shard", rows, by_shard)
    return op.key_rm("shard_rm", op.stateful_batch("shards", keyed, lambda _: _ItemsLogic(worker())))


@operator
def count_interactions(
    step_id: str, interactions: Stream[list[Interaction]], worker: Callable[[], Worker], rules: DataflowRules
) -> Stream[int]:
    """Count interactions, and which items follow each other, at the owner of the items; emits nothing."""
    keys = rules.statistics_keys

    def by_shard(batch: list[Interaction]) -> Iterable[tuple[str, _Counts]]:
        ids = worker().replica.catalogue.ids
        pairs = pairs_of(batch)
        items = np.array([interaction.item for interaction in batch], np.int32)
        handles, _ = np.unique(np.concatenate([items, pairs.rows]), return_inverse=True)
        owners = np.array([shard_of(ids[handle], keys) for handle in handles.tolist()], np.int32)
        local = np.zeros(int(handles[-1]) + 1, np.int32)
        local[handles] = np.arange(len(handles), dtype=np.int32)
        return [
            (
                shard_key(key),
                _part(key, [ids[h] for h in handles.tolist()], owners, local[items], pairs, local),
            )
            for key in np.unique(owners).tolist()
        ]

    keyed: KeyedStream[_Counts] = op.flat_map("by_shard", interactions, by_shard)
    return op.key_rm("shard_rm", op.stateful_batch("shards", keyed, lambda _: _CountLogic(worker())))


def _part(
    key: int,
    ids: list[str],
    owners: npt.NDArray[np.int32],
    items: npt.NDArray[np.int32],
    pairs: Pairs,
    local: npt.NDArray[np.int32],
) -> _Counts:
    own_items = owners[items] == key
    rows, others = local[pairs.rows], local[pairs.others]
    own_rows = owners[rows] == key
    return _Counts(
        key,
        ids,
        items[own_items],
        Pairs(
            rows[own_rows],
            others[own_rows],
            pairs.followed[own_rows],
            pairs.together[own_rows],
            pairs.order[own_rows],
        ),
    )
