"""Diversity: marginal relevance, caps a category, and lists that are left alone without them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.ranking.recommender import rank
from recstream.ranking.rerank import Diversity, diversified
from recstream.records.arrays import AnyArray, Matrix
from tests.support.builders import catalogue_of, event, popular, query, unit, user_state_after
from tests.support.rules import ranking_rules

seeds = st.integers(0, 2**32 - 1)
Labels = list[frozenset[int]]


def pool(seed: int, count: int = 12) -> tuple[AnyArray, Matrix, Labels]:
    """Candidates in order of their score, some of them tied, with texts and labels."""
    random = np.random.default_rng(seed)
    scores = -np.sort(-np.round(random.random(count), 1)).astype(np.float32)
    labels = [frozenset(random.choice(4, random.integers(0, 3), replace=False).tolist()) for _ in scores]
    return scores, np.array([unit(f"{seed} {k}") for k in range(count)]), labels


@given(seeds, st.integers(0, 15))
def test_without_either_the_scores_decide_and_ties_keep_their_order(seed: int, n: int) -> None:
    scores, text, labels = pool(seed)
    assert not Diversity(0.0, 0)
    assert diversified(scores, text, labels, n, Diversity(0.0, 0)) == list(range(min(n, len(scores))))


@given(seeds, st.floats(0, 1), st.integers(0, 3), st.integers(0, 15))
def test_a_list_is_of_distinct_candidates_and_full_and_the_best_comes_first(
    seed: int, mmr: float, cap: int, n: int
) -> None:
    scores, text, labels = pool(seed)
    chosen = diversified(scores, text, labels, n, Diversity(mmr, cap))
    assert len(set(chosen)) == len(chosen) == min(n, len(scores))
    if n and mmr < 1.0:
        assert chosen[0] == 0


@given(seeds, st.floats(0, 0.95))
def test_each_next_item_has_the_greatest_marginal_relevance(seed: int, mmr: float) -> None:
    scores, text, labels = pool(seed)
    chosen = diversified(scores, text, labels, 6, Diversity(mmr, 0))
    relevance = (scores - scores.min()) / max(float(scores.max() - scores.min()), 1e-9)
    for at in range(1, 6):
        likeness = np.maximum((text @ text[chosen[:at]].T).max(axis=1), 0.0)
        value = (1.0 - mmr) * relevance - mmr * likeness
        left = [place for place in range(len(scores)) if place not in chosen[:at]]
        assert value[chosen[at]] == pytest.approx(value[left].max(), abs=1e-5)


@given(seeds, st.integers(1, 3), st.integers(1, 12))
def test_a_full_category_waits_until_no_others_are_left(seed: int, cap: int, n: int) -> None:
    scores, text, labels = pool(seed)
    chosen = diversified(scores, text, labels, n, Diversity(0.0, cap))
    for at, place in enumerate(chosen):
        before = [labels[one] for one in chosen[:at]]
        full = {label for label in range(4) if sum(label in one for one in before) >= cap}
        left = [one for one in range(len(scores)) if one not in chosen[:at]]
        free = [one for one in left if not labels[one] & full]
        assert place == min(free or left)


def test_relevance_alone_or_unlikeness_alone() -> None:
    text = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    scores, none = np.array([4, 3, 2, 1], np.float32), [frozenset[int]()] * 4
    assert diversified(scores, text, none, 3, Diversity(0.01, 0)) == [0, 1, 2]
    assert diversified(scores, text, none, 3, Diversity(1.0, 0))[1] in (2, 3)


def test_lists_are_diversified_by_their_rules_only() -> None:
    """Of ten copies and others less popular the list holds the copies, unless it is to be diverse."""
    catalogue = catalogue_of(["seen"])
    for k in range(10):
        catalogue.put(f"copy{k}", unit("copy"), categories=["copies"])
    for k in range(10):
        catalogue.put(f"other{k}", unit(k), categories=[f"of its own {k}"])
    statistics = popular({row: 30 - row for row in range(1, 21)})
    asked = [query(user_state_after([event(1.0, "view", "seen")], catalogue))]
    weights = dict.fromkeys(ranking_rules().weights, 0.0) | {"popular": 1.0}

    def copies(diversity: Diversity) -> int:
        rules = ranking_rules(top_n=6, weights=weights, diversity=diversity)
        (ranked,) = rank(asked, catalogue, statistics, rules)
        assert len(ranked) == 6
        return sum(catalogue.ids[one.item].startswith("copy") for one in ranked)

    assert copies(Diversity(0.0, 0)) == 6
    assert copies(Diversity(0.5, 0)) < 6
    assert copies(Diversity(0.0, 2)) == 2
