"""Evidence: what speaks for and against each item that may be in a user's list, every signal in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core import evidence_kernels as kernels
from recstream.core.arrays import Handles, Matrix
from recstream.core.catalogue import Catalogue
from recstream.core.evidence_kernels import DENSE, NEAREST_SESSIONS, SPARSE, Neighbours, User, World
from recstream.core.session_window import SessionWindow
from recstream.core.signals import SIGNALS, Query, text_directions
from recstream.core.statistics import SCALES, ItemStatistics

__all__ = ["Evidence", "Gatherer"]

_EACH: Final = 40
"""Best items of each signal that are candidates of a list: their union is some 250 items."""
_TOPS: Final = 400
"""Most popular items kept ready at each scale, so that enough are left that the user has not seen."""
_BLOCK_BYTES: Final = 8 << 20
"""Text scores held at once: users are worked off in blocks whose scores stay near the caches."""


class Evidence(NamedTuple):
    """The candidates of one list, and what speaks for each. Views: true until the next is asked for."""

    items: Handles
    """Distinct, in no order that means anything."""
    signals: Matrix
    """Shape ``(candidates, signals)``, float32, columns as in `SIGNALS`."""
    user: User
    raw: npt.NDArray[np.float32]
    """Measures of the sparse signals, ``(SPARSE, items)``."""
    sessions: npt.NDArray[np.int32]
    """Slots of the sessions that were found most like the user's own."""
    likeness: npt.NDArray[np.float32]


class Gatherer:
    """Gathers evidence by the catalogue and statistics of a moment: made anew for each batch of lists."""

    def __init__(
        self,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        sessions: SessionWindow,
        *,
        used: npt.NDArray[np.bool_],
        repeats: bool,
    ) -> None:
        items = len(catalogue)
        statistics.reserve(items)
        self.catalogue = catalogue
        self.text = catalogue.text()
        self.lexicon = catalogue.lexicon.postings
        self.categories = catalogue.categories.postings
        self.world = _world(catalogue, statistics)
        neighbours, followed_by, together_with = statistics.tables
        roots = np.sqrt(statistics.weights(len(neighbours)) + 1.0).astype(np.float32)
        self.neighbours = Neighbours(neighbours, followed_by, together_with, roots)
        self.sessions = sessions
        self.window = sessions.arrays
        self._used = used
        self._repeats = repeats
        self._raw = np.zeros((len(SPARSE), items), np.float32)
        self._terms = np.zeros(len(self.lexicon.heads), np.float32)
        self._marks = np.zeros(items, np.int8)
        self._places = np.zeros(items, np.int32)
        self._by_slot = np.zeros(sessions.most, np.float32)
        self._slots = np.zeros(NEAREST_SESSIONS, np.int32)
        self._likeness = np.zeros(NEAREST_SESSIONS, np.float32)
        most = min(items, _EACH * (len(SIGNALS) + 1))
        self._items = np.zeros(most, np.int32)
        self._signals = np.zeros((most, len(SIGNALS)), np.float32)

    def gather(self, queries: Sequence[Query]) -> Iterator[Evidence]:
        """The evidence of each query's list, in their order; each is overwritten by the next."""
        block = max(1, _BLOCK_BYTES // (4 * len(DENSE) * max(len(self.text), 1)))
        for at in range(0, len(queries), block):
            some = queries[at : at + block]
            directions, strengths = text_directions(some, self.catalogue)
            spoken = strengths.reshape(-1) > 0.0
            dense = np.zeros((len(spoken), len(self.text)), np.float32)
            dense[spoken] = directions.reshape(len(spoken), -1)[spoken] @ self.text.T
            for k, query in enumerate(some):
                mine = dense[k * len(DENSE) : (k + 1) * len(DENSE)]
                yield self._gather(self.view(query, strengths[k]), mine)

    def view(self, query: Query, strengths: npt.NDArray[np.float32]) -> User:
        """A query as the compiled loops see it."""
        none = np.zeros(0, np.int32)
        return User(
            recent=query.recent,
            turned=query.turned,
            again=query.again if self._repeats else none,
            again_weights=query.again_weights if self._repeats else none.astype(np.float32),
            passed=query.passed,
            excluded=query.hidden if self._repeats else query.excluded,
            session=self.sessions.current(query.user_id),
            now=query.as_of.ts,
            strengths=strengths,
        )

    def _gather(self, user: User, dense: Matrix) -> Evidence:
        raw = self._raw
        raw[:] = 0.0
        kernels.gather_sparse(user, self.neighbours, self.lexicon, self.categories, self._terms, raw)
        found = kernels.find_sessions(
            user, self.world, self.window, self._by_slot, self._places, self._slots, self._likeness, raw
        )
        count = kernels.choose_candidates(user, self.world, dense, raw, _EACH, self._marks, self._items)
        items, signals = self._items[:count], self._signals[:count]
        kernels.candidate_signals(user, self.world, dense, raw, items, self._used, signals)
        return Evidence(items, signals, user, raw, self._slots[:found], self._likeness[:found])


def _world(catalogue: Catalogue, statistics: ItemStatistics) -> World:
    items = len(catalogue)
    popularity = np.stack([statistics.popularity(items, scale) for scale in range(len(SCALES))])
    since = statistics.since(items)
    known = catalogue.available
    tops = np.full((len(SCALES) + 1, min(_TOPS, items)), -1, np.int32)
    newest_first = np.where(np.isfinite(since), since, -math.inf)
    for row, values in zip(tops, (*popularity, newest_first), strict=True):
        values = np.where(known, values, -math.inf)
        best = np.argpartition(-values, len(row) - 1)[: len(row)]
        best = best[np.lexsort((best, -values[best]))]
        best = best[values[best] > 0.0]
        row[: len(best)] = best
    counts = popularity[-1]
    return World(
        available=known,
        popularity=popularity.astype(np.float32),
        tops=tops,
        idf=np.log(1.0 + statistics.tick / (1.0 + counts)).astype(np.float32),
        rarity=((1.0 + counts) ** -0.25).astype(np.float32),
        since=since,
        published=catalogue.published,
        tick=statistics.tick,
    )
