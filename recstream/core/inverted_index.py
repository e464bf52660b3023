"""Which items hold a term, and how heavily: sparse vectors scored by the postings of a few terms."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from recstream.core.arrays import AnyArray

__all__ = ["InvertedIndex", "Postings", "score_terms"]

_COMMON: Final = 0.2
"""A term in more than this share of the items says nothing, and would cost most of the time;"""
_RARE: Final = 20
"""but one in no more items than these is never too common."""
_GARBAGE: Final = 0.5
"""Postings of replaced items are swept out when they are more than this share of all."""


class Postings(NamedTuple):
    """An index as the compiled loops see it. Weights are as of the last `InvertedIndex.weigh`."""

    starts: npt.NDArray[np.int64]
    """Of row r: its terms are ``terms[starts[r] : starts[r] + lengths[r]]``."""
    lengths: npt.NDArray[np.int32]
    terms: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    """Row that each posting belongs to; -1: of a row that was replaced since."""
    counts: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    """One a row: 1 over the length of its vector, so that every row is a unit vector."""
    heads: npt.NDArray[np.int64]
    """One a term: its newest posting, -1 without one."""
    older: npt.NDArray[np.int64]
    """One a posting: the next older one of the same term."""
    idf: npt.NDArray[np.float32]
    """One a term: ln((items + 1) / (items with it + 1)); 0 for terms too common to tell anything."""


class InvertedIndex:
    """Sparse unit vectors, TF-IDF weighted (Salton and Buckley, 1988), and their postings by term.

    What a term weighs (its idf) is taken from the items there are when `weigh` is called, and holds until the
    next call: so that an item's vector does not change with every item that comes.

    >>> index = InvertedIndex(terms=8)
    >>> for row, words in enumerate([[1, 2], [2, 3], [4]]):
    ...     index.put(row, np.array(words, "i4"), np.ones(len(words), "f4"))
    >>> index.weigh()
    >>> out = np.zeros(3, "f4")
    >>> score_terms(index.postings, np.array([0], "i4"), np.ones(1, "f4"), np.zeros(8, "f4"), out)
    >>> out.round(2).tolist()
    [1.0, 0.15000000596046448, 0.0]
    """

    def __init__(self, terms: int, *, common: float = _COMMON) -> None:
        self._common = common
        self._terms = terms
        self._items = 0
        self._used = 0
        self._garbage = 0
        self._frequency = np.zeros(terms, np.int64)
        self._idf = np.ones(terms, np.float32)
        self._starts = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int32)
        self._scales = np.zeros(0, np.float32)
        self._heads = np.full(terms, -1, np.int64)
        self._posting_terms = np.zeros(0, np.int32)
        self._posting_rows = np.zeros(0, np.int32)
        self._counts = np.zeros(0, np.float32)
        self._older = np.zeros(0, np.int64)

    @property
    def postings(self) -> Postings:
        """The arrays, for the compiled loops: do not keep them across a `put`."""
        return Postings(
            self._starts,
            self._lengths,
            self._posting_terms,
            self._posting_rows,
            self._counts,
            self._scales,
            self._heads,
            self._older,
            self._idf,
        )

    @property
    def idf(self) -> npt.NDArray[np.float32]:
        """What each term weighs, float32 of shape ``(terms,)``."""
        return self._idf

    def reserve(self, rows: int) -> None:
        """Make room for rows below ``rows``."""
        if rows > len(self._starts):
            size = max(1024, rows, 2 * len(self._starts))
            self._starts = _grown(self._starts, size)
            self._lengths = _grown(self._lengths, size)
            self._scales = _grown(self._scales, size)

    def put(self, row: int, terms: npt.NDArray[np.int32], counts: npt.NDArray[np.float32]) -> None:
        """Set a row's distinct terms (int32, below the number of terms) and how heavily it holds each."""
        self.reserve(row + 1)
        if self._lengths[row]:
            self._take_out(row)
        if not len(terms):
            return
        end = self._used + len(terms)
        if end > len(self._older):
            size = max(4096, end, 2 * len(self._older))
            self._posting_terms = _grown(self._posting_terms, size)
            self._posting_rows = _grown(self._posting_rows, size)
            self._counts = _grown(self._counts, size)
            self._older = _grown(self._older, size)
        new = slice(self._used, end)
        self._posting_terms[new] = terms
        self._posting_rows[new] = row
        self._counts[new] = counts
        self._older[new] = self._heads[terms]
        self._heads[terms] = np.arange(self._used, end)
        self._starts[row], self._lengths[row] = self._used, len(terms)
        self._scales[row] = _scale(counts, self._idf[terms])
        self._frequency[terms] += 1
        self._items += 1
        self._used = end

    def terms_of(self, row: int) -> list[int]:
        """Terms of a row."""
        terms: list[int] = self._posting_terms[
            self._starts[row] : self._starts[row] + self._lengths[row]
        ].tolist()
        return terms

    def weigh(self, idf: npt.NDArray[np.float32] | None = None) -> None:
        """Take the terms' weights from the items there are now, or as they were taken before."""
        if idf is None:
            idf = np.log((self._items + 1.0) / (self._frequency + 1.0)).astype(np.float32)
            idf[self._frequency > max(self._common * self._items, _RARE)] = 0.0
        self._idf = idf.astype(np.float32)
        self._sweep()
        for row in np.flatnonzero(self._lengths).tolist():
            at = slice(self._starts[row], self._starts[row] + self._lengths[row])
            self._scales[row] = _scale(self._counts[at], self._idf[self._posting_terms[at]])

    def _take_out(self, row: int) -> None:
        at = slice(self._starts[row], self._starts[row] + self._lengths[row])
        self._posting_rows[at] = -1
        self._frequency[self._posting_terms[at]] -= 1
        self._garbage += int(self._lengths[row])
        self._lengths[row] = 0
        self._items -= 1
        if self._garbage > _GARBAGE * self._used and self._garbage > 4096:
            self._sweep()

    def _sweep(self) -> None:
        used = slice(0, self._used)
        kept = self._posting_rows[used] >= 0
        for name in ("_posting_terms", "_posting_rows", "_counts"):
            setattr(self, name, getattr(self, name)[used][kept])
        self._used, self._garbage = int(kept.sum()), 0
        first = np.flatnonzero(np.diff(self._posting_rows, prepend=-1))
        self._starts[self._posting_rows[first]] = first
        self._older = np.zeros(self._used, np.int64)
        self._heads[:] = -1
        _link(self._posting_terms, self._heads, self._older)


