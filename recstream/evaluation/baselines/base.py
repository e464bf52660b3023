"""What baselines share: the users' histories, and the lists that scores become."""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from recstream.records.arrays import Handles

__all__ = ["Baseline", "Scores", "World", "top_of"]

Scores = npt.NDArray[np.float64]
"""Shape ``(items,)``, 0 where there is no evidence."""

_SCALE: Final = 1000.0
"""Time constant of recent popularity, in positives of the whole log."""
_MOST_GAIN: Final = 1e200
_FILL: Final = 1e-9
"""What recent popularity weighs beside a method's own evidence: it breaks ties and fills lists up."""


class World:
    """What has happened so far; users and items by number.

    >>> world = World(users=1, listable=np.ones(3, np.bool_))
    >>> for item in (0, 1, 0, 2):
    ...     world.learn(0, item)
    >>> world.recent(0, 2).tolist(), world.count.tolist()
    ([2, 0], [2.0, 1.0, 1.0])
    """

    def __init__(self, users: int, listable: npt.NDArray[np.bool_]) -> None:
        self.users = users
        self.items = len(listable)
        self.barred = np.flatnonzero(~listable).astype(np.int32)
        """Items that no list can hold."""
        self.count: Scores = np.zeros(self.items)
        """Positives of each item."""
        self.histories: list[list[int]] = [[] for _ in range(users)]
        """Each user's positives, oldest first."""
        self.seen: list[dict[int, None]] = [{} for _ in range(users)]
        self._lately: Scores = np.zeros(self.items)
        self._gain = 1.0

    def learn(self, user: int, item: int) -> None:
        """Take in one positive."""
        self.count[item] += 1.0
        self.histories[user].append(item)
        self.seen[user][item] = None
        self._gain *= math.exp(1.0 / _SCALE)
        if self._gain > _MOST_GAIN:
            self._lately /= self._gain
            self._gain = 1.0
        self._lately[item] += self._gain

    @property
    def lately(self) -> Scores:
        """Counts that fade by e every 1,000 positives of the log, up to a common factor; do not change it."""
        return self._lately

    def recent(self, user: int, most: int) -> Handles:
        """A user's newest distinct items, newest first."""
        found: dict[int, None] = {}
        for item in reversed(self.histories[user]):
            found[item] = None
            if len(found) == most:
                break
        return np.fromiter(found, np.int32, len(found))

    def excluded(self, user: int, *, repeats: bool) -> Handles:
        """Items that must not be in a user's list."""
        if repeats:
            return self.barred
        seen = self.seen[user]
        return np.concatenate([np.fromiter(seen, np.int32, len(seen)), self.barred])


class Baseline(Protocol):
    """A recommender that learns event by event.

    ``learn`` is called before `World.learn` of the same event, and ``score`` adds to zeros.
    """

    def learn(self, user: int, item: int) -> None:
        """Take in one positive."""
        ...

    def score(self, user: int, scores: Scores) -> None:
        """Evidence for each item to be the user's next, into ``scores``."""
        ...


def top_of(scores: Scores, world: World, excluded: Handles, most: int) -> Handles:
    """The best items, best first; those without evidence follow by recent popularity.

    Items that never occurred are never listed.
    """
    largest = scores.max(initial=0.0)
    lately = world.lately
    total = scores + lately * (_FILL * (largest or 1.0) / max(lately.max(initial=0.0), 1e-300))
    total[total <= 0.0] = -np.inf
    total[excluded] = -np.inf
    (rows,) = np.nonzero(np.isfinite(total))
    if len(rows) > most:
        least = np.partition(total[rows], len(rows) - most)[len(rows) - most]
        rows = rows[total[rows] >= least]
    best: Handles = rows[np.argsort(-total[rows], kind="stable")[:most]].astype(np.int32)
    return best
