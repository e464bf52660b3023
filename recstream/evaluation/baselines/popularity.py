"""Popularity: what most have turned to, ever or lately."""

from __future__ import annotations

from recstream.evaluation.baselines.base import Scores, World

__all__ = ["Popularity", "RecentPopularity"]


class Popularity:
    """All positives of an item so far count the same."""

    def __init__(self, world: World) -> None:
        self._world = world

    def learn(self, user: int, item: int) -> None:
        """The world counts already."""

    def score(self, user: int, scores: Scores) -> None:
        """The same for every user."""
        scores += self._world.count


class RecentPopularity:
    """A positive fades by e every 1,000 positives of the log."""

    def __init__(self, world: World) -> None:
        self._world = world

    def learn(self, user: int, item: int) -> None:
        """The world counts already."""

    def score(self, user: int, scores: Scores) -> None:
        """The same for every user."""
        scores += self._world.lately
