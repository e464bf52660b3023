"""Metrics of a method: ranks of the tested items in its lists, and figures with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.evaluation.protocol import Plan
from recstream.records.arrays import Matrix

__all__ = [
    "COLD",
    "MISSED",
    "Interval",
    "ListScorer",
    "ScoredLists",
    "Targets",
    "bootstrap",
    "figures",
    "gains",
]

MISSED: Final = 1 << 30
"""Rank of a target that was not in the list."""
COLD: Final = 5
"""Users and items with fewer positives than this are cold."""
_ROUNDS: Final = 1000
"""Draws of users for a confidence interval."""
_ROUNDS_AT_ONCE: Final = 64
"""Draws computed together, which bounds the memory they take."""
_LISTS_AT_ONCE: Final = 1024
"""Lists whose vectors are held at once, which bounds the memory they take."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Targets:
    """The tested items of a plan as arrays of shape ``(targets,)``, in the order of the log."""

    user: npt.NDArray[np.int32]
    """Number of the user."""
    trial: npt.NDArray[np.int32]
    """Index in `Plan.trials`."""
    ts: npt.NDArray[np.float64]
    """Event time, Unix seconds."""
    prior: npt.NDArray[np.int64]
    """The user's positives before the tie group."""
    popularity: npt.NDArray[np.int64]
    """The item's positives before the event."""

    @classmethod
    def of(cls, plan: Plan, user_numbers: Mapping[str, int]) -> Targets:
        """The targets of a plan; ``user_numbers`` gives each user's number by id."""
        rows = [
            (user_numbers[trial.user_id], n, trial.ts, trial.prior, target.popularity)
            for n, trial in enumerate(plan.trials)
            for target in trial.targets
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        return cls(
            np.array(columns[0], np.int32),
            np.array(columns[1], np.int32),
            np.array(columns[2], np.float64),
            np.array(columns[3], np.int64),
            np.array(columns[4], np.int64),
        )


@dataclass(slots=True)
class ScoredLists:
    """Lists of one method and the ranks of the targets in them, in the order of the log."""

    ranks: npt.NDArray[np.int64]
    """Shape ``(targets,)``, from 0; `MISSED` where the list did not hold it, or there was none."""
    lists: npt.NDArray[np.int32]
    """Shape ``(trials, most)``: items by number, -1 where the list is shorter."""
    surprise: npt.NDArray[np.float32]
    """Shape ``(trials, most)``: -log2 of each item's share of all positives before the list was used."""
    behind: npt.NDArray[np.int64]
    """Shape ``(trials,)``: events of the log between the making and the use of the list; -1: no list."""
    age_s: npt.NDArray[np.float64]
    """Shape ``(trials,)``: seconds of event time between the making and the use of the list; NaN: no list."""


class ListScorer:
    """Collects the lists of one method and ranks the targets in them."""

    def __init__(self, trials: int, most: int) -> None:
        self._most = most
        self._ranks: list[list[int]] = [[] for _ in range(trials)]
        self._lists = np.full((trials, most), -1, np.int32)
        self._surprise = np.full((trials, most), np.nan, np.float32)
        self._behind = np.full(trials, -1, np.int64)
        self._age_s = np.full(trials, np.nan)

    def miss(self, trial: int, targets: Sequence[int]) -> None:
        """Score a trial for which there is no list: every target is missed."""
        self._ranks[trial] = [MISSED] * len(targets)

    def score(
        self,
        trial: int,
        listed: Sequence[int],
        targets: Sequence[int],
        popularity: npt.NDArray[np.float64],
        *,
        behind: int,
        age_s: float,
    ) -> None:
        """Score the list of a trial, from which items that the user must not be shown are removed already.

        ``popularity`` are the positives of each item so far, shape ``(items,)``.
        """
        places = {item: rank for rank, item in reversed(list(enumerate(listed)))}
        self._ranks[trial] = [places.get(target, MISSED) for target in targets]
        kept = np.array(listed[: self._most], np.int32)
        self._lists[trial, : len(kept)] = kept
        share = (popularity[kept] + 1.0) / (popularity.sum() + len(popularity))
        self._surprise[trial, : len(kept)] = -np.log2(share)
        self._behind[trial] = behind
        self._age_s[trial] = age_s

    def scored(self) -> ScoredLists:
        """All lists scored so far."""
        ranks = np.array([rank for ranks in self._ranks for rank in ranks], np.int64)
        return ScoredLists(ranks, self._lists, self._surprise, self._behind, self._age_s)


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def gains(ranks: npt.NDArray[np.int64], k: int) -> tuple[Values, Values, Values]:
    """Hit (1 or 0), NDCG and reciprocal rank of each target at ``k``.

    >>> [column.round(3).tolist() for column in gains(np.array([0, 2, 10]), 10)]
    [[1.0, 1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.333, 0.0]]
    """
    hit = ranks < k
    placed = np.where(hit, ranks, 0)
    return (
        hit.astype(np.float64),
        np.where(hit, 1.0 / np.log2(placed + 2.0), 0.0),
        np.where(hit, 1.0 / (placed + 1.0), 0.0),
    )


def bootstrap(values: Values, users: npt.NDArray[np.int32], *, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean of ``values`` (one a test).

    Users are drawn, 1,000 times with replacement, because one user's tests resemble each other. Efron and
    Tibshirani, "An introduction to the bootstrap" (1993).
    """
    _, user = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(user, values), np.bincount(user).astype(np.float64)
    if not len(sums):
        return Interval(float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = []
    for begin in range(0, _ROUNDS, _ROUNDS_AT_ONCE):
        size = (min(_ROUNDS_AT_ONCE, _ROUNDS - begin), len(sums))
        drawn = rng.integers(0, len(sums), size)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(low), float(high))


def figures(
    targets: Targets,
    scored: ScoredLists,
    vectors: Matrix,
    catalogue_size: int,
    *,
    ks: Sequence[int],
    seed: int = 0,
) -> dict[str, Any]:
    """All metrics of one method by name (``hr@10``); None where nothing was tested.

    ``vectors`` are the items' text vectors by item number, ``catalogue_size`` counts the items that lists can
    hold.
    """
    found: dict[str, Any] = {"tests": len(scored.ranks), "lists": int((scored.behind >= 0).sum())}
    used = scored.behind >= 0
    found["no_list_share"] = _mean(~used[targets.trial])
    found["events_behind"] = _mean(scored.behind[used])
    found["age_s"] = float(np.median(scored.age_s[used])) if used.any() else None
    cold_users, cold_items = targets.prior < COLD, targets.popularity < COLD
    found["cold_user_share"], found["cold_item_share"] = _mean(cold_users), _mean(cold_items)
    for k in ks:
        hit, ndcg, mrr = gains(scored.ranks, k)
        found[f"hr@{k}"], found[f"ndcg@{k}"], found[f"mrr@{k}"] = _mean(hit), _mean(ndcg), _mean(mrr)
        for column, values in (("hr", hit), ("ndcg", ndcg)):
            if len(values):
                found[f"{column}@{k}_95"] = list(bootstrap(values, targets.user, seed=seed))
            found[f"{column}@{k}_cold_users"] = _mean(values[cold_users])
            found[f"{column}@{k}_cold_items"] = _mean(values[cold_items])
        found |= _figures_of_trials(targets, hit, k)
        found |= _figures_of_lists(scored, vectors, catalogue_size, k)
    return found


def _figures_of_trials(targets: Targets, hit: Values, k: int) -> dict[str, Any]:
    """Precision, recall and F1 of each tie group, averaged over these."""
    if not len(hit):
        return {f"{name}@{k}": None for name in ("precision", "recall", "f1")}
    hits, wanted = np.bincount(targets.trial, hit), np.bincount(targets.trial)
    precision, recall = hits / k, hits / wanted
    f1 = 2.0 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {f"precision@{k}": _mean(precision), f"recall@{k}": _mean(recall), f"f1@{k}": _mean(f1)}


def _figures_of_lists(scored: ScoredLists, vectors: Matrix, catalogue_size: int, k: int) -> dict[str, Any]:
    """Coverage of the catalogue, diversity within lists, and novelty.

    Diversity is the mean of 1 - cosine over the pairs of a list (Ziegler et al., WWW 2005), novelty the mean
    of -log2 of the items' share of all positives (Zhou et al., PNAS 2010).
    """
    lists = scored.lists[scored.behind >= 0, :k]
    listed = lists >= 0
    covered = len(np.unique(lists[listed])) / max(catalogue_size, 1)
    diversity = []
    for begin in range(0, len(lists), _LISTS_AT_ONCE):
        chosen = slice(begin, begin + _LISTS_AT_ONCE)
        rows = vectors[lists[chosen]] * listed[chosen][:, :, None]
        squares = np.square(rows).sum(axis=2).round(6)  # 1, or 0 where an item has no vector
        count = (squares > 0.0).sum(axis=1)
        pairs = count * (count - 1)
        alike = np.square(rows.sum(axis=1, dtype=np.float64)).sum(axis=1) - squares.sum(axis=1)
        diversity.append(1.0 - alike[pairs > 0] / pairs[pairs > 0])
    surprise = scored.surprise[scored.behind >= 0, :k][listed]
    return {
        f"coverage@{k}": covered,
        f"diversity@{k}": _mean(np.concatenate(diversity)) if diversity else None,
        f"novelty@{k}": _mean(surprise),
    }


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
