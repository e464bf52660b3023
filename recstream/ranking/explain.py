"""Reasons: which of the user's own items a score goes back to, signal by signal."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.items.jit import compiled
from recstream.ranking.features import CandidateFeatures, FeatureExtractor
from recstream.ranking.kernels.attribution import contributions
from recstream.ranking.kernels.structs import CatalogueArrays, Workspace, user_arrays_of
from recstream.ranking.model import Parameters, RankingModel, split_scores
from recstream.records.arrays import AnyArray, Matrix

__all__ = ["Explanations", "greatest", "name_greatest", "reasons"]

_NAMED: Final = 6
"""Signals named with an item: those that contributed most, for or against it. The rest is ``other``."""


class Explanations(NamedTuple):
    """Why the items of some lists are in them."""

    signals: npt.NDArray[np.int64]
    """Columns of the signals that contributed most to each item, for or against; -1: no more. Shape
    ``(lists, items, named)``."""
    values: npt.NDArray[np.float64]
    """What each of them contributed, rounded to five digits."""
    others: npt.NDArray[np.float64]
    """What all the rest adds up to, rounded likewise, ``(lists, items)``."""
    causes: npt.NDArray[np.int64]
    """Recent items of the user that contributed most, strongest first, as places among them; -1: no more.
    Shape ``(lists, items, causes)``."""


def reasons(
    features: CandidateFeatures,
    extractor: FeatureExtractor,
    model: RankingModel,
    places: npt.NDArray[np.int64],
    causes: int,
) -> Explanations:
    """Why these candidates score as they do: ``places`` in ``evidence``, ``(lists, items)``; -1: no more."""
    lists, items = places.shape
    why = Explanations(
        np.full((lists, items, _NAMED), -1, np.int64),
        np.zeros((lists, items, _NAMED)),
        np.zeros((lists, items)),
        np.full((lists, items, causes), -1, np.int64),
    )
    _find_reasons(features, model.parameters, places, extractor.arrays, extractor.workspace, why)
    return why


@compiled
def _find_reasons(
    features: CandidateFeatures,
    parameters: Parameters,
    places: AnyArray,
    arrays: CatalogueArrays,
    workspace: Workspace,
    why: Explanations,
) -> None:
    for k in range(len(places)):
        count = (places[k] >= 0).sum()
        items = features.items[places[k, :count]]
        signals = np.empty((count, features.signals.shape[1]), np.float32)
        for item in range(count):
            signals[item] = features.signals[places[k, item]]
        parts = np.empty(signals.shape, np.float32)
        split_scores(signals, parameters, parts)
        shared = contributions(
            items,
            parts,
            user_arrays_of(features.users, k),
            arrays,
            features.sessions[k, : features.found[k]],
            features.likeness[k],
            workspace,
        )
        name_greatest(parts, why.signals[k], why.values[k], why.others[k])
        why.causes[k, :count] = greatest(shared, why.causes.shape[2])


@compiled
def greatest(values: Matrix, most: int) -> npt.NDArray[np.int64]:
    """Columns of each row's greatest values above 0, greatest first, shape ``(rows, most)``; -1: no more.

    >>> greatest(np.array([[0.0, 3.0, 1.0]], "f4"), 2).tolist()
    [[1, 2]]
    """
    found = np.full((len(values), most), -1, np.int64)
    for row in range(len(values)):
        for column in range(values.shape[1]):
            value = values[row, column]
            at = most
            while at > 0 and (found[row, at - 1] < 0 or values[row, found[row, at - 1]] < value):
                at -= 1
            if value > 0.0 and at < most:
                for later in range(most - 1, at, -1):
                    found[row, later] = found[row, later - 1]
                found[row, at] = column
    return found


@compiled
def name_greatest(parts: AnyArray, columns: AnyArray, values: AnyArray, others: AnyArray) -> None:
    """Write down the greatest parts of each row, for or against, and what is left, rounded to five digits.

    ``columns`` and ``values`` have shape ``(rows, most)``, ``others`` ``(rows,)``: what is left makes up for
    the rounding.

    >>> columns, values, others = np.full((1, 2), -1), np.zeros((1, 2)), np.zeros(1)
    >>> name_greatest(np.array([[0.1, -3.0, 1.0]], "f4"), columns, values, others)
    >>> columns.tolist(), values.tolist(), others.round(5).tolist()
    ([[1, 2]], [[-3.0, 1.0]], [0.1])
    """
    found = greatest(np.abs(parts), columns.shape[1])
    for row in range(len(parts)):
        rest = np.float64(0.0)
        for column in range(parts.shape[1]):
            rest += parts[row, column]
        for k in range(columns.shape[1]):
            columns[row, k] = found[row, k]
            if found[row, k] >= 0:
                values[row, k] = round(np.float64(parts[row, found[row, k]]), 5)
                rest -= values[row, k]
        others[row] = round(rest, 5)
