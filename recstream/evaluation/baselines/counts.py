"""Counting baselines: popularity, the user's own counts, item-to-item transitions, and ItemKNN."""

from __future__ import annotations

from typing import Final

import numpy as np

from recstream.evaluation.baselines.base import History, Scores
from recstream.items.jit import compiled
from recstream.records.arrays import AnyArray, Handles

__all__ = ["Adjacency", "ItemKnn", "OwnCounts", "Popularity", "RecentPopularity", "Transitions"]

_TRANSITIONS_LAST: Final = 3
"""Newest items of a user whose successors count."""
_KNN_LAST: Final = 20
"""Newest items of a user that ItemKNN compares with."""
_KNN_DECAY: Final = 5.0
"""The weight of the user's items falls by e every so many places back."""
_KNN_SHRINKAGE: Final = 5.0
"""Added to every item's count of users, so that one shared user of two rare items counts for little."""


class Popularity:
    """Scores an item by its positives so far, all of equal weight."""

    def __init__(self, history: History) -> None:
        self._history = history

    def learn(self, user: int, item: int) -> None:
        """Do nothing: the history counts positives itself."""

    def score(self, user: int, scores: Scores) -> None:
        """Add the count of each item, the same for every user."""
        scores += self._history.count


class RecentPopularity:
    """Scores an item by its positives, whose weight falls by e every 1,000 positives of the log."""

    def __init__(self, history: History) -> None:
        self._history = history

    def learn(self, user: int, item: int) -> None:
        """Do nothing: the history counts positives itself."""

    def score(self, user: int, scores: Scores) -> None:
        """Add the faded count of each item, the same for every user."""
        scores += self._history.faded_count


class OwnCounts:
    """Scores an item by the user's own positives with it, all of equal weight.

    Where people come back to items this is hard to beat (Hu et al., SIGIR 2020, on baskets).
    """

    def __init__(self, history: History) -> None:
        self._history = history

    def learn(self, user: int, item: int) -> None:
        """Do nothing: the history holds each user's positives."""

    def score(self, user: int, scores: Scores) -> None:
        """Add the user's count of each item."""
        np.add.at(scores, self._history.histories[user], 1.0)


class Transitions:
    """Sequential rules: scores an item by how often it followed one of the user's last three items.

    An item counts 1, 1/2 and 1/3 as the successor of the last, second and third last one. The counts of each
    item's successors are divided by their sum, and the user's last three items weigh 1, 1/2 and 1/3. Ludewig
    and Jannach, "Evaluation of session-based recommendation algorithms" (UMUAI 28, 2018).
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._pairs = Adjacency(history.items)
        self._sums = np.zeros(history.items)

    def learn(self, user: int, item: int) -> None:
        """Count the item as a successor of the user's last items."""
        before = [
            other for other in self._history.recent(user, _TRANSITIONS_LAST + 1).tolist() if other != item
        ][:_TRANSITIONS_LAST]
        amounts = [1.0 / place for place in range(1, len(before) + 1)]
        self._pairs.add(before, [item] * len(before), amounts)
        self._sums[before] += amounts

    def score(self, user: int, scores: Scores) -> None:
        """Add the shares of the successors of the user's last items."""
        last = self._history.recent(user, _TRANSITIONS_LAST)
        factors = 1.0 / np.arange(1, len(last) + 1) / np.maximum(self._sums[last], 1e-9)
        self._pairs.gather(last, factors, scores)


class ItemKnn:
    """ItemKNN: scores an item by the cosine between its set of users and those of the user's last items.

    Deshpande and Karypis, "Item-based top-N recommendation algorithms" (TOIS 22, 2004), updated with
    each event over the user's last twenty items. A pair counts for a user when both items are within twenty
    distinct ones of each other. Without the decay and the shrinkage it finds a fifth less on film logs.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._pairs = Adjacency(history.items)
        self._users = np.zeros(history.items)

    def learn(self, user: int, item: int) -> None:
        """Count a user's first event of an item as a pair with each of the user's last items."""
        if item in self._history.seen[user]:
            return
        before = self._history.recent(user, _KNN_LAST).tolist()
        same, ones = [item] * len(before), [1.0] * len(before)
        self._pairs.add(before, same, ones)
        self._pairs.add(same, before, ones)
        self._users[item] += 1.0

    def score(self, user: int, scores: Scores) -> None:
        """Add the cosines to the user's last items."""
        last = self._history.recent(user, _KNN_LAST)
        factors = np.exp(-np.arange(len(last)) / _KNN_DECAY)
        self._pairs.gather(last, factors / np.sqrt(self._users[last] + _KNN_SHRINKAGE), scores)
        scores /= np.sqrt(self._users + _KNN_SHRINKAGE)


class Adjacency:
    """Growing sparse matrix of the weights between pairs of items; every pair is kept exactly.

    >>> pairs = Adjacency(3)
    >>> pairs.add([0, 0, 0], [1, 2, 1], [1.0, 0.5, 1.0])
    >>> scores = np.zeros(3)
    >>> pairs.gather(np.array([0], np.int32), np.ones(1), scores)
    >>> scores.tolist()
    [0.0, 2.0, 0.5]
    """

    def __init__(self, items: int) -> None:
        self._places = np.zeros((items, 3), np.int64)
        """For each row: where it begins, its number of neighbours, and how many it has room for."""
        self._others = np.zeros(1 << 12, np.int32)
        self._weights = np.zeros(1 << 12, np.float32)
        self._used = 0
        self._rows: list[int] = []
        self._new: list[int] = []
        self._amounts: list[float] = []

    def add(self, rows: list[int], others: list[int], amounts: list[float]) -> None:
        """Add to the weights of these pairs. The work is deferred to the next `gather`."""
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


@compiled
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


@compiled
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
