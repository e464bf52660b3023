"""The table of ranking models by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recstream.ranking.models.base import RankingModel
from recstream.ranking.models.shallow_network import ShallowNetwork
from recstream.ranking.signals.table import SIGNALS

__all__ = ["DEFAULT_MODEL", "MODELS", "new_model"]

MODELS: Final[dict[str, type[RankingModel]]] = {"shallow_network": ShallowNetwork}
DEFAULT_MODEL: Final = "shallow_network"


def new_model(weights: Mapping[str, float], name: str = DEFAULT_MODEL) -> RankingModel:
    """A model over all signals that has learned nothing and begins with these weights.

    >>> from recstream.ranking.signals.table import default_weights
    >>> new_model(default_weights()).feature_effects["popular"]
    -0.800000011920929
    """
    return MODELS[name](
        {signal: weights[signal] for signal in SIGNALS},
        max_weights={signal.name: signal.max_weight for signal in SIGNALS.values()},
    )
