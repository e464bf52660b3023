"""Recommender: one worker of the dataflow, driven in this process over stores in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import orjson
from typing_extensions import override

from recstream.dataflow.graph import replay_rules
from recstream.dataflow.list_builder import ListBuilder
from recstream.dataflow.lists import EncodedList
from recstream.dataflow.messages import BatchResult, DueLists, EventBatch
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.worker import Worker
from recstream.evaluation.log import Log
from recstream.ranking.query import Query
from recstream.records.event import Event
from recstream.records.transport import Partition
from recstream.runtime.wiring import Wiring
from recstream.stores.memory import MemoryItemStore, MemoryModelStore, MemoryStatisticsStore, MemoryUserStore

__all__ = ["Recommender", "evaluation_rules"]

X = TypeVar("X")
_REQUESTS = Partition("eval-requests", "eval-requests@eval")


def evaluation_rules(wiring: Wiring) -> DataflowRules:
    """The rules of ``recstream backfill --refresh event``.

    With ``backfill.drift`` lists of idle users are made again; these count where lists are scored as emitted.
    """
    return replay_rules(wiring.rules(), "event", job="eval")


class _Nobody(ListBuilder):
    """Makes no lists, where nobody will look at them."""

    def __init__(self) -> None:
        pass

    @override
    def queries(self, due: DueLists) -> list[Query]:
        return []


class Recommender:
    """The dataflow's own worker: events in, and lists when they are asked for.

    ``learn`` takes events in without making lists; ``emit`` takes them in and gives the lists they cause;
    ``request`` gives the list of a user who comes now. These are the lists of ``recstream backfill --refresh
    event`` on the same log, with a ``request`` event at each such moment.
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
            meters=wiring.meters,
            now=time.time,
        )
        self.worker = Worker(services, rules)
        self.worker.replica.own(0)
        self._maker, self._nobody = self.worker.lists, _Nobody()
        self._asked = 0
        self._is_grown = True
        self.drifts = rules.idle_refresh is not None
        """Whether lists of idle users are made again between events."""

    @property
    def effects(self) -> dict[str, float]:
        """What each signal that is used is worth now: the score of an item that has it alone, and in full."""
        used = self.worker.recommender.rules.weights
        effect = self.worker.recommender.model.effect
        return {name: worth for name, worth in effect.items() if used[name] != 0.0}

    @property
    def examples(self) -> int:
        """Choices that this was learned from."""
        return int(self.worker.recommender.model.examples)

    def learn(self, events: Sequence[Event]) -> None:
        """Take events in, in their order.

        The worker may look at its catalogue anew when it makes a list after that has grown. In a backfill it
        makes one after each event; so, after the log's beginning and each new item, one is made here, too.
        """
        begin = 0
        for n, event in enumerate(events):
            self._is_grown |= event.item is not None
            if self._is_grown:
                self.worker.lists = self._nobody
                self._step(events[begin:n])
                self._is_grown = not self.emit(events[n : n + 1])
                begin = n + 1
        self.worker.lists = self._nobody
        self._step(events[begin:])

    def emit(self, events: Sequence[Event]) -> dict[str, list[str]]:
        """Take events in; gives the last list that each user gets because of them, as item ids."""
        self.worker.lists = self._maker
        return _lists_of(self._step(events))

    def request(self, user_id: str, ts: float) -> list[str]:
        """The list of a user who comes now (Unix seconds, event time), as item ids, best first."""
        self._asked += 1
        asked = Event(user_id, ts, "request", None, None, None, None, None, None, _REQUESTS, self._asked, b"")
        return self.emit([asked]).get(user_id, [])

    def _step(self, events: Sequence[Event]) -> BatchResult:
        if not events:
            return BatchResult([], [], [], [], [], [])
        brought = {e.offset: self._log.brought[e.offset] for e in events if e.item is not None}
        self.worker.inbox.append(EventBatch(self._log.read_at, list(events), brought))
        done = self.worker.step()
        self._log.rejected.update(reject.reason for reject in done.rejects)
        return done


def _lists_of(done: BatchResult) -> dict[str, list[str]]:
    return {
        listed.user_id: [item["item_id"] for item in orjson.loads(listed.value)["items"]]
        for listed in done.lists
        if isinstance(listed, EncodedList)
    }


def _always(one: X) -> Callable[[], X]:
    return lambda: one
