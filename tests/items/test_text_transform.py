"""The transform of texts: linear, unit rows, whitened, stored."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.items.text_transform import DIMS, TextTransform, fit, plain
from recstream.records.arrays import Matrix

seeds = st.integers(0, 2**32 - 1)


def texts(seed: int, count: int = 60, dim: int = 12) -> Matrix:
    """Unit vectors with a common direction, some directions longer than others."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, dim)) * np.linspace(2.0, 0.2, dim) + 1.5
    found: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


@given(seeds, st.lists(st.floats(-3, 3, width=32), min_size=5, max_size=5), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_sum_is_transformed_as_its_vectors_are(seed: int, weights: list[float], whitening: float) -> None:
    rows = texts(seed)
    transform = fit(rows, version=1, dims=6, whitening=whitening)
    some = rows[:5].astype(np.float64)
    together = transform.apply(np.array(weights)[None] @ some, np.array([sum(weights)]))
    np.testing.assert_allclose(together[0], np.array(weights) @ transform.apply(some), atol=1e-3)


@given(seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_rows_are_of_unit_length_and_an_unknown_text_stays_zeros(seed: int, whitening: float) -> None:
    rows = texts(seed)
    rows[7] = 0.0
    transform = fit(rows, version=1, dims=6, whitening=whitening)
    moved = transform.unit(rows)
    lengths = np.linalg.norm(moved, axis=1)
    assert lengths[7] == 0.0
    np.testing.assert_allclose(np.delete(lengths, 7), 1.0, atol=1e-5)
    assert transform.items == 59


@given(seeds)
def test_components_come_by_their_variance_and_whitened_ones_are_equal(seed: int) -> None:
    rows = texts(seed).astype(np.float64)
    variances = fit(texts(seed), version=1, dims=8).apply(rows).var(axis=0)
    assert (np.diff(variances) <= 1e-6).all()
    assert variances[0] > 3 * variances[-1]
    white = fit(texts(seed), version=1, dims=8, whitening=1.0).apply(rows)
    np.testing.assert_allclose(white.var(axis=0), 1.0, rtol=1e-3)
    half = fit(texts(seed), version=1, dims=8, whitening=0.5).apply(rows).var(axis=0)
    np.testing.assert_allclose(half, np.sqrt(variances), rtol=1e-3)


@given(seeds)
def test_all_components_keep_all_distances(seed: int) -> None:
    rows = texts(seed)
    moved = fit(rows, version=1).apply(rows)
    apart = np.linalg.norm(rows[:10, None] - rows[None, :10], axis=2)
    np.testing.assert_allclose(np.linalg.norm(moved[:10, None] - moved[None, :10], axis=2), apart, atol=1e-4)


@given(seeds)
def test_the_order_of_the_items_changes_nothing(seed: int) -> None:
    rows = texts(seed)
    one, other = fit(rows, version=1, dims=5), fit(rows[::-1], version=1, dims=5)
    np.testing.assert_allclose(one.projection, other.projection, atol=1e-4)


def test_it_comes_back_from_its_bytes() -> None:
    idf = np.array([0.5, 2.0], np.float32)
    transform = fit(texts(1), version=7, dims=5, whitening=0.5, idf=idf)
    back = TextTransform.from_bytes(transform.to_bytes())
    assert (back.version, back.items, back.dims) == (7, 60, 5)
    assert back.apply(texts(2)).tolist() == transform.apply(texts(2)).tolist()
    assert back.idf.tolist() == idf.tolist()
    assert TextTransform.from_bytes(plain(4).to_bytes()).unit(np.eye(4)).tolist() == np.eye(4).tolist()


def test_bytes_of_another_layout_are_refused() -> None:
    layout, *rest = msgspec.msgpack.decode(plain(3).to_bytes())
    raw = msgspec.msgpack.encode([layout + 1, *rest])
    with pytest.raises(ValueError, match=rf"layout {layout + 1}, wanted {layout}"):
        TextTransform.from_bytes(raw)


def test_one_text_alone_is_no_nan() -> None:
    transform = fit(texts(1, count=1), version=1)
    assert np.isfinite(transform.unit(texts(2))).all()
    assert np.isfinite(transform.unit(texts(1, count=1))).all()


def test_no_more_directions_are_kept_than_wanted_or_there() -> None:
    assert fit(texts(1, count=400, dim=200), version=1).dims == DIMS
    assert fit(texts(1, count=5, dim=200), version=1).dims == 4


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="catalogue load"):
        fit(np.zeros((3, 4), np.float32), version=1)
    with pytest.raises(ValueError, match=r"whitening is 1\.5"):
        fit(texts(1), version=1, whitening=1.5)
