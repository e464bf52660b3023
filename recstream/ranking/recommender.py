"""The recommender: makes users' lists, and learns what each signal is worth from what users choose next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.items.catalogue import Catalogue
from recstream.items.session_index import SessionIndex
from recstream.items.statistics import Interaction, ItemStatistics
from recstream.items.terms import pack, text_terms
from recstream.ranking.explain import explain
from recstream.ranking.features import FeatureExtractor
from recstream.ranking.kernels.candidates import best_places
from recstream.ranking.kernels.structs import CandidateFeatures
from recstream.ranking.models.table import DEFAULT_MODEL, new_model
from recstream.ranking.query import Query, query_of
from recstream.ranking.rerank import Diversity, diversified
from recstream.ranking.signals.table import SIGNALS, default_weights
from recstream.records.arrays import Handles, Matrix
from recstream.users.sessions import RecentEvent
from recstream.users.state import AsOf, UserState

__all__ = ["MOST_CAUSES", "RankedItem", "RankingRules", "Recommender", "rank", "warm_up"]

MOST_CAUSES: Final = 2
"""Most items named in ``because``."""
_REPLAY_BUFFER: Final = 512
"""Training examples kept to learn from again, the newest."""
_REPLAY_FROM: Final = 16
"""Examples from which on they are replayed: to learn a few by heart would move the weights by chance."""
_REPLAYED: Final = 2
"""Examples of the buffer learned from again with each new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingRules:
    """How lists are made."""

    top_n: int
    weights: Mapping[str, float]
    """What each signal weighs before anything was learned; those of weight 0 are not computed."""
    repeats: bool | None
    """Whether items the user has seen may be recommended again; None: if the stream shows that people do."""
    diversity: Diversity
    model: str
    """Name of the ranking model in `MODELS`."""


class RankedItem(NamedTuple):
    """One item of a list."""

    item: int
    """Catalogue handle."""
    score: float
    signals: dict[str, float]
    """What the signals that count most contributed, and ``other``: they add up to ``score``, each rounded."""
    because: tuple[int, ...]
    """Handles of the user's own items that contributed most, strongest first."""


