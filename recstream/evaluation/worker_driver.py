"""Worker driver: one worker of the dataflow, called in this process, over stores in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import orjson
from typing_extensions import override

from recstream.dataflow.graph import replay_rules
from recstream.dataflow.lists import ListBuilder
from recstream.dataflow.messages import BatchResult, DueLists, EncodedList, EventBatch
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.worker import Worker
from recstream.evaluation.log import Log
from recstream.ranking.query import Query
from recstream.records.event import Event
from recstream.records.transport import Partition
from recstream.runtime.wiring import Wiring
from recstream.stores.memory import MemoryItemStore, MemoryModelStore, MemoryStatisticsStore, MemoryUserStore

__all__ = ["WorkerDriver", "evaluation_rules"]

X = TypeVar("X")
_REQUESTS = Partition("eval-requests", "eval-requests@eval")


def evaluation_rules(wiring: Wiring) -> DataflowRules:
    """Rules of ``recstream backfill --refresh event``.

    ``backfill.drift`` refreshes the lists of idle users, which counts where lists are scored as emitted.
    """
    return replay_rules(wiring.rules(), "event", job="eval")


class _NoLists(ListBuilder):
    """Makes no lists."""

    def __init__(self) -> None:
        pass

    @override
    def queries(self, due: DueLists) -> list[Query]:
        return []


class WorkerDriver:
    """Feeds events to a dataflow worker and asks it for lists.

    ``learn`` applies events without making lists; ``emit`` applies them and gives the lists they cause;
    ``request`` gives the list of a user who comes now. The lists are those of ``recstream backfill --refresh
    event`` on the same log with a ``request`` event in place of each call of ``request``.
    """

    def __init__(self, wiring: Wiring, rules: DataflowRules, log: Log) -> None:
        dim = wiring.encoder.dim
        items, users, statistics = MemoryItemStore(dim), MemoryUserStore(dim), MemoryStatisticsStore()
        items.upsert([row._replace(seq=n) for n, row in enumerate(log.rows)])
        self._log = log
        services = Services(
            encoder=lambda: wiring.encoder,
            users=_always(users),
            items=_always(items),
            statistics=_always(statistics),
            models=_always(MemoryModelStore()),
            generation=lambda: 0,  # these lists are not published
            meters=wiring.meters,
            now=time.time,
        )
        self.worker = Worker(services, rules)
        self.worker.own_log()
        self._list_builder, self._no_lists = self.worker.lists, _NoLists()
        self._requests = 0
        self._has_grown = True
        self.refreshes_idle_users = rules.idle_refresh is not None

    @property
    def effects(self) -> dict[str, float]:
        """Score of an item that has one signal alone and in full, for each signal with a weight."""
        used = self.worker.recommender.rules.weights
        effect = self.worker.recommender.model.feature_effects
        return {name: worth for name, worth in effect.items() if used[name] != 0.0}

    @property
    def examples(self) -> int:
        """Choices that the ranking has learned from."""
        return int(self.worker.recommender.model.examples)

    def learn(self, events: Sequence[Event]) -> None:
        """Apply events in their order.

        A worker may rebuild what it derives from its catalogue when it makes a list after the catalogue has
        grown. A backfill makes a list after each event, so one is made here too at the start of the log
        and after each new item.
        """
        begin = 0
        for n, event in enumerate(events):
            self._has_grown |= event.item is not None
            if self._has_grown:
                self.worker.lists = self._no_lists
                self._step(events[begin:n])
                self._has_grown = not self.emit(events[n : n + 1])
                begin = n + 1
        self.worker.lists = self._no_lists
        self._step(events[begin:])

    def emit(self, events: Sequence[Event]) -> dict[str, list[str]]:
        """Apply events; gives the last list that each user gets because of them, as item ids."""
        self.worker.lists = self._list_builder
        return _lists_of(self._step(events))

    def request(self, user_id: str, ts: float) -> list[str]:
        """List of a user who comes at ``ts`` (event time, Unix seconds), as item ids, best first."""
        self._requests += 1
        event = Event(
            user_id, ts, "request", None, None, None, None, None, None, _REQUESTS, self._requests, b""
        )
        return self.emit([event]).get(user_id, [])

    def _step(self, events: Sequence[Event]) -> BatchResult:
        if not events:
            return BatchResult([], [], [], [], [], [])
        carried = {e.offset: self._log.carried_items[e.offset] for e in events if e.item is not None}
        self.worker.inbox.append(EventBatch(self._log.read_at, list(events), carried))
        result = self.worker.step()
        self._log.rejected.update(reject.reason for reject in result.rejects)
        return result


def _lists_of(result: BatchResult) -> dict[str, list[str]]:
    return {
        listed.user_id: [item["item_id"] for item in orjson.loads(listed.value)["items"]]
        for listed in result.lists
        if isinstance(listed, EncodedList)
    }


def _always(one: X) -> Callable[[], X]:
    return lambda: one
