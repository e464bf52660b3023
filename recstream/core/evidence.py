"""Evidence: what speaks for and against each item that may be in a user's list, every signal in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core import evidence_kernels as kernels
from recstream.core.arrays import Handles, Matrix
from recstream.core.catalogue import Catalogue
from recstream.core.evidence_kernels import NEAREST_SESSIONS
from recstream.core.lexicon import BUCKETS
from recstream.core.session_window import SessionWindow
from recstream.core.signals import SIGNALS, Query, text_directions
from recstream.core.statistics import ItemStatistics
from recstream.core.views import DENSE, SPARSE, Neighbours, Scratch, User, World

__all__ = ["Evidence", "Gatherer"]

_EACH: Final = 32
"""Best items of each signal that are candidates of a list: their union is some 250 items."""
_MANY: Final = 16
"""From so many lists at once on it is worth while to sort the most popular items for all of them:"""
_TOPS: Final = 400
"""so many at each scale, so that enough are left that a user has not seen."""
_NO_TOPS: Final = np.zeros((0, 0), np.int32)
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
    """Gathers evidence by the catalogue, the statistics and the sessions as they are when it is asked to."""

    def __init__(
        self,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        sessions: SessionWindow,
        *,
        used: npt.NDArray[np.bool_],
        wanted: int = 20,
    ) -> None:
        self.catalogue = catalogue
        self.statistics = statistics
        self.sessions = sessions
        self.repeats = False
        """Whether items that users have seen may be listed."""
        self._used = used
        self._wanted = wanted
        self._each = max(_EACH, wanted // 2)
        self._slots = np.zeros(NEAREST_SESSIONS, np.int32)
        self._likeness = np.zeros(NEAREST_SESSIONS, np.float32)
        self._raw = np.zeros((len(SPARSE), 0), np.float32)

    def _look(self, lists: int = 1) -> None:
        """See the world as it is now, for so many lists."""
        items = len(self.catalogue)
        self.text = self.catalogue.text()
        self.lexicon = self.catalogue.lexicon.postings
        self.categories = self.catalogue.categories.postings
        popularity = self.statistics.relative_popularity(items)
        self.world = World(
            available=self.catalogue.available,
            popularity=popularity,
            since=self.statistics.since(items),
            published=self.catalogue.published,
            filling=self.catalogue.tiebreak,
            tops=self._tops(popularity, items) if lists >= _MANY else _NO_TOPS,
            discounts=self.statistics.discounts,
            tick=self.statistics.tick,
        )
        tables = self.statistics.tables
        self.neighbours = Neighbours(*tables, self.statistics.scales)
        self.window = self.sessions.arrays
        if items > self._raw.shape[1]:
            room = max(1024, 2 * items)
            self._raw = np.zeros((len(SPARSE), room), np.float32)
            self._scratch = Scratch(
                terms=np.zeros(BUCKETS, np.float32),
                slots=np.zeros(self.sessions.most, np.float32),
                touched=np.zeros(self.sessions.most, np.int32),
                places=np.zeros(room, np.int32),
                marks=np.zeros(room, np.int8),
            )
            most = min(room, self._each * (len(SIGNALS) + 1) + self._wanted)
            self._items = np.zeros(most, np.int32)
            self._signals = np.zeros((most, len(SIGNALS)), np.float32)

    def _tops(self, popularity: npt.NDArray[np.float64], items: int) -> Handles:
        tops = np.full((len(popularity) + 1, min(_TOPS, items)), -1, np.int32)
        for top, scores in zip(tops, (*popularity, self.statistics.since(items)), strict=True):
            shown = np.where(self.catalogue.available, scores, 0.0)
            # Those as good as the last one are left out: which of them there is room for would be chance.
            least = np.partition(shown, items - len(top))[items - len(top)] if len(top) < items else 0.0
            best = np.flatnonzero(shown > least)
            top[: len(best)] = best[np.argsort(-shown[best], kind="stable")]
        return tops

    @property
    def scratch(self) -> Scratch:
        """Room for the compiled loops; zeros between their calls."""
        return self._scratch

    def gather(self, queries: Sequence[Query]) -> Iterator[Evidence]:
        """The evidence of each query's list, in their order; each is overwritten by the next."""
        self._look(len(queries))
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
            turned_strength=query.turned_strength,
            again=query.again if self.repeats else none,
            again_weights=query.again_weights if self.repeats else none.astype(np.float32),
            passed=query.passed,
            excluded=query.hidden if self.repeats else query.excluded,
            session=self.sessions.current(query.user_id),
            now=query.as_of.ts,
            strengths=strengths,
        )

    def _gather(self, user: User, dense: Matrix) -> Evidence:
        raw = self._raw[:, : len(self.text)]
        raw[:] = 0.0
        found, count = kernels.gather(
            user,
            self.world,
            self.neighbours,
            self.lexicon,
            self.categories,
            self.window,
            dense,
            raw,
            self._each,
            self._wanted,
            self._used,
            self._scratch,
            self._slots,
            self._likeness,
            self._items,
            self._signals,
        )
        items, signals = self._items[:count], self._signals[:count]
        return Evidence(items, signals, user, raw, self._slots[:found], self._likeness[:found])
