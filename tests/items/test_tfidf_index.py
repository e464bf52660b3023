"""The inverted index against a dense product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.items.tfidf_index import TfidfIndex, score_terms
from recstream.records.arrays import AnyArray

TERMS = 24
ROWS = 12
documents = st.dictionaries(st.integers(0, TERMS - 1), st.floats(0.5, 8, width=32), max_size=10)
puts = st.lists(st.tuples(st.integers(0, ROWS - 1), documents), max_size=40)
queries = st.dictionaries(st.integers(0, ROWS - 1), st.floats(0.125, 1, width=32), max_size=6)
idfs = st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.5]), min_size=TERMS, max_size=TERMS)
Document = dict[int, float]


def put(index: TfidfIndex, row: int, document: Document) -> None:
    index.put(row, np.array(list(document), np.int32), np.array(list(document.values()), np.float32))


def index_of(steps: list[tuple[int, Document]]) -> tuple[TfidfIndex, AnyArray]:
    """The index after these puts, and the same as a dense matrix of counts."""
    index, dense = TfidfIndex(TERMS), np.zeros((ROWS, TERMS))
    index.reserve(ROWS)
    for row, document in steps:
        put(index, row, document)
        dense[row] = 0.0
        dense[row, list(document)] = list(document.values())
    return index, dense


def unit_rows(weighted: AnyArray) -> AnyArray:
    lengths = np.linalg.norm(weighted, axis=1, keepdims=True)
    return weighted / np.where(lengths > 0.0, lengths, 1.0)


def scores_of(index: TfidfIndex, query: dict[int, float], rows: int = ROWS) -> AnyArray:
    workspace, scores = np.zeros(len(index.idf), np.float32), np.zeros(rows, np.float32)
    asked = np.array(list(query), np.int32), np.array(list(query.values()), np.float32)
    score_terms(index.postings, *asked, workspace, scores)
    assert not workspace.any(), "scratch is not zeros afterwards"
    return scores


@given(puts, queries, idfs)
@settings(max_examples=200)
def test_scores_are_those_of_the_dense_product(
    steps: list[tuple[int, Document]], query: dict[int, float], idf: list[float]
) -> None:
    index, dense = index_of(steps)
    index.weigh(np.array(idf, np.float32))
    rows = unit_rows(dense * np.array(idf))
    wanted = rows @ (np.array(list(query.values())) @ rows[list(query)] if query else np.zeros(TERMS))
    np.testing.assert_allclose(scores_of(index, query), wanted, atol=1e-5)


@given(puts)
def test_weights_are_taken_from_the_items_there_are(steps: list[tuple[int, Document]]) -> None:
    index, dense = index_of(steps)
    before = index.idf.tolist()
    assert before == [1.0] * TERMS
    index.weigh()
    items = int(dense.any(axis=1).sum())
    wanted = np.log((items + 1.0) / ((dense > 0.0).sum(axis=0) + 1.0))
    np.testing.assert_allclose(index.idf, wanted, atol=1e-6)


@given(puts, puts)
def test_an_item_that_comes_changes_no_other_items_vector(
    steps: list[tuple[int, Document]], later: list[tuple[int, Document]]
) -> None:
    index, _ = index_of(steps)
    index.weigh()
    before = index.idf.tolist()
    rows = {row for row, _ in later}
    kept = [row for row in range(ROWS) if row not in rows]
    scores = [scores_of(index, {row: 1.0})[kept].tolist() for row in kept]
    for row, document in later:
        put(index, row, document)
    assert index.idf.tolist() == before
    after = [scores_of(index, {row: 1.0})[kept] for row in kept]
    assert len(after) == len(scores)
    for one, other in zip(after, scores, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_growth_and_many_replacements_keep_everything() -> None:
    """Terms are moved to more room, and what replaced rows left behind is swept."""
    random = np.random.default_rng(3)
    index, rows = TfidfIndex(64), 3000
    held: dict[int, AnyArray] = {}
    for _ in range(3):
        for row in range(rows):
            held[row] = random.choice(64, 5, replace=False).astype(np.int32)
            index.put(row, held[row], np.ones(5, np.float32))
    dense = np.zeros((rows, 64))
    for row, terms in held.items():
        dense[row, terms] = 1.0
        assert sorted(index.terms_of(row).tolist()) == sorted(terms.tolist())
    units = dense / np.sqrt(5.0)
    np.testing.assert_allclose(scores_of(index, {7: 1.0}, rows), units @ units[7], atol=1e-5)
    assert index.postings.sizes.tolist() == dense.sum(axis=0).tolist()


def test_a_term_in_most_items_says_nothing_and_a_rare_one_most() -> None:
    index = TfidfIndex(8)
    for row in range(100):
        put(index, row, {0: 1.0, 1 + row % 5: 1.0, **({7: 1.0} if row < 2 else {})})
    index.weigh()
    assert index.idf[0] == 0.0
    assert index.idf[7] > index.idf[1] > 0.0
    scores = scores_of(index, {0: 1.0}, 100)
    assert scores[1] > scores[5] > 0.0 == scores[2]


def test_of_a_long_query_the_heaviest_terms_are_looked_up() -> None:
    index = TfidfIndex(512)
    put(index, 0, {term: 1.0 for term in range(100)} | {200: 40.0})
    put(index, 1, {200: 1.0})
    put(index, 2, {term: 1.0 for term in range(100)})
    scores = scores_of(index, {0: 1.0, 1: 1.0}, 3)
    assert scores[1] > 0.9
    assert scores[0] == pytest.approx(1.0 + scores_of(index, {0: 1.0}, 3)[1], abs=0.1)


def test_an_index_of_nothing_answers() -> None:
    index = TfidfIndex(4)
    index.weigh()
    index.reserve(3)
    put(index, 1, {})
    assert scores_of(index, {0: 1.0, 1: 1.0}, 3).tolist() == [0.0, 0.0, 0.0]
