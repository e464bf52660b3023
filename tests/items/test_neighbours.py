"""Bounded neighbour lists against a slow reference."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recstream.items import statistics as kernels
from recstream.records.arrays import AnyArray

ROWS = 12
weights = st.floats(0, 4, width=32) | st.sampled_from([0.0, 1.0])


class Tables(NamedTuple):
    neighbours: AnyArray
    followed_by: AnyArray
    together_with: AnyArray


def empty_tables(cap: int) -> Tables:
    return Tables(np.full((ROWS, cap), -1, np.int32), *(np.zeros((ROWS, cap), np.float32) for _ in range(2)))


handles = st.integers(0, ROWS - 1)
grown = st.sampled_from([1.0, 1.25, 3.0])
pairs = st.lists(st.tuples(handles, handles, weights, weights, grown), max_size=60)
Pair = tuple[int, int, float, float, float]


def counted(rows: list[Pair], cap: int) -> Tables:
    tables = empty_tables(cap)
    columns = list(zip(*rows, strict=True)) or [(), (), (), (), ()]
    kernels.count_pairs(
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.float32),
        np.array(columns[3], np.float32),
        np.array(columns[4], np.float32),
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
    for row, other, followed, together, by in rows:
        wanted[row][other] += np.array([followed, together], np.float32) * np.float32(by)
    got = as_dicts(counted(rows, ROWS))
    assert got == [{o: (float(w[0]), float(w[1])) for o, w in row.items()} for row in wanted]


@given(pairs, st.integers(1, 4))
def test_at_the_cap_the_lightest_makes_room_and_its_weight_is_gone(rows: list[Pair], cap: int) -> None:
    wanted: list[dict[int, tuple[np.float32, np.float32]]] = [{} for _ in range(ROWS)]
    for row, other, *added, by in rows:
        followed, together = np.float32(by) * np.array(added, np.float32)
        held = wanted[row]
        before = held.get(other, (np.float32(0), np.float32(0)))
        if other not in held and len(held) == cap:
            names = list(held)
            lightest = min(names, key=lambda name: held[name][0] + held[name][1])
            wanted[row] = held = {(other if name == lightest else name): held[name] for name in names}
        held[other] = (before[0] + followed, before[1] + together)
    got = as_dicts(counted(rows, cap))
    assert got == [{o: (float(f), float(t)) for o, (f, t) in row.items()} for row in wanted]


@given(pairs)
def test_free_places_follow_the_taken_ones(rows: list[Pair]) -> None:
    """The loops stop at the first free place, so a hole would hide what is behind it."""
    for row in counted(rows, 4).neighbours:
        taken = [place for place, other in enumerate(row) if other >= 0]
        assert taken == list(range(len(taken)))
