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
from recstream.core.profile import AsOf, Profile, Recent
from recstream.core.signals import DEFAULT_WEIGHTS, Query, query_of
from recstream.core.statistics import ItemStatistics, Touch

__all__ = ["Ranked", "RankingRules", "rank", "warm_up"]

_BLOCK_BYTES: Final = 8 << 20
"""Scores held at once: users are ranked in blocks whose score matrix stays near the caches."""
_TIEBREAK: Final = np.float32(1e-6)
_CAUSES: Final = 2
"""Most items named in ``because``."""


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
    popularity: dict[str, npt.NDArray[np.float32]]
    base: npt.NDArray[np.float32]
    pair_weights: npt.NDArray[np.float32]
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
            popularity=popularity,
            base=base,
            pair_weights=np.array([rules.weights["followed"], rules.weights["together"]], np.float32),
            scratch=np.zeros(len(statistics.tables[0]), np.float32),
            touched=np.zeros(len(statistics.tables[0]), np.int32),
            rules=rules,
        )


def _rank_block(queries: Sequence[Query], world: _World) -> list[list[Ranked]]:
    weights = world.rules.weights
    tastes = signals.text_tastes(queries, world.catalogue, world.centred, world.mean)
    combined = np.zeros((len(queries), world.catalogue.dim), np.float32)
    for name, matrix in tastes.items():
        combined += np.float32(weights[name]) * matrix
    scores = combined @ world.centred.T
    scores += world.base
    top = world.rules.top_n
    rows, values = np.zeros(top, np.int32), np.zeros(top, np.float32)
    lists = []
    for k, query in enumerate(queries):
        recent, followed, together = signals.pair_evidence(query)
        norms = np.zeros(2, np.float32)
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
        lists.append(_explain(query, k, rows[:found], values[:found], norms, tastes, world))
    return lists


def _explain(
    query: Query,
    k: int,
    rows: Handles,
    values: npt.NDArray[np.float32],
    norms: npt.NDArray[np.float32],
    tastes: Mapping[str, Matrix],
    world: _World,
) -> list[Ranked]:
    """Split each score of the list into what its signals contributed, and name the items behind it."""
    weights = world.rules.weights
    chosen = world.centred[rows]
    parts: dict[str, npt.NDArray[np.float32]] = {}
    for name, matrix in tastes.items():
        parts[name] = np.float32(weights[name]) * (chosen @ matrix[k])
    recent, followed, together = signals.pair_evidence(query)
    evidence = signals.pair_contributions(rows, recent, (followed, together), world.tables, world.root_counts)
    causes = np.zeros((len(rows), len(recent)), np.float32)
    for name, by_recent, norm in zip(("followed", "together"), evidence, norms, strict=True):
        total = by_recent.sum(axis=1)
        part = np.float32(weights[name]) * np.sqrt(total / norm) if norm > 0 else np.zeros_like(total)
        parts[name] = part.astype(np.float32)
        shares = by_recent / np.where(total > 0, total, 1.0)[:, None]
        causes += shares * parts[name][:, None]
    for name, values_of in world.popularity.items():
        parts[name] = np.float32(weights[name]) * values_of[rows]
    causes += signals.text_contributions(query, chosen, world.centred, weights["short_term"])
    order = np.argsort(-causes, axis=1, kind="stable")[:, :_CAUSES] if len(recent) else None
    names = [name for name, part in parts.items() if np.any(part)]
    columns = [parts[name].tolist() for name in names]
    ranked = []
    for at, (row, score) in enumerate(zip(rows.tolist(), values.tolist(), strict=True)):
        split = {
            name: round(column[at], 5) for name, column in zip(names, columns, strict=True) if column[at]
        }
        because: tuple[int, ...] = ()
        if order is not None:
            because = tuple(int(recent[c]) for c in order[at] if causes[at, c] > 0.0)
        ranked.append(Ranked(row, score, split, because))
    ranked.sort(key=lambda one: (-one.score, world.catalogue.ids[one.item]))
    return ranked
