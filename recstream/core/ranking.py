"""Ranking: many users' lists by one matrix product, each item with its signals and its causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core import kernels, signals
from recstream.core.arrays import Handles, Matrix
from recstream.core.catalogue import Catalogue
from recstream.core.profile import AsOf, Profile
from recstream.core.recent import Recent
from recstream.core.signals import DEFAULT_WEIGHTS, Query, query_of
from recstream.core.statistics import ItemStatistics, Touch

__all__ = ["Ranked", "RankingRules", "rank", "warm_up"]

_BLOCK_BYTES: Final = 8 << 20
"""Scores held at once: users are ranked in blocks whose score matrix stays near the caches."""
_TIEBREAK: Final = np.float32(1e-6)
_CAUSES: Final = 2
"""Most items named in ``because``."""
_PAIRS: Final = ("followed", "together")
_POPULARITY: Final = ("rising", "trending", "popular")
_TEXT: Final = tuple(name for name in signals.SIGNALS if name not in _PAIRS + _POPULARITY)
_SIGNALS: Final = _TEXT + _PAIRS + _POPULARITY
"""In the order in which `kernels.split_scores` gives their parts."""


@dataclass(frozen=True, slots=True)
class RankingRules:
    """How lists are made."""

    top_n: int = 20
    weights: Mapping[str, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)
    repeats: bool = False
    """Whether items the user has seen may be recommended again."""


class Ranked(NamedTuple):
    """One item of a list."""

    item: int
    """Catalogue handle."""
    score: float
    signals: dict[str, float]
    """What each signal contributed; they add up to ``score`` (within 1e-4: each is rounded)."""
    because: tuple[int, ...]
    """Handles of the user's own items that contributed most, strongest first."""


