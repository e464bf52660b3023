"""Lists of users of whom nothing comes, made again because the world moved: trends, and new items."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.dataflow.idle_refresh.idle_users import IdleUsers
from recstream.dataflow.idle_refresh.rules import IdleRefreshRules
from recstream.dataflow.messages import BatchResult, DueLists
from recstream.dataflow.recovery import Recovery
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.user_cache import UserCache
from recstream.ranking.query import Query
from recstream.ranking.recommender import RankedItem
from recstream.records.arrays import Vector
from recstream.records.event import Event
from recstream.records.transport import shard_of

__all__ = ["IdleRefresh"]

_CHUNK: Final = 16
"""Lists made at once: an event that comes meanwhile waits for so many."""
_CHUNK_BESIDE: Final = 4
"""As above in a micro-batch that has other lists due; made only if none were for a second."""
_REPLAY_CHUNK: Final = 8
"""In a log worked off event by event: lists made together cost less each."""
_SEARCH_SHARE: Final = 0.05
"""Share of the worker's time for searches of users whom a new item fits."""
_BUSY_S: Final = 1.0
"""A search waits so long for a micro-batch without other work, for what is due waits for the search:
*measured* 40 ms with 10,000 stored users and 150 ms with 100,000 (384 numbers each, a busy machine)."""
_SAMPLE: Final = 256
"""Items that stand for the catalogue."""
_MOST_FITTING: Final = 2000
"""Users who wait for a list because of a new item; further ones are left to the trends."""


