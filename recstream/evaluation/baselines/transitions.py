"""Transitions: what came next after one of the user's last three items (a sparse Markov chain)."""

from __future__ import annotations

from typing import Final

import numpy as np

from recstream.evaluation.baselines.adjacency import Adjacency
from recstream.evaluation.baselines.base import Scores, World

__all__ = ["Transitions"]

_LAST: Final = 3


class Transitions:
    """An item counts 1, 1/2 and 1/3 as the successor of the last, second and third last one.

    A row is divided by its sum, and rows weigh 1, 1/2 and 1/3 in turn: "sequential rules" of Ludewig and
    Jannach, "Evaluation of session-based recommendation algorithms" (UMUAI 28, 2018), asked for three items.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._pairs = Adjacency(world.items)
        self._sums = np.zeros(world.items)

    def learn(self, user: int, item: int) -> None:
        """The item follows the user's last ones."""
        before = [other for other in self._world.recent(user, _LAST + 1).tolist() if other != item][:_LAST]
        amounts = [1.0 / place for place in range(1, len(before) + 1)]
        self._pairs.add(before, [item] * len(before), amounts)
        self._sums[before] += amounts

    def score(self, user: int, scores: Scores) -> None:
        """Shares of what followed the user's last items."""
        last = self._world.recent(user, _LAST)
        factors = 1.0 / np.arange(1, len(last) + 1) / np.maximum(self._sums[last], 1e-9)
        self._pairs.gather(last, factors, scores)
