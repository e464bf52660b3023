"""Makes lists: of users as they are now, by the worker's catalogue and statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from recstream.core.ranking import Recommender
from recstream.core.signals import Query, Trigger, query_of
from recstream.engine.drift import Drift
from recstream.engine.hot_set import HotSet
from recstream.engine.lists import Listed
from recstream.engine.services import EngineRules, Services
from recstream.engine.step import Dues

__all__ = ["ListMaker"]


class ListMaker:
    """The lists of one worker."""

    def __init__(
        self,
        users: HotSet,
        recommender: Recommender,
        drift: Drift | None,
        services: Services,
        rules: EngineRules,
        *,
        encoder: str,
    ) -> None:
        self._users = users
        self._recommender = recommender
        self._drift = drift
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

    def rank(self, queries: Sequence[Query]) -> list[Listed | None]:
        """Make these lists, now; None in place of one that says nothing new, and does not leave."""
        if not queries or not self._rules.lists:
            return [None] * len(queries)
        catalogue = self._recommender.catalogue
        lists = self._recommender.rank(queries)
        now = self._now()
        made: list[Listed | None] = []
        emitted: Counter[Trigger] = Counter()
        for query, ranked in zip(queries, lists, strict=True):
            if self._drift is not None and not self._drift.leaves(query, ranked):
                made.append(None)
                continue
            made.append(Listed.of(query, ranked, catalogue, self._encoder, now))
            emitted[query.trigger] += 1
            if query.trigger != "drift":  # no event asked for it
                self._meters.observe("event_to_list_seconds", max(now - query.received_at, 0.0))
        for trigger, count in emitted.items():
            self._meters.add("lists_emitted", count, trigger=trigger)
        return made