class IdleRefresh:
    """Says whose lists are made again, and which of them leave. Nothing of it is stored.

    After a restart only users heard since take part, apart from those whom a new item fits. In a log worked
    off event by event all follows from the log alone: what came before, and how many events ago.
    """

    def __init__(
        self,
        rules: IdleRefreshRules,
        users: UserCache,
        replica: CatalogueReplica,
        recovery: Recovery,
        services: Services,
        engine: DataflowRules,
    ) -> None:
        self._rules = rules
        self._users = users
        self._replica = replica
        self._recovery = recovery
        self._store = services.users()
        self._meters = services.meters
        self._now = services.now
        self._steady = services.steady
        self._every_event = engine.every_event
        self._shards = engine.shards
        self._is_alone = engine.processes == 1
        self.idle = IdleUsers(engine.hot_users, rules.after_events)
        self._credit = 0.0
        """Lists that may be made now."""
        self._credited_at = self._steady()
        self._newest = float("-inf")
        """Event time of the newest event, in a log worked off event by event."""
        self._arrived: deque[int] = deque(maxlen=rules.items_per_s)
        """New items whose users are not searched for yet; the newest stay."""
        self._search_at = float("-inf")
        """Steady clock before which no users are searched for."""
        self._fitting: dict[str, set[int]] = {}
        """Users whom new items fit, and which, in the order of their finding."""
        self._made_for: dict[str, set[int]] = {}
        """As `_fitting`: those whose list is being made."""

    def hear(self, event: Event) -> None:
        """An event of a user was worked off."""
        self._newest = max(self._newest, event.ts)
        at = event.ts if self._every_event else self._steady()
        self.idle.hear(event.user_id, self._replica.statistics.tick, at)

    def forget(self, user_id: str) -> None:
        """The user was erased."""
        self.idle.drop(user_id)
        self._fitting.pop(user_id, None)
        self._made_for.pop(user_id, None)

    def arrive(self, item_ids: Sequence[str]) -> None:
        """New items became known. A log worked off event by event leaves them to the trends."""
        if self._every_event:
            return
        catalogue = self._replica.catalogue
        handles = [catalogue.handle(item_id) for item_id in item_ids]
        fresh = [item for item in handles if item is not None and catalogue.available[item]]
        if fresh and not self._arrived:
            self._search_at = max(self._search_at, self._steady())
        for item in fresh:
            if len(self._arrived) == self._arrived.maxlen:
                self._meters.add("drift_items_skipped")
            self._arrived.append(item)

    def next_look(self) -> float | None:
        """When there is something to do (steady clock), or None: nothing has moved."""
        steady = self._steady()
        looks = []
        if self._fitting or self.idle.is_due(self._replica.statistics.tick):
            missing = min(_CHUNK, self._most_credit) - self._credit
            looks.append(self._credited_at + max(missing, 0.0) / self._rules.lists_per_s)
        if self._arrived:
            looks.append(max(self._search_at, steady))
        return min(looks, default=None)

    def due(self, done: BatchResult, due: DueLists, *, is_busy: bool) -> DueLists:
        """Users whose lists are made now, while there is nothing more urgent (``is_busy``: there is)."""
        steady = self._steady()
        if not is_busy or steady >= self._search_at + _BUSY_S:
            self._search()
        self._credit = min(
            self._most_credit, self._credit + (steady - self._credited_at) * self._rules.lists_per_s
        )
        self._credited_at = steady
        if is_busy and self._credit < self._most_credit:
            return {}
        most = min(int(self._credit), _CHUNK_BESIDE if is_busy else _CHUNK)
        fitting = [user_id for user_id in self._fitting if user_id not in due][:most]
        self._recovery.load(fitting, done, due)
        for user_id in fitting:
            items = self._fitting.pop(user_id)
            if self._is_active(user_id, steady):
                self._made_for[user_id] = items
        fitting = [user_id for user_id in fitting if user_id in self._made_for]
        since = steady - self._rules.active_s
        picked = self.idle.pick(most - len(fitting), tick=self._replica.statistics.tick, since=since)
        for user_id in picked:  # their lists leave with any change
            self._made_for.pop(user_id, None)
        return self._dues([*fitting, *picked], due)

    def due_in_log(self) -> DueLists:
        """Users whose lists are made after an event of a log that is worked off event by event."""
        self._credit = min(self._credit + self._rules.lists_per_event, 8.0 * _REPLAY_CHUNK)
        if self._credit < _REPLAY_CHUNK:
            return {}
        since = self._newest - self._rules.active_s
        picked = self.idle.pick(int(self._credit), tick=self._replica.statistics.tick, since=since)
        return self._dues(picked, {})

    def leaves(self, query: Query, ranked: Sequence[RankedItem]) -> bool:
        """Note a list that was made; gives whether it leaves: a refresh only if it says something new."""
        items = [one.item for one in ranked]
        is_refresh = query.trigger == "drift"
        wanted = self._made_for.pop(query.user_id, None) if is_refresh else None
        is_new = wanted is None or not wanted.isdisjoint(items)
        if is_new:
            tick = self._replica.statistics.tick
            is_new = self.idle.note_list(query.user_id, tick, items, is_refresh=is_refresh)
        if is_refresh:
            self._meters.add("drift_lists", outcome="emitted" if is_new else "unchanged")
        return is_new or not is_refresh

    @property
    def _most_credit(self) -> float:
        """What may be made at once after a pause."""
        return max(1.0, self._rules.lists_per_s)

    def _dues(self, user_ids: Sequence[str], due: DueLists) -> DueLists:
        """Those of the users who are in memory, have a state, and have no list due anyway."""
        dues: DueLists = {}
        now = self._now()
        for user_id in user_ids:
            user_state = self._users.held(user_id)
            if user_state is None or user_state.as_of is None:
                self.forget(user_id)
            elif user_id not in due:
                dues[user_id] = ("drift", None, now)
        self._credit -= len(dues)
        return dues

    def _search(self) -> None:
        """Find the users whom new items fit, by their stored tastes."""
        while self._arrived and self._search_at <= (begin := self._steady()):
            item = self._arrived.pop()
            near = self._store.near(self._direction(item), self._rules.item_users)
            for user_id, similarity in near:
                if similarity > 0.0 and self._owns(user_id) and len(self._fitting) < _MOST_FITTING:
                    self._fitting.setdefault(user_id, set()).add(item)
            took = self._steady() - begin
            self._search_at = begin + max(took / _SEARCH_SHARE, 1.0 / self._rules.items_per_s)
            self._meters.observe("drift_search_seconds", took)

    def _direction(self, item: int) -> Vector:
        """What tells the item from others: what all texts share would find who likes a bit of everything."""
        catalogue = self._replica.catalogue
        every = max(1, len(catalogue) // _SAMPLE)
        sample = [row for row in range(0, len(catalogue), every) if catalogue.is_known(row)]
        others = np.stack([catalogue.vector(row) for row in sample])
        direction: Vector = catalogue.vector(item) - others.mean(axis=0)
        return direction

    def _owns(self, user_id: str) -> bool:
        return self._is_alone or self._recovery.owns(shard_of(user_id, self._shards))

    def _is_active(self, user_id: str, steady: float) -> bool:
        """Whether the user was heard lately; of one not heard in this run, the last event tells."""
        at = self.idle.heard_at(user_id)
        if at is None:
            user_state = self._users.held(user_id)
            at = float("-inf") if user_state is None or user_state.as_of is None else user_state.as_of.ts
        return at >= steady - self._rules.active_s
