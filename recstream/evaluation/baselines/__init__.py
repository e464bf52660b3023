"""Baselines: well-known recommenders that need no training, evaluated under the same protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from recstream.evaluation.baselines.base import Baseline, History
from recstream.evaluation.baselines.counts import (
    ItemKnn,
    OwnCounts,
    Popularity,
    RecentPopularity,
    Transitions,
)
from recstream.evaluation.baselines.sessionknn import SessionKnn

__all__ = ["BASELINES", "OF_REPEATS", "Baseline", "History"]

BASELINES: Final[Mapping[str, Callable[[History], Baseline]]] = {
    "popularity": Popularity,
    "recent": RecentPopularity,
    "owncounts": OwnCounts,
    "transitions": Transitions,
    "itemknn": ItemKnn,
    "sessionknn": SessionKnn,
}
"""Baselines by their names in ``--against``."""
OF_REPEATS: Final = ("owncounts",)
"""Those that list nothing but items the user has had: they need ``--repeats``."""
