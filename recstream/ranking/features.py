"""Candidates of users' lists and their features: every signal of every candidate, a share from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recstream.items.catalogue import Catalogue
from recstream.items.jit import top_k_threshold
from recstream.items.session_index import SessionIndex
from recstream.items.statistics import ItemStatistics
from recstream.items.terms import BUCKETS
from recstream.ranking.kernels import features as kernels
from recstream.ranking.kernels.candidates import MORE, NO_MORE
from recstream.ranking.kernels.features import NEAREST_SESSIONS
from recstream.ranking.kernels.structs import (
    PER_CANDIDATE,
    PER_ITEM,
    POPULARITY,
    TEXT,
    CandidateFeatures,
    CatalogueArrays,
    Neighbours,
    SignalColumns,
    UserBatchArrays,
    Workspace,
)
from recstream.ranking.query import Query
from recstream.ranking.repeats import repeatable_items
from recstream.ranking.signals.base import CandidateBlock, Signal
from recstream.ranking.signals.table import SIGNALS
from recstream.records.arrays import AnyArray, Handles

__all__ = ["FeatureExtractor", "text_directions"]

_EACH: Final = 32
"""Best items of each signal that are candidates of a list: their union is some 250 items."""
_MANY_LISTS: Final = 16
"""From so many lists at once on, the most popular items are sorted once for all of them."""
_TOP_ITEMS: Final = 400
"""How many of the most popular items are sorted at each scale: enough that some are left which a user has not
seen."""
_NO_TOP_ITEMS: Final = np.zeros((0, 0), np.int32)
_NO_ITEMS: Final = np.zeros(0, np.int32)
_NO_WEIGHTS: Final = np.zeros(0, np.float32)
_BLOCK_FLOATS: Final = 1 << 21
"""Text scores held at once: a block has as many lists as keep their scores in the processor's caches."""
_FULL: Final = 1.001
"""Greatest value of a signal, give or take rounding."""


