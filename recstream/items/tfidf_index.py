"""TF-IDF index: sparse vectors of items, scored by the postings of a few terms."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from recstream.items.jit import compiled, top_k_threshold
from recstream.records.arrays import AnyArray

N = TypeVar("N", bound=np.generic)

__all__ = ["Postings", "TfidfIndex", "match_terms", "score_terms"]

_MAX_SHARE: Final = 0.2
"""Terms in more than 20 % of the items are ignored: they say nothing, and would take most of the time."""
_ALWAYS_RARE: Final = 20
"""Terms in at most 20 items are never ignored."""
_QUERY_TERMS: Final = 40
"""Most terms of a query that are looked up: the heaviest. The others are frequent, and tell little."""
_MIN_ROOM: Final = 4
"""Rows that the postings of a new term have room for."""


class Postings(NamedTuple):
    """The arrays of an index, for kernels."""

    starts: npt.NDArray[np.int64]
    """Begin of each row in ``terms``: those of row r are ``terms[starts[r] : starts[r] + lengths[r]]``."""
    lengths: npt.NDArray[np.int32]
    """Number of terms of each row."""
    terms: npt.NDArray[np.int32]
    counts: npt.NDArray[np.float32]
    """How heavily its row holds each of ``terms``."""
    scales: npt.NDArray[np.float32]
    """1 over the length of each row's vector, so that every row is a unit vector."""
    begins: npt.NDArray[np.int64]
    """Begin of each term in ``rows``: term t is held by ``rows[begins[t] : begins[t] + sizes[t]]``."""
    sizes: npt.NDArray[np.int32]
    """Number of rows that hold each term."""
    rows: npt.NDArray[np.int32]
    row_weights: npt.NDArray[np.float32]
    """Of each of ``rows``: its count of the term, times its scale."""
    idf: npt.NDArray[np.float32]
    """Weight of each term: ln((items + 1) / (items with it + 1)), 0 if it is ignored as too common."""


