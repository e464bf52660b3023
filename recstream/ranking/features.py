"""Evidence: what speaks for and against each item that may be in a user's list, every signal in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.items.catalogue import Catalogue
from recstream.items.jit import compiled, top_k_threshold
from recstream.items.session_index import SessionIndex
from recstream.items.statistics import ItemStatistics
from recstream.items.terms import BUCKETS
from recstream.ranking.kernels import features as kernels
from recstream.ranking.kernels.candidates import MORE, NO_MORE
from recstream.ranking.kernels.features import NEAREST_SESSIONS
from recstream.ranking.kernels.structs import (
    DENSE,
    SPARSE,
    CatalogueArrays,
    Neighbours,
    UserBatchArrays,
    Workspace,
)
from recstream.ranking.query import Query
from recstream.ranking.signals import SIGNALS
from recstream.records.arrays import AnyArray, Handles, Matrix

__all__ = ["CandidateFeatures", "FeatureExtractor", "text_directions"]

_EACH: Final = 32
"""Best items of each signal that are candidates of a list: their union is some 250 items."""
_MANY: Final = 16
"""From so many lists at once on it is worth while to sort the most popular items for all of them:"""
_TOPS: Final = 400
"""so many at each scale, so that enough are left that a user has not seen."""
_NO_TOPS: Final = np.zeros((0, 0), np.int32)
_PRODUCTS: Final = len(DENSE) - 1
"""Most products of a list with all texts: what is disliked is asked of the candidates alone."""
_BLOCK_FLOATS: Final = 1 << 21
"""Text scores held at once: users are worked off in blocks whose scores stay in the caches."""


class CandidateFeatures(NamedTuple):
    """The candidates of some lists, and what speaks for each. Views: true until the next are asked for."""

    items: Handles
    """Shape ``(candidates,)``: those of one list after those of the one before; of each list distinct, in no
    order that means anything."""
    signals: Matrix
    """Shape ``(candidates, signals)``, float32, columns as in `SIGNALS`; each column is contiguous."""
    ends: npt.NDArray[np.int64]
    """Shape ``(lists + 1,)``: list k's candidates are from ``ends[k]`` up to ``ends[k + 1]``."""
    users: UserBatchArrays
    sessions: npt.NDArray[np.int32]
    """Shape ``(lists, some)``: slots of the sessions that were found most like each user's own;"""
    likeness: npt.NDArray[np.float32]
    """how like each of them is;"""
    found: npt.NDArray[np.int64]
    """and how many they are, ``(lists,)``."""

    def of(self, k: int) -> slice:
        """Where a list's candidates are."""
        return slice(int(self.ends[k]), int(self.ends[k + 1]))


