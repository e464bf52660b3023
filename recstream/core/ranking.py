"""Ranking: users' lists by all signals, how much each is worth being learned from what users choose next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import Handles, Matrix
from recstream.core.blend import Blend
from recstream.core.catalogue import Catalogue
from recstream.core.diversity import Diversity, diversified
from recstream.core.evidence import Evidence, Gatherer
from recstream.core.profile import AsOf, Profile
from recstream.core.reasons import contributions, greatest, name_greatest
from recstream.core.recent import Recent
from recstream.core.session_window import SessionWindow
from recstream.core.signals import CEILINGS, DEFAULT_WEIGHTS, SIGNALS, Query, query_of
from recstream.core.statistics import ItemStatistics, Touch

__all__ = ["Ranked", "RankingRules", "Recommender", "rank", "warm_up"]

_CAUSES: Final = 2
"""Most items named in ``because``."""
_REMEMBERED: Final = 512
"""Newest lessons kept to learn from again."""
_ENOUGH: Final = 16
"""From so many on: to learn a few by heart would turn the weights by chance."""
_REPLAYED: Final = 2
"""So many of them with each new one."""
_NAMED: Final = 6
"""Signals named with an item: those that contributed most, for or against it. The rest is ``other``."""
_NAMES: Final = tuple(SIGNALS)


@dataclass(frozen=True, slots=True)
class RankingRules:
    """How lists are made."""

    top_n: int = 20
    weights: Mapping[str, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)
    """What each signal weighs before anything was learned; those of weight 0 are not used at all."""
    repeats: bool | None = False
    """Whether items the user has seen may be recommended again; None: if the stream shows that people do."""
    diversity: Diversity = field(default_factory=Diversity)


class Ranked(NamedTuple):
    """One item of a list."""

    item: int
    """Catalogue handle."""
    score: float
    signals: dict[str, float]
    """What the greatest signals contributed, and ``other``: they add up to ``score`` (each is rounded)."""
    because: tuple[int, ...]
    """Handles of the user's own items that contributed most, strongest first."""