class TfidfIndex:
    """Sparse unit vectors, TF-IDF weighted (Salton and Buckley, 1988), and their postings by term.

    The weight of a term (its idf) is taken from the items there are when `weigh` is called, and stays until
    the next call. So an item's vector does not change with every item that comes.

    >>> index = TfidfIndex(terms=8)
    >>> for row, words in enumerate([[1, 2], [2, 3], [4]]):
    ...     index.put(row, np.array(words, "i4"), np.ones(len(words), "f4"))
    >>> index.weigh()
    >>> out = np.zeros(3, "f4")
    >>> score_terms(index.postings, np.array([0], "i4"), np.ones(1, "f4"), np.zeros(8, "f4"), out)
    >>> out.round(2).tolist()
    [1.0, 0.15000000596046448, 0.0]
    """

    def __init__(self, terms: int, *, max_share: float = _MAX_SHARE) -> None:
        self._max_share = max_share
        self._items = 0
        self._idf = np.ones(terms, np.float32)
        self._starts = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int32)
        self._scales = np.zeros(0, np.float32)
        self._terms = np.zeros(0, np.int32)
        self._counts = np.zeros(0, np.float32)
        self._used = 0
        self._begins = np.zeros(terms, np.int64)
        self._sizes = np.zeros(terms, np.int32)
        self._rooms = np.zeros(terms, np.int32)
        self._rows = np.zeros(0, np.int32)
        self._row_weights = np.zeros(0, np.float32)
        self._taken = np.zeros(1, np.int64)
        """Used length of ``_rows``: an array of one number, so that a kernel can change it."""

    @property
    def postings(self) -> Postings:
        """The arrays of now, for kernels: do not keep them across a `put`."""
        return Postings(
            self._starts,
            self._lengths,
            self._terms,
            self._counts,
            self._scales,
            self._begins,
            self._sizes,
            self._rows,
            self._row_weights,
            self._idf,
        )

    @property
    def idf(self) -> npt.NDArray[np.float32]:
        """Weight of each term, float32 of shape ``(terms,)``."""
        return self._idf

    def reserve(self, rows: int) -> None:
        """Make room for rows below ``rows``."""
        if rows > len(self._starts):
            size = max(1024, rows, 2 * len(self._starts))
            self._starts = _grown(self._starts, size)
            self._lengths = _grown(self._lengths, size)
            self._scales = _grown(self._scales, size)

    def put(self, row: int, terms: npt.NDArray[np.int32], counts: npt.NDArray[np.float32]) -> None:
        """Set a row's distinct terms, int32 below the number of terms, and how heavily it holds each."""
        self.reserve(row + 1)
        if self._lengths[row]:
            _take_out(row, self.terms_of(row), self._begins, self._sizes, self._rows, self._row_weights)
            self._lengths[row] = 0
            self._items -= 1
        if not len(terms):
            return
        end = self._used + len(terms)
        if end > len(self._terms):
            if 2 * int(self._lengths.sum()) < self._used:
                self._sweep()
                end = self._used + len(terms)
            size = max(4096, 2 * end)
            self._terms, self._counts = _grown(self._terms, size), _grown(self._counts, size)
        self._terms[self._used : end], self._counts[self._used : end] = terms, counts
        self._starts[row], self._lengths[row] = self._used, len(terms)
        self._scales[row] = _scale(counts, self._idf[terms])
        self._used = end
        self._items += 1
        self._post(row, terms, counts)

    def terms_of(self, row: int) -> npt.NDArray[np.int32]:
        """Terms of a row, int32."""
        return self._terms[self._starts[row] : self._starts[row] + self._lengths[row]]

    def fitted_idf(self) -> npt.NDArray[np.float32]:
        """Give the terms' weights by the items there are now, float32 of shape ``(terms,)``."""
        idf = np.log((self._items + 1.0) / (self._sizes + 1.0)).astype(np.float32)
        idf[self._sizes > max(self._max_share * self._items, _ALWAYS_RARE)] = 0.0
        return idf

    def weigh(self, idf: npt.NDArray[np.float32] | None = None) -> None:
        """Weigh the terms by `fitted_idf`, or by the weights given."""
        self._idf = self.fitted_idf() if idf is None else idf.astype(np.float32)
        for array in (self._sizes, self._rooms, self._taken):  # each posting holds a scale
            array[:] = 0
        for row in np.flatnonzero(self._lengths).tolist():
            at = slice(self._starts[row], self._starts[row] + self._lengths[row])
            terms, counts = self._terms[at], self._counts[at]
            self._scales[row] = _scale(counts, self._idf[terms])
            self._post(row, terms, counts)

    def _post(self, row: int, terms: npt.NDArray[np.int32], counts: npt.NDArray[np.float32]) -> None:
        wanted = int(self._taken[0] + 2 * (self._sizes[terms] + _MIN_ROOM).sum())
        if wanted > len(self._rows):
            size = max(4096, 2 * wanted)
            self._rows, self._row_weights = _grown(self._rows, size), _grown(self._row_weights, size)
        _put_in(
            row,
            terms,
            counts * self._scales[row],
            self._begins,
            self._sizes,
            self._rooms,
            self._rows,
            self._row_weights,
            self._taken,
        )

    def _sweep(self) -> None:
        """Close the gaps that replaced rows left."""
        rows = np.flatnonzero(self._lengths)
        lengths = self._lengths[rows].astype(np.int64)
        ends = np.cumsum(lengths)
        kept = np.repeat(self._starts[rows] - (ends - lengths), lengths) + np.arange(lengths.sum())
        self._terms, self._counts = self._terms[kept], self._counts[kept]
        self._starts[rows] = ends - lengths
        self._used = len(kept)


@compiled
def _put_in(
    row: int,
    terms: AnyArray,
    weights: AnyArray,
    begins: AnyArray,
    sizes: AnyArray,
    rooms: AnyArray,
    rows: AnyArray,
    row_weights: AnyArray,
    taken: AnyArray,
) -> None:
    for k in range(len(terms)):
        term = terms[k]
        size = sizes[term]
        if size == rooms[term]:  # move the term's rows to where there is twice the room
            rooms[term] = max(2 * size, _MIN_ROOM)
            for j in range(size):
                rows[taken[0] + j] = rows[begins[term] + j]
                row_weights[taken[0] + j] = row_weights[begins[term] + j]
            begins[term] = taken[0]
            taken[0] += rooms[term]
        rows[begins[term] + size], row_weights[begins[term] + size] = row, weights[k]
        sizes[term] += 1