class Recommender:
    """Makes lists by what is known of items and users, and learns from what users chose.

    A query's list does not depend on the other queries of a batch (BLAS rounding apart).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        rules: RankingRules,
        *,
        sessions: SessionIndex | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.statistics = statistics
        self.sessions = SessionIndex() if sessions is None else sessions
        self.rules = rules
        self.model = new_model(rules.weights, rules.model)
        self.replay_buffer: deque[tuple[Matrix, int, float]] = deque(maxlen=_REPLAY_BUFFER)
        """Newest training examples: the candidates' signals, which of them was chosen, and the weight."""
        self.picked = 1
        """State of the generator that picks the examples to learn from again."""
        wanted = rules.diversity.pool(rules.top_n) if rules.diversity else rules.top_n
        self.extractor = FeatureExtractor(
            catalogue, statistics, self.sessions, weights=rules.weights, wanted=wanted
        )
        self.extractor.repeats = bool(rules.repeats)
        self._names = np.array([*SIGNALS, ""], object)
        """Names of the signals by column; the last one, at -1, stands for none."""

    @property
    def people_repeat(self) -> bool:
        """Whether the stream shows that people come back to items (``rules.repeats`` None)."""
        return self.extractor.repeats

    @people_repeat.setter
    def people_repeat(self, is_so: bool) -> None:
        """Allow repeats or not, where the rules leave it to the stream."""
        if self.rules.repeats is None:
            self.extractor.repeats = is_so

    def rank(self, queries: Sequence[Query]) -> list[list[RankedItem]]:
        """The best items for each query, best first, at most ``top_n``; fewer when too few are left.

        Items that are not available, hidden by the user, or seen (unless repeats are allowed) never appear.
        """
        if not queries or not len(self.catalogue):
            return [[] for _ in queries]
        lists: list[list[RankedItem]] = []
        for features in self.extractor.extract(queries):
            some = queries[len(lists) : len(lists) + len(features.sessions_found)]
            lists += self._lists(some, features)
        return lists

    def learn(self, query: Query, chosen: int, *, weight: float = 1.0) -> bool:
        """Learn from an item that a user chose, by the query of just before; False: nothing was learned.

        Nothing is learned where the item was no candidate: to add it would teach that items of which nothing
        is known are good ones.
        """
        if not len(self.catalogue):
            return False
        (features,) = self.extractor.extract([query])
        (places,) = np.nonzero(features.items == chosen)
        if not len(places):
            return False
        example = np.ascontiguousarray(features.signals), int(places[0]), weight
        self.model.learn(*example[:2], weight=weight)
        self._replay()
        self.replay_buffer.append(example)
        return True

    def _replay(self) -> None:
        """Learn again from earlier examples, picked by a fixed rule: far cheaper than extracting new ones.

        Experience replay (Lin, Machine Learning 8, 1992): with two replayed, one event in four teaches as
        much as all of them.
        """
        for _ in range(_REPLAYED if len(self.replay_buffer) >= _REPLAY_FROM else 0):
            self.picked = (self.picked * 6364136223846793005 + 1442695040888963407) % (1 << 64)  # Knuth
            signals, chosen, weight = self.replay_buffer[(self.picked >> 33) % len(self.replay_buffer)]
            self.model.learn(signals, chosen, weight=weight, is_new=False)

    def _lists(self, queries: Sequence[Query], features: CandidateFeatures) -> list[list[RankedItem]]:
        if not len(features.items):
            return [[] for _ in queries]
        scores = self.model.score(features.signals)
        places = self._best(features, scores)
        why = explain(features, self.extractor, self.model, places, MOST_CAUSES)
        is_listed = places >= 0
        listed_places = places[is_listed]
        listed = zip(
            features.items[listed_places].tolist(),
            scores[listed_places].tolist(),
            self._names[why.signals[is_listed]].tolist(),
            why.values[is_listed].tolist(),
            why.others[is_listed].tolist(),
            why.causes[is_listed].tolist(),
            strict=True,
        )
        lists = []
        for query, count in zip(queries, is_listed.sum(axis=1).tolist(), strict=True):
            mine = query.recent.tolist()
            lists.append(
                [
                    RankedItem(item, score, _named(names, values, other), _caused(causes, mine))
                    for item, score, names, values, other, causes in islice(listed, count)
                ]
            )
        return lists

    def _best(self, features: CandidateFeatures, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Places of the lists' items in ``features``, best first; ties break by id; -1: no more.

        Shape ``(lists, top_n)``.
        """
        diversity, top_n = self.rules.diversity, self.rules.top_n
        best, tied = best_places(scores, features.ends, diversity.pool(top_n) if diversity else top_n)
        for k in np.flatnonzero(tied).tolist():
            wanted = best[k][best[k] >= 0]
            begin, ids = features.ends[k], self.catalogue.ids
            mine, items = scores[features.of(k)], features.items[features.of(k)]
            as_good = np.flatnonzero(mine >= scores[wanted[-1]]).tolist()
            as_good.sort(key=lambda place, mine=mine, items=items: (-mine[place], ids[items[place]]))
            best[k, : len(wanted)] = begin + np.array(as_good[: len(wanted)])
        if not diversity:
            return best
        places = np.full((len(best), top_n), -1, np.int64)
        for k, pool in enumerate(best):
            some = pool[pool >= 0]
            items = features.items[some]
            chosen = some[
                diversified(scores[some], self.extractor.text[items], self._labels(items), top_n, diversity)
            ]
            places[k, : len(chosen)] = chosen
        return places

    def _labels(self, items: Handles) -> list[frozenset[int]]:
        index = self.catalogue.categories
        return [frozenset(index.terms_of(row).tolist()) for row in items.tolist()]


def _named(names: list[str], values: list[float], other: float) -> dict[str, float]:
    """What the signals contributed, by name, and the sum of the rest as ``other``; nothing that is 0."""
    signals = dict(zip(names, values, strict=True))
    if not all(values):
        signals = {name: value for name, value in signals.items() if value}
    if other:
        signals["other"] = other
    return signals


def _caused(places: list[int], mine: list[int]) -> tuple[int, ...]:
    """The user's own items at these places; -1 is none."""
    return tuple([mine[place] for place in places if place >= 0])


def rank(
    queries: Sequence[Query], catalogue: Catalogue, statistics: ItemStatistics, rules: RankingRules
) -> list[list[RankedItem]]:
    """Lists of these users by a recommender that has learned nothing and knows no sessions."""
    return Recommender(catalogue, statistics, rules).rank(queries)


def warm_up() -> None:
    """Compile or load the kernels, so that the first list does not wait for them."""
    catalogue = Catalogue(2)
    words = pack(text_terms("one word"))
    one, other, _ = (
        catalogue.put(name, np.eye(2, dtype=np.float32)[k % 2], terms=words) for k, name in enumerate("aba")
    )
    statistics = ItemStatistics(2)
    statistics.count([Interaction(one, ()), Interaction(other, (one,))])
    user_state = UserState("warm-up", seen={one: 0.0})
    user_state.recent.append(RecentEvent(0.0, 0, one, 1.0, "view"))
    rules = RankingRules(
        top_n=20, weights=default_weights(), repeats=False, diversity=Diversity(0.0, 0), model=DEFAULT_MODEL
    )
    recommender = Recommender(catalogue, statistics, rules)
    query = query_of(user_state, AsOf(0.0, "", 0), "event", 0.0)
    recommender.rank([query])
    recommender.rank([query] * 64)  # many are made in another way
    recommender.learn(query, other)
