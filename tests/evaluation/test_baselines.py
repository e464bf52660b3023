"""Baselines against their formulas, computed the slow way."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from recstream.evaluation.baselines import BASELINES, Baseline, History
from recstream.evaluation.baselines.base import Scores, top_of
from recstream.evaluation.baselines.counts import Adjacency


def history_of(log: list[tuple[int, int]], name: str, items: int = 30) -> tuple[History, Baseline]:
    history = History(max(user for user, _ in log) + 1, np.ones(items, np.bool_))
    baseline = BASELINES[name](history)
    for user, item in log:
        baseline.learn(user, item)
        history.learn(user, item)
    return history, baseline


def scores_of(log: list[tuple[int, int]], name: str, user: int) -> Scores:
    history, baseline = history_of(log, name)
    scores = np.zeros(history.items)
    baseline.score(user, scores)
    return scores


def random_log(count: int, seed: int = 0) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    return [(rng.randrange(6), min(rng.randrange(30), rng.randrange(30))) for _ in range(count)]


def test_the_adjacency_sums_what_is_added_however_it_grows() -> None:
    rng = np.random.default_rng(0)
    pairs, dense = Adjacency(50), np.zeros((50, 50))
    for _ in range(40):
        rows, others = rng.integers(0, 50, (2, 500))
        amounts = rng.integers(1, 9, 500).astype(np.float64)
        pairs.add(rows.tolist(), others.tolist(), amounts.tolist())
        np.add.at(dense, (rows, others), amounts)
        scores = np.zeros(50)
        pairs.gather(np.array([3, 7], np.int32), np.array([1.0, 0.5]), scores)
        np.testing.assert_allclose(scores, dense[3] + 0.5 * dense[7])


def test_popularity_counts_and_recent_popularity_fades_by_e_in_a_thousand_events() -> None:
    log = [(0, 1)] * 3 + [(0, 2)] * 2 + [(0, 3)] * 1000
    assert scores_of(log, "popularity", 0)[:4].tolist() == [0, 3, 2, 1000]
    lately = scores_of(log, "recent", 0)
    age = {
        item: sum(math.exp(-(len(log) - 1 - n) / 1000) for n, (_, i) in enumerate(log) if i == item)
        for item in (1, 2, 3)
    }
    np.testing.assert_allclose(lately[1:4] / lately[3], [age[1] / age[3], age[2] / age[3], 1.0])


def test_own_counts_are_the_users_own() -> None:
    log = [(0, 1), (1, 2), (0, 3), (0, 1), (1, 2), (0, 4)]
    assert scores_of(log, "owncounts", 0)[:5].tolist() == [0, 2, 0, 1, 1]


def test_recent_popularity_survives_a_log_of_any_length() -> None:
    history = History(1, np.ones(2, np.bool_))
    history._gain = 9e199
    for item in (0, 1, 1):
        history.learn(0, item)
    assert np.isfinite(history.faded_count).all()
    assert history.faded_count[1] / history.faded_count[0] == pytest.approx(math.exp(0.001) + math.exp(0.002))


def test_transitions_are_the_shares_of_what_followed_the_last_three() -> None:
    log = random_log(400)
    followed: dict[int, Counter[int]] = {item: Counter() for item in range(30)}
    histories: dict[int, list[int]] = {user: [] for user in range(6)}
    for user, item in log:
        before = [other for other in dict.fromkeys(reversed(histories[user])) if other != item][:3]
        for place, other in enumerate(before, start=1):
            followed[other][item] += 1.0 / place  # type: ignore[assignment]
        histories[user].append(item)
    expected = np.zeros(30)
    for place, item in enumerate(list(dict.fromkeys(reversed(histories[2])))[:3], start=1):
        for other, count in followed[item].items():
            expected[other] += count / followed[item].total() / place
    np.testing.assert_allclose(scores_of(log, "transitions", 2), expected, rtol=1e-6)


def test_itemknn_is_the_cosine_between_the_users_of_two_items() -> None:
    log = random_log(60)
    sets: dict[int, set[int]] = {item: {user for user, i in log if i == item} for item in range(30)}
    last = list(dict.fromkeys(item for user, item in reversed(log) if user == 1))[:20]
    expected = np.zeros(30)
    for item in range(30):
        for place, other in enumerate(last):
            if item != other and sets[item]:
                both = len(sets[item] & sets[other]) * math.exp(-place / 5)
                expected[item] += both / math.sqrt((len(sets[item]) + 5) * (len(sets[other]) + 5))
    np.testing.assert_allclose(scores_of(log, "itemknn", 1), expected, rtol=1e-6)


def test_sessionknn_recommends_what_else_is_in_the_sessions_most_alike() -> None:
    alike = [(1, item) for item in (1, 2, 3, 4)]
    less = [(2, item) for item in (1, 10, 11, 12)]
    none = [(3, item) for item in (20, 21)]
    scores = scores_of([*alike, *less, *none, (0, 1), (0, 2)], "sessionknn", 0)
    assert scores[3] > scores[4] > scores[10] > 0.0
    assert not scores[20:].any()


def test_sessionknn_leaves_the_users_own_sessions_out_and_begins_anew_after_fifty() -> None:
    own = [(0, item % 10) for item in range(120)]
    assert not scores_of(own, "sessionknn", 0).any()
    other = [(1, 5)] * 50 + [(1, 6)]
    assert scores_of([*other, (0, 5)], "sessionknn", 0)[6] == 0.0
    assert scores_of([*other[1:], (0, 5)], "sessionknn", 0)[6] > 0.0


def test_a_list_is_filled_up_by_recent_popularity_and_never_by_what_never_occurred() -> None:
    history, _ = history_of([(0, 1), (0, 2), (1, 3), (1, 3), (1, 4)], "popularity")
    scores = np.zeros(30)
    scores[4] = 1e-3
    assert top_of(scores, history, history.excluded(0, repeats=False), 20).tolist() == [4, 3]
    assert set(top_of(scores, history, history.excluded(0, repeats=True), 20).tolist()) == {4, 3, 2, 1}


def test_of_equal_scores_the_smaller_number_comes_first_and_the_rest_is_cut_off() -> None:
    history, _ = history_of([(0, item) for item in range(30)], "popularity")
    history.count[:], history.faded_count[:] = 1.0, 1.0
    scores = np.zeros(30)
    scores[[20, 7, 9, 3]] = (2.0, 1.0, 1.0, 1.0)
    assert top_of(scores, history, np.zeros(0, np.int32), 3).tolist() == [20, 3, 7]


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_learns_a_pattern_where_one_is(name: str) -> None:
    cycle = [(n % 4, (n // 4 + 3 * (n % 4)) % 12) for n in range(400)]
    history, baseline = history_of(cycle, name)
    scores = np.zeros(history.items)
    baseline.score(0, scores)
    assert scores[:12].any()
    assert not scores[12:].any()
    assert all(a != b for (_, a), (_, b) in pairwise(cycle))
