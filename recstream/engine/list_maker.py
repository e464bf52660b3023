"""Makes lists: of users as they are now, by the worker's catalogue and statistics."""

from __future__ import annotations

from collections.abc import Sequence

from recstream.core.ranking import rank
from recstream.core.signals import Query, query_of
from recstream.engine.hot_set import HotSet
from recstream.engine.lists import Listed
from recstream.engine.replica import Replica
from recstream.engine.services import EngineRules, Services
from recstream.engine.step import Dues

__all__ = ["ListMaker"]


class ListMaker:
    """The lists of one worker."""

    def __init__(
        self, users: HotSet, replica: Replica, services: Services, rules: EngineRules, *, encoder: str
    ) -> None:
        self._users = users
        self._replica = replica
        self._rules = rules
        self._meters = services.meters
        self._now = services.now
        self._encoder = encoder

    def queries(self, due: Dues) -> list[Query]:
        """What ranking needs of the users whose lists are due; none of a user without any event."""
        queries = []
        for user_id, (trigger, position, at) in due.items():
            profile = self._users.get(user_id)
            as_of = position or profile.as_of
            if as_of is not None:
                queries.append(query_of(profile, as_of, trigger, at))
        return queries

    def rank(self, queries: Sequence[Query]) -> list[Listed]:
        """Make these lists, now."""
        if not queries or not self._rules.lists:
            return []
        catalogue = self._replica.catalogue
        lists = rank(queries, catalogue, self._replica.statistics, self._rules.ranking)
        now = self._now()
        made = []
        for query, ranked in zip(queries, lists, strict=True):
            made.append(Listed.of(query, ranked, catalogue, self._encoder, now))
            self._meters.observe("event_to_list_seconds", max(now - query.received_at, 0.0))
        for trigger in {query.trigger for query in queries}:
            count = sum(query.trigger == trigger for query in queries)
            self._meters.add("lists_emitted", count, trigger=trigger)
        return made
