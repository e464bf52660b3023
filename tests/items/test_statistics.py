"""Item statistics: decayed counts by stream position, bounded neighbours, and their rows."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.items.statistics import SCALES, Interaction, ItemStatistics, count_pairs, growth, pairs_of
from recstream.records.arrays import AnyArray
from tests.support.builders import popular

HANDLES = st.integers(0, 9)
interactions = st.lists(
    st.tuples(HANDLES, st.lists(HANDLES, unique=True, max_size=5)).map(
        lambda pair: Interaction(pair[0], tuple(other for other in pair[1] if other != pair[0]))
    ),
    max_size=40,
)


def neighbours_of(statistics: ItemStatistics, handle: int) -> dict[int, tuple[float, float]]:
    _, others, weights = statistics.row(handle)
    return {o: (f, t) for o, f, t in zip(others.tolist(), *weights.tolist(), strict=True)}


@given(interactions)
def test_counts_are_the_decayed_sum_by_stream_position(rows: list[Interaction]) -> None:
    statistics = ItemStatistics(4)
    statistics.count(rows)
    for k, scale in enumerate(SCALES):
        wanted = np.zeros(10)
        for at, interaction in enumerate(rows, start=1):
            wanted[interaction.item] += math.exp(-(len(rows) - at) / scale)
        np.testing.assert_allclose(statistics.popularity(10, k), wanted, rtol=1e-12)


def test_one_interaction_may_stand_for_several_events_of_the_stream() -> None:
    statistics = ItemStatistics(4)
    statistics.count([Interaction(0, ()), Interaction(1, ())], ticks_each=50.0)
    assert statistics.tick == 100.0
    np.testing.assert_allclose(statistics.popularity(2, 0), [math.exp(-0.5), 1.0])


@pytest.mark.parametrize("jump", [49_000.0, 50_001.0, 200_000.0, 1e9])
def test_a_long_stream_moves_the_landmark_and_keeps_the_values(jump: float) -> None:
    statistics = popular({0: 3, 1: 1})
    before = [statistics.popularity(2, k) for k in range(len(SCALES))]
    statistics.count([Interaction(2, ())], ticks_each=jump)
    for k, scale in enumerate(SCALES):
        got = statistics.popularity(3, k)
        np.testing.assert_allclose(got, [*(before[k] * math.exp(-jump / scale)), 1.0], rtol=1e-9, atol=1e-200)


def test_counts_stay_finite_over_a_million_events() -> None:
    statistics = ItemStatistics(2)
    for _ in range(30):
        statistics.count([Interaction(k % 7, ()) for k in range(1000)], ticks_each=33.0)
    for k, scale in enumerate(SCALES):
        counts = statistics.popularity(7, k)
        assert np.isfinite(counts).all()
        steady = 30_000 if math.isinf(scale) else 1 / (1 - math.exp(-33.0 / scale))
        assert counts.sum() == pytest.approx(steady, rel=0.01)


@given(interactions, st.integers(0, 40), st.sampled_from([2, 4, 16]))
def test_counting_in_batches_equals_counting_at_once(
    rows: list[Interaction], top_k_threshold: int, cap: int
) -> None:
    whole, split = ItemStatistics(cap), ItemStatistics(cap)
    whole.count(rows)
    split.count(rows[:top_k_threshold])
    split.count(rows[top_k_threshold:])
    for mine, theirs in zip(whole.tables, split.tables, strict=True):
        assert mine.tolist() == theirs.tolist()
    assert whole.popularity(10, 1).tolist() == split.popularity(10, 1).tolist()
    assert (whole.tick, whole.take_dirty()) == (split.tick, split.take_dirty())


@given(interactions)
def test_pairs_given_apart_count_as_those_of_the_interactions(rows: list[Interaction]) -> None:
    whole, apart = ItemStatistics(6), ItemStatistics(6)
    whole.count(rows)
    apart.count([interaction._replace(previous=()) for interaction in rows], pairs_of(rows))
    assert [table.tolist() for table in whole.tables] == [table.tolist() for table in apart.tables]
    assert whole.take_dirty() == apart.take_dirty()


def test_the_next_item_counts_by_its_distance_and_both_go_together() -> None:
    statistics = ItemStatistics(8)
    statistics.count([Interaction(9, (1, 2, 3, 4))])
    followed, together = zip(*(neighbours_of(statistics, item)[9] for item in (1, 2, 3, 4)), strict=True)
    assert [one / followed[0] for one in followed] == pytest.approx([1.0, 1 / 2, 1 / 3, 0.0])
    assert sorted(together, reverse=True) == list(together)  # the more came in between, the less
    assert len(set(together)) == 4
    back = neighbours_of(statistics, 9)
    assert back == {item: (0.0, weight) for item, weight in zip((1, 2, 3, 4), together, strict=True)}


def test_a_full_list_of_neighbours_drops_the_lightest() -> None:
    statistics = ItemStatistics(2)
    statistics.count([Interaction(1, (0,)), Interaction(1, (0,)), Interaction(2, (0,)), Interaction(3, (0,))])
    assert set(neighbours_of(statistics, 0)) == {1, 3}


def test_a_pair_weighs_by_the_age_of_the_stream_it_was_met_in() -> None:
    young, old = ItemStatistics(4), ItemStatistics(4)
    old.count([Interaction(7, ())], ticks_each=9999.0)
    for statistics in (young, old):
        statistics.count([Interaction(1, (0,))])
    ratio = growth(10_000.0) / growth(1.0)
    assert ratio > 5.0
    assert neighbours_of(old, 0)[1] == pytest.approx([ratio * w for w in neighbours_of(young, 0)[1]])
    assert old.weights(8)[1] == pytest.approx(ratio * young.weights(8)[1])


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_growth_is_one_at_the_beginning_and_by_the_age_of_the_stream_later(one: float, other: float) -> None:
    """Polynomial: the ratio of two moments tends to that of their ages, so that no stream is too long."""
    assert growth(0.0) == 1.0
    assert (growth(one) <= growth(other)) or one > other
    assert growth(2e12) / growth(1e12) == pytest.approx(2.0)


@given(interactions)
def test_weights_and_first_meetings_are_those_of_the_stream(rows: list[Interaction]) -> None:
    statistics = ItemStatistics(4)
    statistics.count(rows)
    weights, since = np.zeros(10), np.zeros(10)
    for tick, interaction in enumerate(rows, start=1):
        weights[interaction.item] += growth(float(tick))
        since[interaction.item] = since[interaction.item] or tick
    np.testing.assert_allclose(statistics.weights(10), weights)
    assert statistics.since(10).tolist() == since.tolist()


@given(interactions.filter(bool))
def test_scales_and_discounts_go_with_what_they_are_of(rows: list[Interaction]) -> None:
    """Also of rows that came from elsewhere, and of items nobody has engaged with."""
    source, copy = ItemStatistics(4), ItemStatistics(4)
    source.count(rows)
    for handle in source.take_dirty():
        counts, neighbours, weights = source.row(handle)
        copy.put_row(handle, tick=source.tick, counts=counts, neighbours=neighbours, weights=weights)
    for statistics in (source, copy):
        np.testing.assert_allclose(statistics.scales[:10], (statistics.weights(10) + 1.0) ** -0.5, rtol=1e-5)
        np.testing.assert_allclose(
            statistics.discounts[:10], (statistics.popularity(10) + 1.0) ** -0.25, rtol=1e-5
        )


@given(interactions)
def test_relative_popularity_is_popularity_up_to_a_factor(rows: list[Interaction]) -> None:
    statistics = ItemStatistics(4)
    statistics.count([*rows, Interaction(0, ())], ticks_each=700.0)  # so long that the landmark moves
    for k, relative in enumerate(statistics.relative_popularity(10)):
        wanted = statistics.popularity(10, k)
        np.testing.assert_allclose(relative / relative.sum(), wanted / wanted.sum(), rtol=1e-9, atol=1e-200)


@given(interactions)
def test_neighbours_are_bounded_distinct_and_never_the_item_itself(rows: list[Interaction]) -> None:
    statistics = ItemStatistics(3)
    statistics.count(rows)
    for handle in range(10 if rows else 0):
        used = [other for other in statistics.tables[0][handle].tolist() if other >= 0]
        assert len(used) == len(set(used)) <= 3
        assert handle not in used


@given(interactions.filter(bool))
def test_a_row_says_what_the_tables_say_and_comes_back(rows: list[Interaction]) -> None:
    source, copy = ItemStatistics(6), ItemStatistics(6)
    source.count(rows)
    for handle in source.take_dirty():
        counts, neighbours, weights = source.row(handle)
        popularity = [source.popularity(10, k)[handle] for k in range(len(SCALES))]
        wanted = [*popularity, source.weights(10)[handle], source.since(10)[handle]]
        np.testing.assert_allclose(counts, wanted, rtol=1e-12)
        copy.put_row(handle, tick=source.tick, counts=counts, neighbours=neighbours, weights=weights)
    assert copy.tick == source.tick
    for k in range(len(SCALES)):
        np.testing.assert_allclose(copy.popularity(10, k), source.popularity(10, k), rtol=1e-12)
    np.testing.assert_allclose(copy.weights(10), source.weights(10), rtol=1e-12)
    assert copy.since(10).tolist() == source.since(10).tolist()
    for handle in range(10):
        assert neighbours_of(copy, handle) == neighbours_of(source, handle)
    assert copy.take_dirty() == []


def test_an_older_row_has_decayed_by_now() -> None:
    statistics = ItemStatistics(2)
    empty = np.zeros(0, np.int32)
    none = np.zeros((2, 0), np.float32)
    row = (1.0, 1.0, 1.0, 5.0)
    statistics.put_row(0, tick=2_000_000.0, counts=(*row, 9.0, 3.0), neighbours=empty, weights=none)
    statistics.put_row(1, tick=1_999_900.0, counts=(*row, 9.0, 3.0), neighbours=empty, weights=none)
    assert statistics.tick == 2_000_000.0
    np.testing.assert_allclose(statistics.popularity(2, 0), [1.0, math.exp(-1.0)])
    assert statistics.popularity(2).tolist() == [5.0, 5.0]
    assert (statistics.weights(2).tolist(), statistics.since(2).tolist()) == ([9.0, 9.0], [3.0, 3.0])


def test_a_row_with_more_neighbours_than_fit_keeps_the_heaviest() -> None:
    statistics = ItemStatistics(2)
    weights = np.array([[0, 3, 1], [1, 3, 1]], np.float32)
    statistics.put_row(
        0, tick=1.0, counts=(0.0,) * 6, neighbours=np.array([5, 6, 7], np.int32), weights=weights
    )
    assert neighbours_of(statistics, 0) == {6: (3.0, 3.0), 7: (1.0, 1.0)}


def test_a_row_replaces_what_was_there() -> None:
    statistics = ItemStatistics(4)
    statistics.count([Interaction(1, (0,)), Interaction(2, (0,))])
    statistics.put_row(
        0,
        tick=statistics.tick,
        counts=(0.0, 0.0, 0.0, 7.0, 1.0, 1.0),
        neighbours=np.array([3], np.int32),
        weights=np.ones((2, 1), np.float32),
    )
    assert neighbours_of(statistics, 0) == {3: (1.0, 1.0)}
    assert statistics.popularity(1).tolist() == [7.0]


def test_no_items_have_no_popularity() -> None:
    assert ItemStatistics(4).popularity(0).shape == (0,)
    ItemStatistics(4).count([])


def test_what_changed_is_taken_once_in_order() -> None:
    statistics = ItemStatistics(4)
    statistics.count([Interaction(7, (2,)), Interaction(5, ())])
    assert statistics.take_dirty() == [2, 5, 7]
    assert statistics.take_dirty() == []


def test_room_for_handles_beyond_the_tables_is_made() -> None:
    statistics = ItemStatistics(4)
    statistics.count([Interaction(0, (1,))])
    statistics.count([Interaction(5000, (1,))])
    assert set(neighbours_of(statistics, 1)) == {0, 5000}
    assert statistics.popularity(5001)[5000] == 1.0


ROWS = 12
weights = st.floats(0, 4, width=32) | st.sampled_from([0.0, 1.0])


class Tables(NamedTuple):
    neighbours: AnyArray
    followed_by: AnyArray
    together_with: AnyArray


def empty_tables(cap: int) -> Tables:
    return Tables(np.full((ROWS, cap), -1, np.int32), *(np.zeros((ROWS, cap), np.float32) for _ in range(2)))


LISTS = st.integers(0, ROWS - 1)
grown = st.sampled_from([1.0, 1.25, 3.0])
pairs = st.lists(st.tuples(LISTS, LISTS, weights, weights, grown), max_size=60)
Pair = tuple[int, int, float, float, float]


def counted(rows: list[Pair], cap: int) -> Tables:
    tables = empty_tables(cap)
    columns = list(zip(*rows, strict=True)) or [(), (), (), (), ()]
    count_pairs(
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
    """Kernels stop at the first free place, so a hole would hide what is behind it."""
    for row in counted(rows, 4).neighbours:
        taken = [place for place, other in enumerate(row) if other >= 0]
        assert taken == list(range(len(taken)))
