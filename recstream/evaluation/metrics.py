"""Metrics: what the ranks and lists of a method come to, with confidence intervals over users."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.evaluation.passes import Pass, Targets
from recstream.evaluation.scoring import Scored
from recstream.records.arrays import Matrix

__all__ = ["COLD", "Interval", "bootstrap", "figures", "gains"]

COLD: Final = 5
"""A user, or an item, with fewer positives is cold."""
_ROUNDS: Final = 1000
_BLOCK: Final = 64

Values = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def gains(ranks: npt.NDArray[np.int64], k: int) -> tuple[Values, Values, Values]:
    """Hits, NDCG and reciprocal rank of each target at ``k``; each target is a test of its own.

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
    """Interval of the mean of ``values`` (one a test), users drawn with replacement 1,000 times.

    Users, because one user's tests resemble each other. Efron and Tibshirani, "An introduction to the
    bootstrap" (1993), the percentile interval.
    """
    _, user = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(user, values), np.bincount(user).astype(np.float64)
    if not len(sums):
        return Interval(float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = []
    for begin in range(0, _ROUNDS, _BLOCK):
        size = (min(_BLOCK, _ROUNDS - begin), len(sums))
        drawn = rng.integers(0, len(sums), size)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(low), float(high))


def figures(done: Pass, name: str, ks: tuple[int, ...], *, seed: int = 0) -> dict[str, Any]:
    """All metrics of one method, by name (``hr@10``), None where nothing was tested."""
    tests, scored = done.targets, done.methods[name]
    found: dict[str, Any] = {"tests": len(scored.ranks), "lists": int((scored.behind >= 0).sum())}
    none = scored.behind[tests.trial] < 0
    found["no_list_share"] = _mean(none)
    used = scored.behind >= 0
    found["events_behind"] = _mean(scored.behind[used])
    found["age_s"] = float(np.median(scored.age_s[used])) if used.any() else None
    cold_users, cold_items = tests.prior < COLD, tests.popularity < COLD
    found["cold_user_share"], found["cold_item_share"] = _mean(cold_users), _mean(cold_items)
    for k in ks:
        hit, ndcg, mrr = gains(scored.ranks, k)
        found[f"hr@{k}"], found[f"ndcg@{k}"], found[f"mrr@{k}"] = _mean(hit), _mean(ndcg), _mean(mrr)
        for column, values in (("hr", hit), ("ndcg", ndcg)):
            if len(values):
                found[f"{column}@{k}_95"] = list(bootstrap(values, tests.user, seed=seed))
            found[f"{column}@{k}_cold_users"] = _mean(values[cold_users])
            found[f"{column}@{k}_cold_items"] = _mean(values[cold_items])
        found |= _of_trials(tests, hit, k)
        found |= _of_lists(scored, done.vectors, done.catalogue, k)
    return found


def _of_trials(tests: Targets, hit: Values, k: int) -> dict[str, Any]:
    """Precision, recall and F1 of each tie group, averaged over these."""
    if not len(hit):
        return {f"{name}@{k}": None for name in ("precision", "recall", "f1")}
    hits, targets = np.bincount(tests.trial, hit), np.bincount(tests.trial)
    precision, recall = hits / k, hits / targets
    f1 = 2.0 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {f"precision@{k}": _mean(precision), f"recall@{k}": _mean(recall), f"f1@{k}": _mean(f1)}


def _of_lists(scored: Scored, vectors: Matrix, catalogue: int, k: int) -> dict[str, Any]:
    """Coverage of the catalogue, diversity within lists, and novelty.

    Diversity is the mean of 1 - cosine over the pairs of a list (Ziegler et al., WWW 2005), novelty the mean
    of -log2 of the items' share of all positives (Zhou et al., PNAS 2010).
    """
    lists = scored.lists[scored.behind >= 0, :k]
    listed = lists >= 0
    covered = len(np.unique(lists[listed])) / max(catalogue, 1)
    spread = []
    for begin in range(0, len(lists), 1024):
        some = listed[begin : begin + 1024]
        rows = vectors[lists[begin : begin + 1024]] * some[:, :, None]
        spoken = np.square(rows).sum(axis=2).round(6)
        count = (spoken > 0.0).sum(axis=1)
        pairs = count * (count - 1)
        alike = np.square(rows.sum(axis=1, dtype=np.float64)).sum(axis=1) - spoken.sum(axis=1)
        spread.append(1.0 - alike[pairs > 0] / pairs[pairs > 0])
    surprise = scored.surprise[scored.behind >= 0, :k][listed]
    return {
        f"coverage@{k}": covered,
        f"diversity@{k}": _mean(np.concatenate(spread)) if spread else None,
        f"novelty@{k}": _mean(surprise),
    }


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
