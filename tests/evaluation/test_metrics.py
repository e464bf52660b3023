"""Metrics by hand and by brute force."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from recstream.evaluation.metrics import MISSED, ListScorer, Targets, bootstrap
from recstream.evaluation.replay_loop import ReplayResult

VECTORS = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0], [1, 0]], np.float32)


def replayed(*, missing: bool = False) -> ReplayResult:
    """Two users, three trials, four targets; the last trial may be without a list."""
    scorer = ListScorer(3, 3)
    popularity = np.array([5.0, 3.0, 1.0, 0.0, 1.0])
    scorer.score(0, [2, 0, 1], [0, 4], popularity, behind=0, age_s=0.0)
    scorer.score(1, [1, 0], [1], popularity, behind=4, age_s=60.0)
    if missing:
        scorer.miss(2, [3])
    else:
        scorer.score(2, [0, 2, 3], [3], popularity, behind=2, age_s=30.0)
    tests = Targets(
        user=np.array([0, 0, 1, 1], np.int32),
        trial=np.array([0, 0, 1, 2], np.int32),
        ts=np.arange(4.0),
        prior=np.array([9, 9, 1, 2]),
        popularity=np.array([5, 1, 3, 0]),
    )
    return ReplayResult(tests, {"m": scorer.scored()}, VECTORS, 5)


def test_each_target_is_a_test_of_its_own() -> None:
    row = replayed().figures("m", (2, 3))
    # ranks: 1, missed, 0, 2
    assert row["hr@2"] == 0.5
    assert row["hr@3"] == 0.75
    assert row["ndcg@3"] == pytest.approx((1 / math.log2(3) + 1 + 1 / math.log2(4)) / 4)
    assert row["mrr@2"] == pytest.approx((1 / 2 + 1) / 4)
    assert (row["hr@3_cold_users"], row["hr@3_cold_items"]) == (1.0, pytest.approx(2 / 3))
    assert row["ndcg@2_cold_items"] == pytest.approx(1 / 3)


def test_precision_recall_and_f1_are_of_tie_groups() -> None:
    row = replayed().figures("m", (2,))
    assert row["precision@2"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert row["recall@2"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert row["f1@2"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


def test_a_trial_without_a_list_misses_and_is_counted() -> None:
    row = replayed(missing=True).figures("m", (3,))
    assert row["no_list_share"] == 0.25
    assert row["hr@3"] == 0.5
    assert (row["lists"], row["events_behind"], row["age_s"]) == (2, 2.0, 30.0)
    assert replayed(missing=True).methods["m"].ranks.tolist() == [1, MISSED, 0, MISSED]


def test_coverage_diversity_and_novelty_are_those_of_their_formulas() -> None:
    row = replayed().figures("m", (3,))
    assert row["coverage@3"] == 4 / 5
    lists = [[2, 0, 1], [1, 0], [0, 2]]  # item 3 has no text, so no likeness to anything
    spread = [np.mean([1.0 - VECTORS[a] @ VECTORS[b] for a, b in combinations(one, 2)]) for one in lists]
    assert row["diversity@3"] == pytest.approx(np.mean(spread), abs=1e-6)
    count, total = [5.0, 3.0, 1.0, 0.0, 1.0], 10.0 + 5.0
    listed = [2, 0, 1, 1, 0, 0, 2, 3]
    assert row["novelty@3"] == pytest.approx(np.mean([-math.log2((count[i] + 1) / total) for i in listed]))


def test_the_interval_is_that_of_drawing_users_not_tests() -> None:
    rng = np.random.default_rng(1)
    rate = rng.random(200)
    users = np.repeat(np.arange(200, dtype=np.int32), 25)
    hits = (rng.random(5000) < rate[users]).astype(np.float64)
    low, high = bootstrap(hits, users)
    # normal approximation: users' means spread by their standard deviation
    wide = 1.96 * hits.reshape(200, 25).mean(axis=1).std() / math.sqrt(200)
    assert (high - low) / 2 == pytest.approx(wide, rel=0.1)
    assert low < hits.mean() < high
    assert bootstrap(hits, users) == (low, high)
    assert bootstrap(np.ones(50), np.arange(50, dtype=np.int32)) == (1.0, 1.0)


def test_nothing_tested_has_no_figures() -> None:
    empty = np.zeros(0, np.int32)
    tests = Targets(empty, empty, np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    row = ReplayResult(tests, {"m": ListScorer(0, 3).scored()}, VECTORS, 5).figures("m", (3,))
    assert (row["tests"], row["hr@3"], row["precision@3"], row["diversity@3"]) == (0, None, None, None)
