"""Adjacency: how much each item goes with each other, every pair kept exactly."""

from __future__ import annotations

# mypy: disable-error-code="untyped-decorator"
import numpy as np
from numba import njit

from recstream.evaluation.baselines.base import Scores
from recstream.records.arrays import AnyArray, Handles

__all__ = ["Adjacency"]


class Adjacency:
    """A growing sparse matrix of weights, row by row.

    >>> pairs = Adjacency(3)
    >>> pairs.add([0, 0, 0], [1, 2, 1], [1.0, 0.5, 1.0])
    >>> scores = np.zeros(3)
    >>> pairs.gather(np.array([0], np.int32), np.ones(1), scores)
    >>> scores.tolist()
    [0.0, 2.0, 0.5]
    """

    def __init__(self, items: int) -> None:
        self._places = np.zeros((items, 3), np.int64)
        """Where each row begins, how many neighbours it has, and for how many there is room."""
        self._others = np.zeros(1 << 12, np.int32)
        self._weights = np.zeros(1 << 12, np.float32)
        self._used = 0
        self._rows: list[int] = []
        self._new: list[int] = []
        self._amounts: list[float] = []

    def add(self, rows: list[int], others: list[int], amounts: list[float]) -> None:
        """Add to the weights of these pairs; it is done when they are next asked for."""
        self._rows += rows
        self._new += others
        self._amounts += amounts

    def gather(self, rows: Handles, factors: Scores, scores: Scores) -> None:
        """Add to ``scores`` the weights of each row times its factor."""
        self._settle()
        _gather(rows, factors, self._places, self._others, self._weights, scores)

    def _settle(self) -> None:
        rows, others = np.array(self._rows, np.int32), np.array(self._new, np.int32)
        amounts = np.array(self._amounts, np.float32)
        self._rows, self._new, self._amounts = [], [], []
        at = 0
        while at < len(rows):
            at, self._used = _add(
                rows, others, amounts, at, self._places, self._others, self._weights, self._used
            )
            if at < len(rows):
                self._others = np.concatenate([self._others, np.zeros_like(self._others)])
                self._weights = np.concatenate([self._weights, np.zeros_like(self._weights)])


@njit(cache=True, nogil=True)
def _add(
    rows: AnyArray,
    new: AnyArray,
    amounts: AnyArray,
    at: int,
    places: AnyArray,
    others: AnyArray,
    weights: AnyArray,
    used: int,
) -> tuple[int, int]:
    """Add pairs from number ``at`` on; gives where it stopped for want of room, and what is used of it."""
    for k in range(at, len(rows)):
        row, other = rows[k], new[k]
        begin, length, room = places[row, 0], places[row, 1], places[row, 2]
        slot = -1
        for j in range(begin, begin + length):
            if others[j] == other:
                slot = j
                break
        if slot >= 0:
            weights[slot] += amounts[k]
            continue
        if length == room:
            more = max(2 * room, 8)
            if used + more > len(others):
                return k, used
            for j in range(length):
                others[used + j] = others[begin + j]
                weights[used + j] = weights[begin + j]
            begin = used
            places[row, 0], places[row, 2] = begin, more
            used += more
        others[begin + length] = other
        weights[begin + length] = amounts[k]
        places[row, 1] = length + 1
    return len(rows), used


@njit(cache=True, nogil=True)
def _gather(
    rows: AnyArray,
    factors: AnyArray,
    places: AnyArray,
    others: AnyArray,
    weights: AnyArray,
    scores: AnyArray,
) -> None:
    for k in range(len(rows)):
        begin = places[rows[k], 0]
        for j in range(begin, begin + places[rows[k], 1]):
            scores[others[j]] += factors[k] * weights[j]