def rank(
    queries: Sequence[Query], catalogue: Catalogue, statistics: ItemStatistics, rules: RankingRules
) -> list[list[Ranked]]:
    """The best items for each query, best first, at most ``rules.top_n``; fewer when too few are left.

    Items that are not available, hidden by the user, or seen (unless ``rules.repeats``) never appear.
    A query's list does not depend on the other queries (BLAS rounding apart).
    """
    items = len(catalogue)
    if not queries or not items:
        return [[] for _ in queries]
    statistics.reserve(items)
    world = _World.of(catalogue, statistics, rules)
    block = max(1, min(256, _BLOCK_BYTES // (4 * items)))
    lists: list[list[Ranked]] = []
    for at in range(0, len(queries), block):
        lists += _rank_block(queries[at : at + block], world)
    return lists


def warm_up() -> None:
    """Compile or load the compiled loops, so that the first list does not wait for them."""
    catalogue = Catalogue(2)
    one, other = (catalogue.put(name, np.eye(2, dtype=np.float32)[k]) for k, name in enumerate("ab"))
    statistics = ItemStatistics(2)
    statistics.count([Touch(one, ()), Touch(other, (one,))])
    profile = Profile("warm-up", seen={one: 0.0})
    profile.recent.append(Recent(0.0, 0, one, 1.0, "view"))
    rank([query_of(profile, AsOf(0.0, "", 0), "event", 0.0)], catalogue, statistics, RankingRules())


@dataclass(slots=True)
class _World:
    """What all lists of a batch share."""

    catalogue: Catalogue
    centred: Matrix
    mean: npt.NDArray[np.float64]
    tables: tuple[Handles, npt.NDArray[np.float32], npt.NDArray[np.float32]]
    root_counts: npt.NDArray[np.float32]
    popularity: Matrix
    """Shape ``(3, items)``."""
    base: npt.NDArray[np.float32]
    text_weights: npt.NDArray[np.float32]
    pair_weights: npt.NDArray[np.float32]
    popularity_weights: npt.NDArray[np.float32]
    scratch: npt.NDArray[np.float32]
    touched: Handles
    rules: RankingRules

    @classmethod
    def of(cls, catalogue: Catalogue, statistics: ItemStatistics, rules: RankingRules) -> _World:
        items = len(catalogue)
        popularity = signals.popularity(statistics, items)
        base = catalogue.tiebreak * _TIEBREAK
        for name, values in popularity.items():
            base = base + np.float32(rules.weights[name]) * values
        base[~catalogue.available] = -np.inf
        return cls(
            catalogue=catalogue,
            centred=catalogue.centred(),
            mean=catalogue.mean,
            tables=statistics.tables,
            root_counts=np.sqrt(statistics.popularity(items) + 1.0).astype(np.float32),
            popularity=np.stack([popularity[name] for name in _POPULARITY]),
            base=base,
            text_weights=_weights(rules, _TEXT),
            pair_weights=_weights(rules, _PAIRS),
            popularity_weights=_weights(rules, _POPULARITY),
            scratch=np.zeros(len(statistics.tables[0]), np.float32),
            touched=np.zeros(len(statistics.tables[0]), np.int32),
            rules=rules,
        )


def _weights(rules: RankingRules, names: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([rules.weights[name] for name in names], np.float32)


def _rank_block(queries: Sequence[Query], world: _World) -> list[list[Ranked]]:
    weights = world.rules.weights
    tastes = signals.text_tastes(queries, world.catalogue, world.centred, world.mean)
    combined = np.zeros((len(queries), world.catalogue.dim), np.float32)
    for name, matrix in tastes.items():
        combined += np.float32(weights[name]) * matrix
    scores = combined @ world.centred.T
    scores += world.base
    directions = np.stack([tastes[name] for name in _TEXT], axis=1)
    top = world.rules.top_n
    rows, values = np.zeros(top, np.int32), np.zeros(top, np.float32)
    norms = np.zeros(2, np.float32)
    lists = []
    for k, query in enumerate(queries):
        recent, followed, together = signals.pair_evidence(query)
        kernels.score_row(
            scores[k],
            recent,
            followed,
            together,
            world.pair_weights,
            *world.tables,
            world.root_counts,
            query.hidden if world.rules.repeats else query.excluded,
            world.scratch,
            world.touched,
            norms,
        )
        found = kernels.select_top(scores[k], top, rows, values)
        lists.append(_explain(query, directions[k], rows[:found], values[:found], norms, world))
    return lists


def _explain(
    query: Query,
    directions: Matrix,
    rows: Handles,
    values: npt.NDArray[np.float32],
    norms: npt.NDArray[np.float32],
    world: _World,
) -> list[Ranked]:
    """Split each score of the list into what its signals contributed, and name the items behind it.

    ``directions`` are the user's tastes, one a signal of `_TEXT`, shape ``(tastes, dim)``.
    """
    recent, followed, together = signals.pair_evidence(query)
    vectors = world.centred[recent]
    text = world.centred[rows] @ np.concatenate([directions, vectors]).T
    text_weights = np.empty(text.shape[1], np.float32)
    text_weights[: len(directions)] = world.text_weights
    length = max(float(np.linalg.norm(query.recent_weights @ vectors)), 1e-9)
    text_weights[len(directions) :] = query.recent_weights * np.float32(
        world.rules.weights["short_term"] / length
    )
    pairs = np.zeros((2, len(rows), len(recent)), np.float32)
    kernels.pair_parts(rows, recent, followed, together, *world.tables, world.root_counts, pairs)
    parts = np.empty((len(rows), len(_SIGNALS)), np.float32)
    causes = np.empty((len(rows), _CAUSES), np.int32)
    kernels.split_scores(
        rows,
        recent,
        text,
        text_weights,
        norms,
        world.pair_weights,
        world.popularity,
        world.popularity_weights,
        pairs,
        parts,
        causes,
    )
    mine = recent.tolist()
    ranked = [
        Ranked(
            row,
            score,
            {name: part for name, part in zip(_SIGNALS, split, strict=True) if part},
            tuple([mine[cause] for cause in behind if cause >= 0]),
        )
        for row, score, split, behind in zip(
            rows.tolist(),
            values.tolist(),
            np.round(parts.astype(np.float64), 5).tolist(),
            causes.tolist(),
            strict=True,
        )
    ]
    if np.any(values[1:] == values[:-1]):  # ties break by id
        ranked.sort(key=lambda one: (-one.score, world.catalogue.ids[one.item]))
    return ranked