@compiled
def _take_out(
    row: int, terms: AnyArray, begins: AnyArray, sizes: AnyArray, rows: AnyArray, row_weights: AnyArray
) -> None:
    for k in range(len(terms)):
        term = terms[k]
        last = begins[term] + sizes[term] - 1
        for at in range(begins[term], last + 1):
            if rows[at] == row:
                rows[at], row_weights[at] = rows[last], row_weights[last]
                break
        sizes[term] -= 1


@compiled
def score_terms(
    index: Postings,
    rows: AnyArray,
    weights: AnyArray,
    workspace: AnyArray,
    scores: AnyArray,
    places: AnyArray | None = None,
) -> None:
    """Add the products of every row with the weighted sum of some rows' vectors to ``scores``, in place.

    ``weights`` are those of ``rows``; ``workspace`` is zeros of shape ``(terms,)``, and zeros again
    afterwards. Of the sum, only the `_QUERY_TERMS` heaviest terms are looked up. With ``places``, the product
    of row r is added to ``scores[places[r]]``.
    """
    terms, heavy = _heaviest(index, rows, weights, workspace)
    holders, held = index.rows, index.row_weights
    for k in range(len(terms)):
        begin = index.begins[terms[k]]
        for at in range(begin, begin + index.sizes[terms[k]]):
            if places is None:
                scores[holders[at]] += heavy[k] * held[at]
            else:
                scores[places[holders[at]]] += heavy[k] * held[at]


@compiled
def match_terms(
    index: Postings, rows: AnyArray, weights: AnyArray, workspace: AnyArray, of: AnyArray, scores: AnyArray
) -> None:
    """As `score_terms` for the rows ``of`` alone, by all terms: for common terms, and rows of few."""
    starts, lengths, scales, idf = index.starts, index.lengths, index.scales, index.idf
    held, counts = index.terms, index.counts
    for k in range(len(rows)):
        begin, weight = starts[rows[k]], weights[k] * scales[rows[k]]
        for at in range(begin, begin + lengths[rows[k]]):
            workspace[held[at]] += weight * counts[at] * idf[held[at]] ** 2
    for k in range(len(of)):
        begin = starts[of[k]]
        total = np.float32(0.0)
        for at in range(begin, begin + lengths[of[k]]):
            total += workspace[held[at]] * counts[at]
        scores[k] += total * scales[of[k]]
    for k in range(len(rows)):
        for at in range(starts[rows[k]], starts[rows[k]] + lengths[rows[k]]):
            workspace[held[at]] = 0.0


@compiled
def _heaviest(
    index: Postings, rows: AnyArray, weights: AnyArray, workspace: AnyArray
) -> tuple[AnyArray, AnyArray]:
    """Give the heaviest terms of a weighted sum of rows, and what each adds to a row that holds it fully."""
    starts, lengths, idf, scales = index.starts, index.lengths, index.idf, index.scales
    held, counts = index.terms, index.counts
    most = 0
    for k in range(len(rows)):
        most += lengths[rows[k]]
    terms = np.empty(most + 1, np.int32)
    found = 0
    for k in range(len(rows)):
        row = rows[k]
        weight = weights[k] * scales[row]
        for at in range(starts[row], starts[row] + lengths[row]):
            term = held[at]
            terms[found] = term
            found += workspace[term] == 0.0 and idf[term] > 0.0
            workspace[term] += weight * counts[at] * (idf[term] > 0.0)
    heavy = np.empty(found, np.float32)
    for k in range(found):
        heavy[k] = workspace[terms[k]] * idf[terms[k]] ** 2
        workspace[terms[k]] = 0.0
    if found > _QUERY_TERMS:
        least = top_k_threshold(heavy, _QUERY_TERMS, _QUERY_TERMS)
        kept = 0
        for k in range(found):
            if heavy[k] >= least:
                terms[kept], heavy[kept] = terms[k], heavy[k]
                kept += 1
        found = kept
    return terms[:found], heavy[:found]


def _scale(counts: npt.NDArray[np.float32], idf: npt.NDArray[np.float32]) -> float:
    length = float(np.linalg.norm(counts * idf))
    return 1.0 / length if length > 0.0 else 0.0


def _grown(old: npt.NDArray[N], size: int) -> npt.NDArray[N]:
    new = np.zeros(size, old.dtype)
    new[: len(old)] = old
    return new
