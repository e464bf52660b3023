"""Base of the baselines: their interface, the users' histories, and lists made from scores."""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from recstream.records.arrays import Handles

__all__ = ["Baseline", "History", "Scores", "top_of"]

Scores = npt.NDArray[np.float64]
"""Shape ``(items,)``, 0 where a method has nothing to say of an item."""

_SCALE: Final = 1000.0
"""Time constant of recent popularity, in positives of the whole log."""
_MOST_GAIN: Final = 1e200
"""Growth of the weight of new positives after which all are scaled down, before they overflow."""
_FILL: Final = 1e-9
"""Weight of recent popularity beside a method's own scores: it breaks ties and fills lists up."""


class History:
    """All positives so far; users and items by number.

    >>> history = History(users=1, listable=np.ones(3, np.bool_))
    >>> for item in (0, 1, 0, 2):
    ...     history.learn(0, item)
    >>> history.recent(0, 2).tolist(), history.count.tolist()
    ([2, 0], [2.0, 1.0, 1.0])
    """

    def __init__(self, users: int, listable: npt.NDArray[np.bool_]) -> None:
        self.users = users
        self.items = len(listable)
        self.unlistable = np.flatnonzero(~listable).astype(np.int32)
        """Items that lists must not hold."""
        self.count: Scores = np.zeros(self.items)
        """Positives of each item."""
        self.histories: list[list[int]] = [[] for _ in range(users)]
        """Each user's positives, oldest first."""
        self.seen: list[dict[int, None]] = [{} for _ in range(users)]
        self._faded_count: Scores = np.zeros(self.items)
        self._gain = 1.0

    def learn(self, user: int, item: int) -> None:
        """Add one positive."""
        self.count[item] += 1.0
        self.histories[user].append(item)
        self.seen[user][item] = None
        self._gain *= math.exp(1.0 / _SCALE)
        if self._gain > _MOST_GAIN:
            self._faded_count /= self._gain
            self._gain = 1.0
        self._faded_count[item] += self._gain

    @property
    def faded_count(self) -> Scores:
        """Positives of each item, fading by e every 1,000 positives of the log, up to a common factor.

        Read-only.
        """
        return self._faded_count

    def recent(self, user: int, most: int) -> Handles:
        """A user's newest distinct items, newest first."""
        found: dict[int, None] = {}
        for item in reversed(self.histories[user]):
            found[item] = None
            if len(found) == most:
                break
        return np.fromiter(found, np.int32, len(found))

    def excluded(self, user: int, *, repeats: bool) -> Handles:
        """Items that a user's list must not hold."""
        if repeats:
            return self.unlistable
        seen = self.seen[user]
        return np.concatenate([np.fromiter(seen, np.int32, len(seen)), self.unlistable])


class Baseline(Protocol):
    """A recommender that learns event by event.

    ``learn`` is called before `History.learn` of the same event.
    """

    def learn(self, user: int, item: int) -> None:
        """Learn from one positive."""
        ...

    def score(self, user: int, scores: Scores) -> None:
        """Add to ``scores``, which are zeros, how likely each item is to be the user's next."""
        ...


def top_of(scores: Scores, history: History, excluded: Handles, most: int) -> Handles:
    """Items of the highest scores, best first; items of score 0 follow by recent popularity.

    Items that never occurred are never listed.
    """
    largest = scores.max(initial=0.0)
    faded = history.faded_count
    total = scores + faded * (_FILL * (largest or 1.0) / max(faded.max(initial=0.0), 1e-300))
    total[total <= 0.0] = -np.inf
    total[excluded] = -np.inf
    (rows,) = np.nonzero(np.isfinite(total))
    if len(rows) > most:
        least = np.partition(total[rows], len(rows) - most)[len(rows) - most]
        rows = rows[total[rows] >= least]
    best: Handles = rows[np.argsort(-total[rows], kind="stable")[:most]].astype(np.int32)
    return best