class FeatureExtractor:
    """Finds candidates and computes their features, by catalogue, statistics and sessions as they are now.

    ``weights`` are those of the signals: the ones of weight 0 are not computed. ``wanted`` is how many
    candidates a list needs at least.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        statistics: ItemStatistics,
        sessions: SessionIndex,
        *,
        weights: Mapping[str, float],
        wanted: int = 20,
    ) -> None:
        self.catalogue = catalogue
        self.statistics = statistics
        self.sessions = sessions
        self.repeats = False
        """Whether items that users have seen may be listed."""
        signals = list(SIGNALS.values())
        self.columns = _columns_of(signals, weights)
        """Which column of the features is a signal's."""
        self._own = [
            (column, signal.name, signal.compute)
            for column, signal in enumerate(signals)
            if signal.compute is not None and weights[signal.name] != 0.0
        ]
        self._nominating_texts = self.columns.nominates[self.columns.text]
        self._signals = len(signals)
        self._wanted = wanted
        self._each = max(_EACH, wanted // 2)
        self._measures = np.zeros((len(PER_ITEM), 0), np.float32)
        self._sessions_found = np.zeros(0, np.int64)
        self._items = np.zeros(0, np.int32)

    def _refresh(self, lists: int) -> None:
        """Take the catalogue, the statistics and the sessions as they are now, for so many lists."""
        items = len(self.catalogue)
        self.catalogue.refresh_transform()
        self.text = self.catalogue.text()
        popularity = self.statistics.relative_popularity(items)
        self.arrays = CatalogueArrays(
            available=self.catalogue.available,
            popularity=popularity,
            since=self.statistics.since(items),
            published=self.catalogue.published,
            tiebreak=self.catalogue.tiebreak,
            top_items=self._top_items(popularity, items) if lists >= _MANY_LISTS else _NO_TOP_ITEMS,
            discounts=self.statistics.discounts,
            tick=self.statistics.tick,
            neighbours=Neighbours(*self.statistics.tables, self.statistics.scales),
            lexicon=self.catalogue.lexicon.postings,
            categories=self.catalogue.categories.postings,
            sessions=self.sessions.arrays,
            text=self.text,
        )
        if items >= self._measures.shape[1]:
            # Never all of the room is used: kernels are compiled for parts of arrays, not for whole ones.
            room = max(1024, 2 * items)
            self._measures = np.zeros((len(PER_ITEM), room), np.float32)
            self._workspace = Workspace(
                terms=np.zeros(BUCKETS, np.float32),
                slots=np.zeros(self.sessions.capacity, np.float32),
                slots_met=np.zeros(self.sessions.capacity + 1, np.int32),
                places=np.zeros(room, np.int32),
                rows=np.zeros(room, np.int32),
                marks=np.zeros(room, np.int8),
            )
            self._products = np.zeros(max(_BLOCK_FLOATS, self._most_products * room), np.float32)

    def _top_items(self, popularity: npt.NDArray[np.float64], items: int) -> Handles:
        """The most popular items of each scale and the newest ones: see `CatalogueArrays`."""
        top_items = np.empty((len(popularity) + 1, min(_TOP_ITEMS, items)), np.int32)
        for top, scores in zip(top_items, (*popularity, self.statistics.since(items)), strict=True):
            shown = np.where(self.catalogue.available, scores, 0.0)
            bound = top_k_threshold(shown, 3 * len(top) // 4, len(top))
            best = np.flatnonzero(shown >= bound) if bound else np.flatnonzero(shown)
            if len(best) > len(top):
                # Those as good as the last one are left out: which of them there is room for would be chance.
                bound = np.partition(shown, items - len(top))[items - len(top)]
                best = np.flatnonzero(shown > bound)
            top[len(best) :] = MORE if bound else NO_MORE
            top[: len(best)] = best[np.lexsort((-self.catalogue.tiebreak[best], -shown[best]))]
        return top_items

    @property
    def workspace(self) -> Workspace:
        """Room for the kernels; zeros between their calls."""
        return self._workspace

    @property
    def _most_products(self) -> int:
        """Most products of a list with all texts: signals that nominate need them."""
        return max(1, int(self._nominating_texts.sum()))

    def extract(self, queries: Sequence[Query]) -> Iterator[CandidateFeatures]:
        """The features of the queries' lists, in their order, a block of lists at a time.

        Raises:
            ValueError: a signal's own ``compute`` wrote something that is no share from 0 to 1.
        """
        self._refresh(len(queries))
        block = max(1, _BLOCK_FLOATS // (self._most_products * len(self.text)))
        for at in range(0, len(queries), block):
            yield self._extract(queries[at : at + block])

    def _extract(self, queries: Sequence[Query]) -> CandidateFeatures:
        users = self._users(queries)
        needed = (users.strengths > 0.0) & self._nominating_texts
        products = self.catalogue.likeness(users.directions[needed], self._products)
        np.copyto(users.products, np.cumsum(needed).reshape(needed.shape) - 1, where=needed)
        lists = len(queries)
        most = lists * min(self._each * (self._signals + 1) + self._wanted, len(self.text))
        if lists > len(self._sessions_found) or most > len(self._items):
            self._sessions_found = np.zeros(lists, np.int64)
            self._ends = np.zeros(lists + 1, np.int64)
            self._slots = np.zeros((lists, NEAREST_SESSIONS), np.int32)
            self._likeness = np.zeros((lists, NEAREST_SESSIONS), np.float32)
            self._items = np.zeros(most, np.int32)
            self._columns = np.zeros((self._signals, most + 1), np.float32)  # never all of it is used, too
        sessions_found, ends = self._sessions_found[:lists], self._ends[: lists + 1]
        kernels.extract_features(
            users,
            self.arrays,
            self.columns,
            products,
            self._measures[:, : len(self.text)],
            self._each,
            self._wanted,
            self._workspace,
            self._slots,
            self._likeness,
            sessions_found,
            self._items,
            self._columns,
            ends,
        )
        count = int(ends[-1])
        items = self._items[:count]
        if self._own:
            self._compute_own(CandidateBlock(queries, items, ends, self.catalogue, self.statistics))
        return CandidateFeatures(
            items=items,
            signals=self._columns[:, :count].T,
            ends=ends,
            users=users,
            sessions=self._slots[:lists],
            likeness=self._likeness[:lists],
            sessions_found=sessions_found,
        )

    def _compute_own(self, block: CandidateBlock) -> None:
        """Fill in the columns of signals that have a ``compute`` of their own."""
        for column, name, compute in self._own:
            values = self._columns[column, : len(block.items)]
            compute(block, values)
            bad = ~((values >= 0.0) & (values <= _FULL))  # NaN is bad
            if bad.any():
                place = int(bad.argmax())
                item = self.catalogue.ids[block.items[place]]
                msg = (
                    f"signal {name!r} is {values[place]} for item {item!r}, wanted a share from 0 to 1: "
                    "mend its compute"
                )
                raise ValueError(msg)

    def _users(self, queries: Sequence[Query]) -> UserBatchArrays:
        recent, recent_ends = _joined([query.recent for query in queries])
        weights, _ = _joined([query.recent_weights for query in queries])
        directions, strengths = text_directions(queries, recent, weights, recent_ends, self.catalogue)
        disliked, disliked_ends = _joined([query.disliked_items for query in queries])
        own = [self._repeatable(query) for query in queries]
        repeatable, repeatable_ends = _joined([items for items, _ in own])
        repeatable_weights, _ = _joined([weights for _, weights in own])
        passed_over, passed_over_ends = _joined([query.passed_over for query in queries])
        excluded, excluded_ends = _joined(
            [query.hidden if self.repeats else query.excluded for query in queries]
        )
        return UserBatchArrays(
            recent=recent,
            recent_weights=weights,
            recent_ends=recent_ends,
            disliked_items=disliked,
            disliked_ends=disliked_ends,
            dislike_strengths=np.array([query.dislike_strength for query in queries]),
            repeatable=repeatable,
            repeatable_weights=repeatable_weights,
            repeatable_ends=repeatable_ends,
            passed_over=passed_over,
            passed_over_ends=passed_over_ends,
            excluded=excluded,
            excluded_ends=excluded_ends,
            sessions=np.array([self.sessions.current(query.user_id) for query in queries], np.int64),
            now=np.array([query.as_of.ts for query in queries], np.float64),
            directions=directions,
            strengths=strengths,
            products=np.full((len(queries), len(TEXT)), -1, np.int64),
        )

    def _repeatable(self, query: Query) -> tuple[Handles, npt.NDArray[np.float32]]:
        """Which of their own items a user may get again, and how likely it is that they want to."""
        if not self.repeats or not len(query.history.items):
            return _NO_ITEMS, _NO_WEIGHTS
        return repeatable_items(query.history, self.catalogue.tiebreak)


def _columns_of(signals: Sequence[Signal], weights: Mapping[str, float]) -> SignalColumns:
    column = {signal.name: at for at, signal in enumerate(signals)}
    return SignalColumns(
        text=np.array([column[name] for name in TEXT]),
        per_item=np.array([column[name] for name in PER_ITEM]),
        per_candidate=np.array([column[name] for name in PER_CANDIDATE]),
        popularity=np.array([column[name] for name in POPULARITY]),
        fresh=column["fresh"],
        upcoming=column["upcoming"],
        newcomer=column["newcomer"],
        untried=column["untried"],
        repeat=column["repeat"],
        passed_over=column["passed_over"],
        nominates=np.array([signal.nominates for signal in signals]),
        used=np.array([weights[signal.name] != 0.0 for signal in signals]),
    )


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


_WORDS: Final = TEXT.index("words")
_LONG_TERM: Final = TEXT.index("long_term")
_DISLIKED: Final = TEXT.index("disliked")


def text_directions(
    queries: Sequence[Query],
    recent: Handles,
    weights: npt.NDArray[np.float32],
    ends: npt.NDArray[np.int64],
    catalogue: Catalogue,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The users' tastes as unit directions in the space of `Catalogue.text`, ``(queries, TEXT, dims)``.

    They are zeros where nothing is known. The second array says how much is known, 0 to 1,
    ``(queries, TEXT)``: that of ``words`` falls as items follow the words. ``recent`` and ``weights`` are the
    queries' own, one after the other, query k's from ``ends[k]`` up to ``ends[k + 1]``.
    """
    text = catalogue.text()
    directions = np.zeros((len(queries), len(TEXT), text.shape[1]), np.float32)
    strengths = np.zeros((len(queries), len(TEXT)), np.float32)
    known = [
        (k, at, total, weight)
        for k, query in enumerate(queries)
        for at, total, weight in (
            (_WORDS, query.words, query.words_weight),
            (_LONG_TERM, query.long_term, query.long_term_weight),
            (_DISLIKED, query.disliked, query.disliked_weight),
        )
        if total is not None
    ]
    if known:
        users, kinds, sums, held = map(np.array, zip(*known, strict=True))
        directions[users, kinds] = catalogue.transform.apply(sums, held)
        strengths[users, kinds] = np.where(kinds == _LONG_TERM, 1.0, np.minimum(held, 1.0))
    kernels.finish_directions(directions, strengths, recent, weights, ends, text)
    return directions, strengths