class Recommender:
    """Makes lists by what is known of items, and learns from what users chose.

    A query's list does not depend on the other queries of a batch (BLAS rounding apart).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        rules: RankingRules,
        *,
        sessions: SessionWindow | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.statistics = statistics
        self.sessions = SessionWindow() if sessions is None else sessions
        self.rules = rules
        self.blend = Blend({name: rules.weights[name] for name in SIGNALS}, ceilings=CEILINGS)
        self.lessons: deque[tuple[Matrix, int, float]] = deque(maxlen=_REMEMBERED)
        """Newest lessons, to learn from again: the candidates' signals, which was chosen, and its weight."""
        self.picked = 1
        """What the next lessons to learn from again are picked by."""
        used = np.array([rules.weights[name] != 0.0 for name in SIGNALS])
        wanted = rules.diversity.pool(rules.top_n) if rules.diversity else rules.top_n
        self.gatherer = Gatherer(catalogue, statistics, self.sessions, used=used, wanted=wanted)
        self.gatherer.repeats = bool(rules.repeats)

    @property
    def people_repeat(self) -> bool:
        """Whether the stream shows that people come back to items (``rules.repeats`` None)."""
        return self.gatherer.repeats

    @people_repeat.setter
    def people_repeat(self, they_do: bool) -> None:
        """Say so; it changes something only where the rules leave it to the stream."""
        if self.rules.repeats is None:
            self.gatherer.repeats = they_do

    def rank(self, queries: Sequence[Query]) -> list[list[Ranked]]:
        """The best items for each query, best first, at most ``top_n``; fewer when too few are left.

        Items that are not available, hidden by the user, or seen (unless repeats are allowed) never appear.
        """
        if not queries or not len(self.catalogue):
            return [[] for _ in queries]
        found = zip(queries, self.gatherer.gather(queries), strict=True)
        return [self._list(query, evidence) for query, evidence in found]

    def learn(self, query: Query, chosen: int, *, weight: float = 1.0) -> bool:
        """Learn from an item that a user chose, given how they stood just before; whether there was a lesson.

        There is none where the item was no candidate: to add it would teach that items without evidence are
        good ones.
        """
        if not len(self.catalogue):
            return False
        (evidence,) = self.gatherer.gather([query])
        (places,) = np.nonzero(evidence.items == chosen)
        if not len(places):
            return False
        self.blend.learn(evidence.signals, int(places[0]), weight=weight)
        self._replay()
        self.lessons.append((evidence.signals.copy(), int(places[0]), weight))
        return True

    def _replay(self) -> None:
        """Learn again from earlier lessons, picked by a fixed rule: far cheaper than gathering new ones.

        Experience replay (Lin, Machine Learning 8, 1992): with two replayed, one event in four teaches as
        much as all of them.
        """
        for _ in range(_REPLAYED if len(self.lessons) >= _ENOUGH else 0):
            self.picked = (self.picked * 6364136223846793005 + 1442695040888963407) % (1 << 64)  # Knuth
            signals, chosen, weight = self.lessons[(self.picked >> 33) % len(self.lessons)]
            self.blend.learn(signals, chosen, weight=weight, is_new=False)

    def _list(self, query: Query, evidence: Evidence) -> list[Ranked]:
        scores = self.blend.score(evidence.signals)
        places = self._best(evidence.items, scores)
        items = evidence.items[places]
        parts = self.blend.split(evidence.signals[places])
        shared = contributions(query, evidence, self.gatherer, items, parts)
        mine = query.recent.tolist()
        return [
            Ranked(item, score, signals, tuple([mine[place] for place in behind if place >= 0]))
            for item, score, signals, behind in zip(
                items.tolist(),
                scores[places].tolist(),
                _named(parts),
                greatest(shared, _CAUSES).tolist(),
                strict=True,
            )
        ]

    def _best(self, items: Handles, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Places of the list's items, best first; ties break by id."""
        wanted = min(self.rules.top_n, len(items))
        if self.rules.diversity:
            wanted = min(self.rules.diversity.pool(self.rules.top_n), len(items))
        if not wanted:
            return np.zeros(0, np.int64)
        places = np.argsort(-scores, kind="stable")
        sorted_scores = scores[places[: wanted + 1]]
        if np.any(sorted_scores[1:] == sorted_scores[:-1]):
            ids = self.catalogue.ids
            tied = np.flatnonzero(scores >= sorted_scores[wanted - 1]).tolist()
            places = np.array(sorted(tied, key=lambda place: (-scores[place], ids[items[place]])))
        best: npt.NDArray[np.int64] = places[:wanted]
        if self.rules.diversity:
            labels = self._labels(items[best])
            best = best[
                diversified(
                    scores[best],
                    self.gatherer.text[items[best]],
                    labels,
                    self.rules.top_n,
                    self.rules.diversity,
                )
            ]
        return best

    def _labels(self, items: Handles) -> list[frozenset[int]]:
        index = self.catalogue.categories
        return [frozenset(index.terms_of(row).tolist()) for row in items.tolist()]


def _named(parts: Matrix) -> list[dict[str, float]]:
    """The greatest parts of each score by their signals' names, and what the rest adds up to as ``other``."""
    order, values, others = name_greatest(parts, _NAMED)
    split = []
    for places, row, other in zip(order.tolist(), values.tolist(), others.tolist(), strict=True):
        signals = {_NAMES[place]: value for place, value in zip(places, row, strict=True) if value}
        if other:
            signals["other"] = other
        split.append(signals)
    return split


def rank(
    queries: Sequence[Query], catalogue: Catalogue, statistics: ItemStatistics, rules: RankingRules
) -> list[list[Ranked]]:
    """Lists of these users by a recommender that has learned nothing yet, and knows no sessions."""
    return Recommender(catalogue, statistics, rules).rank(queries)


def warm_up() -> None:
    """Compile or load the compiled loops, so that the first list does not wait for them."""
    catalogue = Catalogue(2)
    one, other = (catalogue.put(name, np.eye(2, dtype=np.float32)[k]) for k, name in enumerate("ab"))
    statistics = ItemStatistics(2)
    statistics.count([Touch(one, ()), Touch(other, (one,))])
    profile = Profile("warm-up", seen={one: 0.0})
    profile.recent.append(Recent(0.0, 0, one, 1.0, "view"))
    recommender = Recommender(catalogue, statistics, RankingRules())
    query = query_of(profile, AsOf(0.0, "", 0), "event", 0.0)
    recommender.rank([query])
    recommender.learn(query, other)