@njit(cache=True, nogil=True)
def _link(terms: AnyArray, heads: AnyArray, older: AnyArray) -> None:
    for k in range(len(terms)):
        older[k] = heads[terms[k]]
        heads[terms[k]] = k


@njit(cache=True, nogil=True)
def score_terms(
    index: Postings, rows: AnyArray, weights: AnyArray, scratch: AnyArray, scores: AnyArray
) -> None:
    """Add the products of every row with the weighted sum of some rows' vectors to ``scores``, in place.

    ``weights`` are those of ``rows``; ``scratch`` is zeros of shape ``(terms,)``, and zeros again afterwards.
    """
    for k in range(len(rows)):
        row = rows[k]
        for at in range(index.starts[row], index.starts[row] + index.lengths[row]):
            term = index.terms[at]
            scratch[term] += weights[k] * index.counts[at] * index.idf[term] * index.scales[row]
    for k in range(len(rows)):
        row = rows[k]
        for at in range(index.starts[row], index.starts[row] + index.lengths[row]):
            term = index.terms[at]
            weight = scratch[term] * index.idf[term]
            scratch[term] = 0.0
            if weight == 0.0:
                continue
            posting = index.heads[term]
            while posting >= 0:
                other = index.rows[posting]
                if other >= 0:
                    scores[other] += weight * index.counts[posting] * index.scales[other]
                posting = index.older[posting]


def _scale(counts: npt.NDArray[np.float32], idf: npt.NDArray[np.float32]) -> float:
    length = float(np.linalg.norm(counts * idf))
    return 1.0 / length if length > 0.0 else 0.0


def _grown(old: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.generic]:
    new = np.zeros(size, old.dtype)
    new[: len(old)] = old
    return new
