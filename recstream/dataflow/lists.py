"""Lists of one worker: made of its users' states, by its catalogue, statistics and model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from recstream.dataflow.idle_refresh.refresh import IdleRefresh
from recstream.dataflow.messages import DueLists, EncodedList
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.user_cache import UserCache
from recstream.items.catalogue import Catalogue
from recstream.ranking.query import Query, query_of
from recstream.ranking.recommender import RankedItem, Recommender
from recstream.records.recommendation import Trigger, encode_recommendation

__all__ = ["ListBuilder", "encoded_list"]


class ListBuilder:
    """Makes the lists of one worker."""

    def __init__(
        self,
        users: UserCache,
        recommender: Recommender,
        idle_refresh: IdleRefresh | None,
        services: Services,
        rules: DataflowRules,
        *,
        encoder: str,
    ) -> None:
        self._users = users
        self._recommender = recommender
        self._idle_refresh = idle_refresh
        self._rules = rules
        self._meters = services.meters
        self._now = services.now
        self._steady = services.steady
        self._encoder = encoder
        self._generation = services.generation()

    def queries(self, due: DueLists) -> list[Query]:
        """Give what ranking needs of the users whose lists are due; nothing of a user without any event."""
        queries = []
        for user_id, (trigger, position, received_at) in due.items():
            user_state = self._users.get(user_id)
            as_of = position or user_state.as_of
            if as_of is not None:
                queries.append(query_of(user_state, as_of, trigger, received_at))
        return queries

    def rank(self, queries: Sequence[Query]) -> list[EncodedList | None]:
        """Make these lists now; None in place of a refreshed one that says nothing new."""
        if not queries or not self._rules.lists:
            return [None] * len(queries)
        catalogue = self._recommender.catalogue
        begin = self._steady()
        lists = self._recommender.rank(queries)
        if self._idle_refresh is not None:
            self._idle_refresh.note_cost(len(queries), self._steady() - begin)
        now = self._now()
        made: list[EncodedList | None] = []
        emitted: Counter[Trigger] = Counter()
        for query, ranked in zip(queries, lists, strict=True):
            if self._idle_refresh is not None and not self._idle_refresh.note_list(query, ranked):
                made.append(None)
                continue
            made.append(encoded_list(query, ranked, catalogue, self._encoder, self._generation, now))
            emitted[query.trigger] += 1
            if query.trigger != "drift":  # no event asked for it
                self._meters.observe("event_to_list_seconds", max(now - query.received_at, 0.0))
        for trigger, count in emitted.items():
            self._meters.add("lists_emitted", count, trigger=trigger)
        return made


def encoded_list(
    query: Query,
    ranked: Sequence[RankedItem],
    catalogue: Catalogue,
    encoder: str,
    generation: int,
    now: float,
) -> EncodedList:
    """Encode a ranked list; ``now`` (Unix seconds) becomes ``generated_at``."""
    ids = catalogue.ids
    value = encode_recommendation(
        [
            (ids[item], score, signals, [ids[cause] for cause in because])
            for item, score, signals, because in ranked
        ],
        user_id=query.user_id,
        generation=generation,
        version=query.version,
        generated_at=now,
        as_of=query.as_of,
        trigger=query.trigger,
        encoder=encoder,
        catalogue=catalogue.version,
    )
    return EncodedList(query.user_id, generation, query.version, value)
