"""Compiled loops against slow references."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.core import kernels
from recstream.core.arrays import AnyArray

ROWS = 12
scores = st.lists(
    st.floats(-5, 5, width=32) | st.sampled_from([0.0, 1.0, float("nan"), float("-inf")]), max_size=40
)
weights = st.floats(0, 4, width=32) | st.sampled_from([0.0, 1.0])


@given(scores, st.integers(1, 45))
def test_the_top_is_that_of_a_stable_sort(values: list[float], n: int) -> None:
    row = np.array(values, np.float32)
    rows, best = np.full(n, -9, np.int32), np.zeros(n, np.float32)
    found = kernels.select_top(row, n, rows, best)
    usable = [k for k in range(len(row)) if row[k] > -np.inf]
    wanted = sorted(usable, key=lambda k: (-row[k], k))[:n]
    assert rows[:found].tolist() == wanted
    assert best[:found].tolist() == row[wanted].tolist()
    assert (rows[found:] == -9).all()


class Tables(NamedTuple):
    neighbours: AnyArray
    followed_by: AnyArray
    together_with: AnyArray


def empty_tables(cap: int) -> Tables:
    return Tables(np.full((ROWS, cap), -1, np.int32), *(np.zeros((ROWS, cap), np.float32) for _ in range(2)))


pairs = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1), weights, weights), max_size=60)
Pair = tuple[int, int, float, float]


def counted(rows: list[Pair], cap: int) -> Tables:
    tables = empty_tables(cap)
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    kernels.count_pairs(
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.float32),
        np.array(columns[3], np.float32),
        *tables,
    )
    return tables


def as_dicts(tables: Tables) -> list[dict[int, tuple[float, float]]]:
    return [
        {int(o): (float(f), float(t)) for o, f, t in zip(*row, strict=True) if o >= 0}
        for row in zip(*tables, strict=True)
    ]


@given(pairs)
def test_below_the_cap_pairs_are_plain_sums(rows: list[Pair]) -> None:
    wanted: list[dict[int, AnyArray]] = [defaultdict(lambda: np.zeros(2, np.float32)) for _ in range(ROWS)]
    for row, other, followed, together in rows:
        wanted[row][other] += np.array([followed, together], np.float32)
    got = as_dicts(counted(rows, ROWS))
    assert got == [{o: (float(w[0]), float(w[1])) for o, w in row.items()} for row in wanted]


@given(pairs, st.integers(1, 4))
def test_at_the_cap_the_lightest_makes_room_and_its_weight_is_gone(rows: list[Pair], cap: int) -> None:
    wanted: list[dict[int, tuple[np.float32, np.float32]]] = [{} for _ in range(ROWS)]
    for row, other, followed, together in rows:
        held = wanted[row]
        before = held.get(other, (np.float32(0), np.float32(0)))
        if other not in held and len(held) == cap:
            names = list(held)
            lightest = min(names, key=lambda name: held[name][0] + held[name][1])
            wanted[row] = held = {(other if name == lightest else name): held[name] for name in names}
        held[other] = (before[0] + np.float32(followed), before[1] + np.float32(together))
    got = as_dicts(counted(rows, cap))
    assert got == [{o: (float(f), float(t)) for o, (f, t) in row.items()} for row in wanted]


@given(pairs)
def test_free_places_follow_the_taken_ones(rows: list[Pair]) -> None:
    """The loops stop at the first free place, so a hole would hide what is behind it."""
    for row in counted(rows, 4).neighbours:
        taken = [place for place, other in enumerate(row) if other >= 0]
        assert taken == list(range(len(taken)))


class Case(NamedTuple):
    tables: Tables
    recent: AnyArray
    followed: AnyArray
    together: AnyArray
    signal_weights: AnyArray
    root_counts: AnyArray
    excluded: AnyArray
    scores: AnyArray


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows = [one for one in draw(pairs) if one[0] != one[1]]
    recent = draw(st.lists(st.integers(0, ROWS - 1), unique=True, max_size=5))
    each = st.lists(weights, min_size=len(recent), max_size=len(recent))
    counts = draw(st.lists(st.floats(0, 50), min_size=ROWS, max_size=ROWS))
    values = draw(st.lists(st.floats(-2, 2, width=32), min_size=ROWS, max_size=ROWS))
    return Case(
        counted(rows, draw(st.sampled_from([2, ROWS]))),
        np.array(recent, np.int32),
        np.array(draw(each), np.float32),
        np.array(draw(each), np.float32),
        np.array(draw(st.tuples(weights, weights)), np.float32),
        np.sqrt(np.array(counts) + 1.0).astype(np.float32),
        np.array(draw(st.lists(st.integers(0, ROWS - 1), max_size=4)), np.int32),
        np.array(values, np.float32),
    )


def raw_sums(case: Case) -> AnyArray:
    """Shape ``(2, items, recent)``: what each recent item adds to each item, by the definition."""
    parts = np.zeros((2, ROWS, len(case.recent)))
    held = as_dicts(case.tables)
    for r, item in enumerate(case.recent.tolist()):
        followed_in_all = sum(f for f, _ in held[item].values())
        for other, (f, t) in held[item].items():
            if followed_in_all > 0:
                parts[0, other, r] = case.followed[r] * f / followed_in_all
            parts[1, other, r] = case.together[r] * t / (case.root_counts[item] * case.root_counts[other])
    return parts


@given(cases())
def test_scores_are_those_of_the_definition_and_scratch_is_zeros_again(case: Case) -> None:
    sums = raw_sums(case).sum(axis=2)
    wanted = case.scores.astype("f8")
    for signal in range(2):
        if sums[signal].max() > 0:
            wanted += case.signal_weights[signal] * np.sqrt(sums[signal] / sums[signal].max())
    wanted[case.excluded] = -np.inf
    got, scratch = case.scores.copy(), np.zeros(ROWS, np.float32)
    norms = np.full(2, 7.0, np.float32)
    kernels.score_row(
        got,
        case.recent,
        case.followed,
        case.together,
        case.signal_weights,
        *case.tables,
        case.root_counts,
        case.excluded,
        scratch,
        np.zeros(ROWS, np.int32),
        norms,
    )
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    np.testing.assert_allclose(norms, sums.max(axis=1), rtol=1e-4, atol=1e-6)
    assert not scratch.any()


@given(cases(), st.lists(st.integers(0, ROWS - 1), unique=True, min_size=1, max_size=6))
def test_parts_of_the_chosen_are_those_of_the_definition(case: Case, chosen: list[int]) -> None:
    parts = np.zeros((2, len(chosen), len(case.recent)), np.float32)
    kernels.pair_parts(
        np.array(chosen, np.int32),
        case.recent,
        case.followed,
        case.together,
        *case.tables,
        case.root_counts,
        parts,
    )
    np.testing.assert_allclose(parts, raw_sums(case)[:, chosen], rtol=1e-4, atol=1e-6)


def test_nothing_recent_leaves_the_scores_alone() -> None:
    got, norms = np.arange(ROWS, dtype=np.float32), np.ones(2, np.float32)
    none, nobody = np.zeros(0, np.float32), np.zeros(0, np.int32)
    tables = empty_tables(3)
    kernels.score_row(
        got,
        nobody,
        none,
        none,
        np.ones(2, np.float32),
        *tables,
        np.ones(ROWS, np.float32),
        nobody,
        np.zeros(ROWS, np.float32),
        np.zeros(ROWS, np.int32),
        norms,
    )
    assert got.tolist() == list(range(ROWS))
    assert norms.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n", [1, 3, 10])
def test_the_top_of_nothing_is_nothing(n: int) -> None:
    rows, best = np.zeros(n, np.int32), np.zeros(n, np.float32)
    assert kernels.select_top(np.zeros(0, np.float32), n, rows, best) == 0
    assert kernels.select_top(np.full(5, -np.inf, np.float32), n, rows, best) == 0
    assert kernels.select_top(np.full(5, np.nan, np.float32), n, rows, best) == 0
