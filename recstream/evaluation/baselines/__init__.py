"""Baselines: the well-known recommenders that need no training, under the protocol of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from recstream.evaluation.baselines.base import Baseline, World
from recstream.evaluation.baselines.itemknn import ItemKnn
from recstream.evaluation.baselines.popularity import Popularity, RecentPopularity
from recstream.evaluation.baselines.sessionknn import SessionKnn
from recstream.evaluation.baselines.transitions import Transitions

__all__ = ["BASELINES", "Baseline", "World"]

BASELINES: Final[Mapping[str, Callable[[World], Baseline]]] = {
    "popularity": Popularity,
    "recent": RecentPopularity,
    "transitions": Transitions,
    "itemknn": ItemKnn,
    "sessionknn": SessionKnn,
}
"""By the name that ``--against`` takes."""
