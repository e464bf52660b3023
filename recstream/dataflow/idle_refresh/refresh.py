"""Lists of users who are away, made again because of trends, of new items, and of items that have gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import numpy as np

from recstream.dataflow.background import SLICE_S, Later
from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.dataflow.idle_refresh.idle_users import IdleUsers
from recstream.dataflow.idle_refresh.outdated import OutdatedUsers
from recstream.dataflow.messages import DueList, DueLists
from recstream.dataflow.recovery import Recovery, Resent
from recstream.dataflow.services import DataflowRules, IdleRefreshRules, Services
from recstream.dataflow.user_cache import UserCache
from recstream.ranking.query import Query
from recstream.ranking.recommender import RankedItem
from recstream.records.arrays import Vector
from recstream.records.event import Event
from recstream.records.transport import shard_of

__all__ = ["IdleRefresh"]

_LISTS_AT_ONCE: Final = 16
"""Most lists made together, which is cheapest: all of them while no events come."""
_QUIET_S: Final = 1.0
"""Seconds without an event after which no events come."""
_LISTS_IN_LOG: Final = 8
"""Lists made together in a log replayed event by event, where they cost less each."""
_SEARCH_SHARE: Final = 0.05
"""Share of the time in which users are searched for whom a new item fits. A search reads all that are stored:
*measured* 40 ms with 10,000 users and 150 ms with 100,000 (384 numbers each, a busy machine)."""
_LOOK_S: Final = 0.02
"""Seconds until one looks again whether a search is done."""
_SAMPLE: Final = 256
"""Items whose mean stands for the whole catalogue."""
_MOST_FITTING: Final = 2000
"""Most users who wait for a list because of a new item; trends bring further ones their lists."""


class _Search(NamedTuple):
    """Users whom a new item may fit."""

    item: int
    users: Sequence[tuple[str, float]]
    """With the similarity of the item to their taste."""
    seconds: float
    """How long it took to find them."""


class IdleRefresh:
    """Chooses whose lists are made again, and which of them are emitted. Nothing of it is stored.

    After a restart it knows only users of whom events came since, those whom a new item fits, and those whose
    lists may hold an item that has gone. In a log replayed event by event its choices follow from the log
    alone.
    """

    def __init__(
        self,
        rules: IdleRefreshRules,
        users: UserCache,
        replica: CatalogueReplica,
        recovery: Recovery,
        services: Services,
        dataflow: DataflowRules,
        later: Later,
    ) -> None:
        """Make it; searches are done ``later``, in a thread of their own: no event waits for them."""
        self._rules = rules
        self._users = users
        self._replica = replica
        self._recovery = recovery
        self._later = later
        self._store = services.users()
        self._meters = services.meters
        self._now = services.now
        self._steady = services.steady
        self._in_order = dataflow.in_order
        self._shards = dataflow.shards
        self._is_alone = dataflow.processes == 1
        self.idle = IdleUsers(dataflow.hot_users, rules.after_events)
        self._outdated = OutdatedUsers(
            self._store,
            self.idle,
            recovery,
            later,
            late_s=dataflow.user_state.decode.future_tolerance_s,
        )
        self._outdated.note([], replica.gone_at)
        self._credit = 0.0
        """Lists that may be made now."""
        self._credited_at = self._steady()
        self._newest = float("-inf")
        """Event time of the newest event."""
        self._last_event_at = float("-inf")
        """Steady clock at the last event."""
        self._arrived: deque[int] = deque(maxlen=rules.items_per_s)
        """New items whose users are not searched for yet; the newest stay."""
        self._search_at = float("-inf")
        """Steady clock before which no users are searched for."""
        self._is_searching = False
        self._found: list[_Search] = []
        """The search that is done, until its users are taken in."""
        self._list_s = 0.0
        """Seconds that a list takes, lately."""
        self._fitting: dict[str, set[int]] = {}
        """New items by the users whom they fit, in the order in which these were found."""
        self._made_for: dict[str, set[int]] = {}
        """As `_fitting`, of users whose list is being made."""

    def note_event(self, event: Event) -> None:
        """Note that an event of a user is applied."""
        self._newest = max(self._newest, event.ts)
        self._last_event_at = self._steady()
        at = event.ts if self._in_order else self._last_event_at
        self.idle.note_event(event.user_id, self._replica.statistics.tick, at)

    def forget(self, user_id: str) -> None:
        """Forget a user who was erased."""
        self.idle.drop(user_id)
        self._outdated.forget(user_id)
        self._fitting.pop(user_id, None)
        self._made_for.pop(user_id, None)

    def note_new_items(self, item_ids: Sequence[str]) -> None:
        """Have users searched for whom new items fit; not in a log replayed event by event."""
        if self._in_order:
            return
        catalogue = self._replica.catalogue
        handles = [catalogue.handle(item_id) for item_id in item_ids]
        fresh = [item for item in handles if item is not None and catalogue.available[item]]
        for item in fresh:
            if len(self._arrived) == self._arrived.maxlen:
                self._meters.add("drift_items_skipped")
            self._arrived.append(item)

    def note_gone_items(self, gone: Sequence[int]) -> None:
        """Have users searched for whose lists may hold items that have gone; as `note_new_items`."""
        if not self._in_order:
            self._outdated.note(gone, self._replica.gone_at)

    def next_look(self) -> float | None:
        """Give when lists or searches are due (steady clock), or None: trends and items are as they were."""
        steady = self._steady()
        looks = []
        missing = min(self._at_once, self._most_credit) - self._credit
        credited = self._credited_at + max(missing, 0.0) / self._rules.lists_per_s
        if self._fitting or self.idle.is_due(self._replica.statistics.tick):
            looks.append(credited)
        outdated = self._outdated.next_look(steady)
        if outdated is not None:
            looks.append(max(outdated, credited))
        if self._is_searching:
            looks.append(steady if self._found else steady + _LOOK_S)
        elif self._arrived:
            looks.append(max(self._search_at, steady))
        return min(looks, default=None)

    def take_due(self, due: DueLists) -> tuple[DueLists, Resent]:
        """Take out users whose lists are made again now; while others are ``due``, after a second without.

        Some of them are read from the store: also gives what an earlier run may not have sent of these.
        """
        steady = self._steady()
        self._take_found()
        self._search()
        self._credit = min(
            self._most_credit, self._credit + (steady - self._credited_at) * self._rules.lists_per_s
        )
        self._credited_at = steady
        if due and self._credit < self._most_credit:
            return {}, Resent({}, [], [])
        most = min(int(self._credit), self._at_once)
        since = steady - self._rules.active_s
        outdated = [user_id for user_id in self._outdated.take(most, since) if user_id not in due]
        fitting = [user_id for user_id in self._fitting if user_id not in due][: most - len(outdated)]
        resent = self._recovery.load([*outdated, *fitting])
        self._adopt(outdated)
        for user_id in fitting:
            items = self._fitting.pop(user_id)
            if self._is_active(user_id, steady):
                self._made_for[user_id] = items
        fitting = [user_id for user_id in fitting if user_id in self._made_for]
        room = most - len(outdated) - len(fitting)
        picked = self.idle.pick(room, tick=self._replica.statistics.tick, since=since)
        for user_id in (*outdated, *picked):  # their lists are emitted with any change
            self._made_for.pop(user_id, None)
        users = dict.fromkeys([*outdated, *fitting, *picked])
        return self._due_lists(list(users), due.keys() | resent.due.keys()), resent

    def take_due_in_log(self) -> DueLists:
        """Take out users whose lists are made after an event, in a log replayed event by event."""
        self._credit = min(self._credit + self._rules.lists_per_event, 8.0 * _LISTS_IN_LOG)
        if self._credit < _LISTS_IN_LOG:
            return {}
        since = self._newest - self._rules.active_s
        picked = self.idle.pick(int(self._credit), tick=self._replica.statistics.tick, since=since)
        return self._due_lists(picked, set())

    def note_list(self, query: Query, ranked: Sequence[RankedItem]) -> bool:
        """Note a list that was made; gives whether to emit it: a refreshed one only if it says new things."""
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

    def note_cost(self, lists: int, seconds: float) -> None:
        """Note how long it took to make lists together."""
        self._list_s += 0.1 * (seconds / lists - self._list_s)

    @property
    def _at_once(self) -> int:
        """Lists that are made together."""
        if self._list_s <= 0.0 or self._steady() - self._last_event_at >= _QUIET_S:
            return _LISTS_AT_ONCE
        return max(1, min(int(SLICE_S / self._list_s), _LISTS_AT_ONCE))

    @property
    def _most_credit(self) -> float:
        """Most lists that may be made at once after a pause."""
        return max(1.0, self._rules.lists_per_s)

    def _due_lists(self, user_ids: Sequence[str], due: Collection[str]) -> DueLists:
        """Lists of those of the users who are in memory, have a state, and have no list due anyway."""
        lists: DueLists = {}
        now = self._now()
        for user_id in user_ids:
            user_state = self._users.find(user_id)
            if user_state is None or user_state.as_of is None:
                self.forget(user_id)
            elif user_id not in due:
                lists[user_id] = DueList("drift", None, now)
        self._credit -= len(lists)
        return lists

    def _adopt(self, user_ids: Sequence[str]) -> None:
        """Take users in whose lists are made, so that it is known what these hold."""
        for user_id in user_ids:
            user_state = self._users.find(user_id)
            if user_state is not None and user_state.as_of is not None:
                self.idle.adopt(user_id, self._replica.statistics.tick, user_state.as_of.ts)

    def _search(self) -> None:
        """Have users searched whom the newest item fits, by their stored tastes."""
        if not self._arrived or self._is_searching or self._search_at > self._steady():
            return
        self._is_searching = True
        item = self._arrived.pop()
        direction = self._direction(item)

        def search() -> None:
            begin = self._steady()
            users = self._store.near(direction, self._rules.item_users)
            self._found.append(_Search(item, users, self._steady() - begin))

        self._later(search)

    def _take_found(self) -> None:
        """Take in the users whom a search has found."""
        if not self._found:
            return
        item, users, took = self._found.pop()
        self._is_searching = False
        for user_id, similarity in users:
            if similarity > 0.0 and self._owns(user_id) and len(self._fitting) < _MOST_FITTING:
                self._fitting.setdefault(user_id, set()).add(item)
        self._search_at = self._steady() + max(took / _SEARCH_SHARE, 1.0 / self._rules.items_per_s)
        self._meters.observe("drift_search_seconds", took)

    def _direction(self, item: int) -> Vector:
        """The item's vector without the mean of all items, which fits whoever likes a bit of everything."""
        catalogue = self._replica.catalogue
        every = max(1, len(catalogue) // _SAMPLE)
        sample = [row for row in range(0, len(catalogue), every) if catalogue.is_known(row)]
        others = np.stack([catalogue.vector(row) for row in sample])
        direction: Vector = catalogue.vector(item) - others.mean(axis=0)
        return direction

    def _owns(self, user_id: str) -> bool:
        return self._is_alone or self._recovery.owns(shard_of(user_id, self._shards))

    def _is_active(self, user_id: str, steady: float) -> bool:
        """Whether events of the user came lately; without any in this run, by the time of the last event."""
        at = self.idle.last_event_at(user_id)
        if at is None:
            user_state = self._users.find(user_id)
            at = float("-inf") if user_state is None or user_state.as_of is None else user_state.as_of.ts
        return at >= steady - self._rules.active_s
