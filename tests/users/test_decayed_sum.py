"""Decayed sums: a formula over the whole set of events, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.users.decayed_sum import DecayedSum, decay
from tests.support.builders import DIM, HOUR, assert_same_sum, unit

additions = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.floats(0.01, 5.0),
        st.floats(0.0, 1e6) | st.sampled_from([0.0, 60.0, 1.7e9]),
    ),
    min_size=1,
    max_size=30,
)


def summed(rows: list[tuple[int, float, float]]) -> DecayedSum:
    total = DecayedSum.empty(DIM)
    for seed, weight, ts in rows:
        total.add(unit(seed), weight, ts, HOUR)
    return total


@given(additions, st.randoms(use_true_random=False))
def test_arrival_order_does_not_change_a_sum(rows: list[tuple[int, float, float]], random: object) -> None:
    other = list(rows)
    random.shuffle(other)  # type: ignore[attr-defined]  # Hypothesis types it as object's kin
    assert_same_sum(summed(rows), summed(other))


@given(additions)
def test_a_sum_is_what_the_formula_says(rows: list[tuple[int, float, float]]) -> None:
    newest = max(ts for _, _, ts in rows)
    weights = [weight * 0.5 ** ((newest - ts) / HOUR) for _, weight, ts in rows]
    wanted = sum(w * unit(seed).astype("f8") for w, (seed, _, _) in zip(weights, rows, strict=True))
    got = summed(rows)
    np.testing.assert_allclose(got.total, wanted, atol=1e-9)
    assert got.weight == pytest.approx(sum(weights), abs=1e-9)
    assert got.as_of == newest


@given(st.floats(-1e12, 1e12), st.floats(1e-3, 1e9))
def test_what_is_left_of_a_weight_lies_between_none_and_all(age: float, half_life: float) -> None:
    assert 0.0 <= decay(age, half_life) <= 1.0


def test_a_vector_of_another_length_is_refused_and_changes_nothing() -> None:
    total = summed([(1, 1.0, 5.0)])
    before = total.total.copy()
    with pytest.raises(ValueError, match=r"shape \(3,\), this sum \(8,\)"):
        total.add(np.ones(3, np.float32), 1.0, 9.0, HOUR)
    assert (total.total.tolist(), total.as_of) == (before.tolist(), 5.0)


def test_a_sum_does_not_keep_hold_of_the_vectors_it_was_given() -> None:
    vector = unit(1).copy()
    total = DecayedSum.empty(DIM)
    total.add(vector, 1.0, 0.0, HOUR)
    vector[:] = 9.0
    np.testing.assert_allclose(total.total, unit(1))
