"""Explanations of lists: which signals and which of the user's own items a score goes back to."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from recstream.ranking.features import FeatureExtractor
from recstream.ranking.kernels.attribution import explain_lists
from recstream.ranking.kernels.structs import CandidateFeatures, Explanations
from recstream.ranking.models.base import RankingModel

__all__ = ["MOST_NAMED", "explain"]

MOST_NAMED: Final = 6
"""Signals named with an item: those that contributed most, for or against it. The rest is ``other``."""


def explain(
    features: CandidateFeatures,
    extractor: FeatureExtractor,
    model: RankingModel,
    places: npt.NDArray[np.int64],
    causes: int,
) -> Explanations:
    """Why these candidates score as they do: ``places`` in ``features``, ``(lists, items)``; -1: no more."""
    lists, items = places.shape
    explanations = Explanations(
        signals=np.full((lists, items, MOST_NAMED), -1, np.int64),
        values=np.zeros((lists, items, MOST_NAMED)),
        others=np.zeros((lists, items)),
        causes=np.full((lists, items, causes), -1, np.int64),
    )
    parts = model.split(features.signals[places[places >= 0]])
    explain_lists(
        features, parts, places, extractor.arrays, extractor.columns, extractor.workspace, explanations
    )
    return explanations