class FeatureExtractor:
    """Gathers evidence by the catalogue, the statistics and the sessions as they are when it is asked to."""

    def __init__(
        self,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        sessions: SessionIndex,
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
        self._raw = np.zeros((len(SPARSE), 0), np.float32)
        self._found = np.zeros(0, np.int64)
        self._items = np.zeros(0, np.int32)

    def _look(self, lists: int = 1) -> None:
        """See the world as it is now, for so many lists."""
        items = len(self.catalogue)
        self.catalogue.refresh_transform()
        self.text = self.catalogue.text()
        popularity = self.statistics.relative_popularity(items)
        self.arrays = CatalogueArrays(
            available=self.catalogue.available,
            popularity=popularity,
            since=self.statistics.since(items),
            published=self.catalogue.published,
            filling=self.catalogue.tiebreak,
            tops=self._tops(popularity, items) if lists >= _MANY else _NO_TOPS,
            discounts=self.statistics.discounts,
            tick=self.statistics.tick,
            near=Neighbours(*self.statistics.tables, self.statistics.scales),
            lexicon=self.catalogue.lexicon.postings,
            categories=self.catalogue.categories.postings,
            sessions=self.sessions.arrays,
            text=self.text,
        )
        if (
            items >= self._raw.shape[1]
        ):  # never all of the room is used: a loop is compiled for parts of arrays
            room = max(1024, 2 * items)
            self._raw = np.zeros((len(SPARSE), room), np.float32)
            self._scratch = Workspace(
                terms=np.zeros(BUCKETS, np.float32),
                slots=np.zeros(self.sessions.capacity, np.float32),
                touched=np.zeros(self.sessions.capacity + 1, np.int32),
                places=np.zeros(room, np.int32),
                rows=np.zeros(room, np.int32),
                marks=np.zeros(room, np.int8),
            )
            self._products = np.zeros(max(_BLOCK_FLOATS, _PRODUCTS * room), np.float32)

    def _tops(self, popularity: npt.NDArray[np.float64], items: int) -> Handles:
        tops = np.empty((len(popularity) + 1, min(_TOPS, items)), np.int32)
        for top, scores in zip(tops, (*popularity, self.statistics.since(items)), strict=True):
            shown = np.where(self.catalogue.available, scores, 0.0)
            bound = top_k_threshold(shown, 3 * len(top) // 4, len(top))
            best = np.flatnonzero(shown >= bound) if bound else np.flatnonzero(shown)
            if len(best) > len(top):
                # Those as good as the last one are left out: which of them there is room for would be chance.
                bound = np.partition(shown, items - len(top))[items - len(top)]
                best = np.flatnonzero(shown > bound)
            top[len(best) :] = MORE if bound else NO_MORE
            top[: len(best)] = best[np.lexsort((-self.catalogue.tiebreak[best], -shown[best]))]
        return tops

    @property
    def workspace(self) -> Workspace:
        """Room for the compiled loops; zeros between their calls."""
        return self._scratch

    def gather(self, queries: Sequence[Query]) -> Iterator[CandidateFeatures]:
        """The evidence of the queries' lists, in their order, some lists at a time."""
        self._look(len(queries))
        block = max(1, _BLOCK_FLOATS // (_PRODUCTS * len(self.text)))
        for at in range(0, len(queries), block):
            yield self._gather(queries[at : at + block])

    def _gather(self, queries: Sequence[Query]) -> CandidateFeatures:
        users = self._users(queries)
        is_told = users.strengths[:, :-1] > 0.0
        products = self.catalogue.likeness(users.directions[:, :-1][is_told], self._products)
        np.copyto(users.products, np.cumsum(is_told).reshape(is_told.shape) - 1, where=is_told)
        lists = len(queries)
        most = lists * min(self._each * (len(SIGNALS) + 1) + self._wanted, len(self.text))
        if lists > len(self._found) or most > len(self._items):
            self._found = np.zeros(lists, np.int64)
            self._ends = np.zeros(lists + 1, np.int64)
            self._slots = np.zeros((lists, NEAREST_SESSIONS), np.int32)
            self._likeness = np.zeros((lists, NEAREST_SESSIONS), np.float32)
            self._items = np.zeros(most, np.int32)
            self._columns = np.zeros((len(SIGNALS), most + 1), np.float32)  # likewise never used up
        found, ends = self._found[:lists], self._ends[: lists + 1]
        kernels.extract_all(
            users,
            self.arrays,
            products,
            self._raw[:, : len(self.text)],
            self._each,
            self._wanted,
            self._used,
            self._scratch,
            self._slots,
            self._likeness,
            found,
            self._items,
            self._columns,
            ends,
        )
        count = int(ends[-1])
        items, signals = self._items[:count], self._columns[:, :count].T
        return CandidateFeatures(
            items, signals, ends, users, self._slots[:lists], self._likeness[:lists], found
        )

    def _users(self, queries: Sequence[Query]) -> UserBatchArrays:
        recent, recent_ends = _joined([query.recent for query in queries])
        weights, _ = _joined([query.recent_weights for query in queries])
        directions, strengths = text_directions(queries, recent, weights, recent_ends, self.catalogue)
        turned, turned_ends = _joined([query.turned for query in queries])
        again, again_ends = _joined([query.again[: self._again] for query in queries])
        passed, passed_ends = _joined([query.passed for query in queries])
        excluded = [query.hidden if self.repeats else query.excluded for query in queries]
        return UserBatchArrays(
            recent,
            weights,
            recent_ends,
            turned,
            turned_ends,
            np.array([query.turned_strength for query in queries]),
            again,
            _joined([query.again_weights[: self._again] for query in queries])[0],
            again_ends,
            passed,
            passed_ends,
            *_joined(excluded),
            np.array([self.sessions.current(query.user_id) for query in queries], np.int64),
            np.array([query.as_of.ts for query in queries]),
            directions,
            strengths,
            np.full((len(queries), _PRODUCTS), -1, np.int64),
        )

    @property
    def _again(self) -> int | None:
        """Where to cut the items of their own that users may get again: all count (None), or none."""
        return None if self.repeats else 0


def _joined(parts: Sequence[AnyArray]) -> tuple[AnyArray, npt.NDArray[np.int64]]:
    """The parts one after the other, and where each ends.

    >>> _joined([np.array([7, 8], "i4"), np.array([9], "i4")])
    (array([7, 8, 9], dtype=int32), array([0, 2, 3]))
    """
    if len(parts) == 1:
        return parts[0], np.array([0, len(parts[0])])
    ends = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=ends[1:])
    return np.concatenate(parts), ends


_WORDS: Final = DENSE.index("words")
_SHORT_TERM: Final = DENSE.index("short_term")
_LONG_TERM: Final = DENSE.index("long_term")
_DISLIKED: Final = DENSE.index("disliked")


def text_directions(
    queries: Sequence[Query],
    recent: Handles,
    weights: npt.NDArray[np.float32],
    ends: npt.NDArray[np.int64],
    catalogue: Catalogue,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The users' tastes as unit directions in the space of `Catalogue.text`, ``(queries, 4, dims)``.

    In the order of `DENSE`; zeros where there is no evidence. With them how much evidence there is, 0 to 1,
    ``(queries, 4)``: that of ``words`` falls as items follow the words. ``recent`` and ``weights`` are the
    queries' own, one after the other, query k's from ``ends[k]`` up to ``ends[k + 1]``.
    """
    text = catalogue.text()
    directions = np.zeros((len(queries), len(DENSE), text.shape[1]), np.float32)
    strengths = np.zeros((len(queries), len(DENSE)), np.float32)
    told = [
        (k, at, total, weight)
        for k, query in enumerate(queries)
        for at, total, weight in (
            (_WORDS, query.words, query.words_weight),
            (_LONG_TERM, query.long_term, query.long_term_weight),
            (_DISLIKED, query.disliked, query.disliked_weight),
        )
        if total is not None
    ]
    if told:
        users, kinds, sums, held = map(np.array, zip(*told, strict=True))
        directions[users, kinds] = catalogue.transform.apply(sums, held)
        strengths[users, kinds] = np.where(kinds == _LONG_TERM, 1.0, np.minimum(held, 1.0))
    _finish(directions, strengths, recent, weights, ends, text)
    return directions, strengths


@compiled
def _finish(
    directions: AnyArray,
    strengths: AnyArray,
    recent: AnyArray,
    weights: AnyArray,
    ends: AnyArray,
    text: AnyArray,
) -> None:
    """Add the short term, and make all of them unit vectors; there is no evidence in one of zeros."""
    for k in range(len(directions)):
        mine = directions[k]
        for at in range(ends[k], ends[k + 1]):
            row, weight = text[recent[at]], weights[at]
            for d in range(len(row)):
                mine[_SHORT_TERM, d] += weight * row[d]
            strengths[k, _SHORT_TERM] = 1.0
        for one in range(len(mine)):
            length = np.float32(0.0)
            for d in range(mine.shape[1]):
                length += mine[one, d] * mine[one, d]
            length = math.sqrt(length)
            if length > 1e-6:
                for d in range(mine.shape[1]):
                    mine[one, d] /= length
            else:
                strengths[k, one] = 0.0
