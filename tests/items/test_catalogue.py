"""The catalogue replica: handles never move, whatever grows or is unknown."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.items.catalogue import Catalogue
from recstream.items.terms import pack, text_terms
from recstream.items.text_transform import DIMS, plain
from recstream.records.arrays import Matrix
from tests.support.builders import DIM, catalogue_of, unit


def centred_by_hand(catalogue: Catalogue) -> Matrix:
    known = [row for row in range(len(catalogue)) if catalogue.vector(row).any()]
    mean = np.mean([catalogue.vector(row) for row in known], axis=0, dtype="f8")
    rows = np.zeros((len(catalogue), DIM), np.float32)
    for row in known:
        moved = catalogue.vector(row) - mean
        rows[row] = moved / np.linalg.norm(moved)
    return rows


def test_growth_past_the_first_capacity_keeps_everything() -> None:
    names = [f"i{k}" for k in range(2500)]
    catalogue = Catalogue(DIM)
    for at, name in enumerate(names):
        assert catalogue.put(name, unit(at % 50), available=at % 3 > 0, title=name.upper()) == at
    assert (len(catalogue), catalogue.known, catalogue.ids) == (2500, 2500, names)
    for at in (0, 1023, 1024, 1025, 2047, 2048, 2499):
        assert catalogue.handle(names[at]) == at
        assert catalogue.vector(at).tolist() == unit(at % 50).tolist()
        assert bool(catalogue.available[at]) is (at % 3 > 0)
        assert catalogue.titles[at] == names[at].upper()
    assert len(catalogue.published) == len(catalogue.available) == len(catalogue.text()) == 2500


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=30))
def test_handles_are_given_once_and_stay(steps: list[tuple[str, bool]]) -> None:
    catalogue = Catalogue(DIM)
    first: dict[str, int] = {}
    known: set[str] = set()
    for name, put in steps:
        got = catalogue.put(name, unit(name)) if put else catalogue.intern(name)
        known |= {name} if put else set()
        assert first.setdefault(name, got) == got
    assert sorted(first.values()) == list(range(len(catalogue)))
    assert {name for name in "abcdef" if catalogue.handle(name) is not None} == known
    assert catalogue.known == len(known)


def test_a_ghost_is_not_known_not_available_and_has_no_vector() -> None:
    catalogue = catalogue_of(["a", "b"])
    ghost = catalogue.intern("gone")
    assert catalogue.handle("gone") is None
    assert not catalogue.is_known(ghost)
    assert not catalogue.available[ghost]
    assert not catalogue.vector(ghost).any()
    assert not catalogue.text()[ghost].any()


def test_a_ghost_that_arrives_keeps_its_row() -> None:
    catalogue = catalogue_of(["a", "b"])
    ghost = catalogue.intern("late")
    assert catalogue.put("late", unit("late")) == ghost == catalogue.handle("late")
    assert catalogue.available[ghost]
    catalogue.refresh_transform()
    np.testing.assert_allclose(catalogue.text(), centred_by_hand(catalogue), atol=1e-6)


def test_texts_of_a_small_catalogue_lose_the_common_direction_and_have_unit_length() -> None:
    catalogue = Catalogue(DIM)
    common = 3 * unit("common")
    for k in range(40):
        vector = common + unit(k)
        catalogue.put(f"i{k}", (vector / np.linalg.norm(vector)).astype(np.float32))
    catalogue.refresh_transform()
    text = catalogue.text()
    np.testing.assert_allclose(text, centred_by_hand(catalogue), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1.0, atol=1e-6)
    assert np.mean(text @ text.T) < 0.1


def test_the_mean_is_taken_again_only_after_a_quarter_more_items() -> None:
    catalogue = catalogue_of([f"i{k}" for k in range(40)])
    catalogue.refresh_transform()
    before = catalogue.transform.mean.copy()
    for k in range(10):
        catalogue.put(f"new{k}", unit(f"new{k}"))
    catalogue.refresh_transform()
    assert catalogue.transform.mean.tolist() == before.tolist()
    row = catalogue.handle("new9") or 0
    moved = unit("new9") - before
    np.testing.assert_allclose(catalogue.text()[row], moved / np.linalg.norm(moved), atol=1e-6)
    catalogue.put("one more", unit("one more"))
    catalogue.refresh_transform()
    assert catalogue.transform.mean.tolist() != before.tolist()
    np.testing.assert_allclose(catalogue.text(), centred_by_hand(catalogue), atol=1e-6)


def test_replacing_an_item_replaces_its_text() -> None:
    catalogue = catalogue_of(["a", "b", "c"])
    catalogue.refresh_transform()
    catalogue.put("b", unit("other"), available=False, title="B")
    moved = unit("other") - catalogue.transform.mean
    np.testing.assert_allclose(catalogue.text()[1], moved / np.linalg.norm(moved), atol=1e-6)
    assert (catalogue.known, bool(catalogue.available[1]), catalogue.titles[1]) == (3, False, "B")


def test_a_deleted_item_says_nothing_about_taste() -> None:
    """Its tombstone has a vector of zeros, which is no direction: neither its own row nor the mean has it."""
    catalogue = catalogue_of(["a", "b", "c"])
    catalogue.refresh_transform()
    before = catalogue.transform.mean.copy()
    catalogue.put("d", np.zeros(DIM, np.float32), available=False)
    catalogue.refresh_transform()
    assert not catalogue.text()[3].any()
    np.testing.assert_allclose(catalogue.transform.mean, before, atol=1e-9)
    catalogue.put("b", np.zeros(DIM, np.float32), available=False)
    assert not catalogue.text()[1].any()


def test_an_empty_catalogue_answers() -> None:
    catalogue = Catalogue(DIM)
    catalogue.refresh_transform()
    assert catalogue.text().shape == (0, DIM)
    assert catalogue.transform.mean.tolist() == [0.0] * DIM
    assert (len(catalogue), catalogue.known, catalogue.handle("a")) == (0, 0, None)


def test_one_item_alone_is_no_nan() -> None:
    catalogue = catalogue_of(["a"])
    catalogue.refresh_transform()
    assert np.isfinite(catalogue.text()).all()


def test_a_vector_of_another_length_is_refused_and_leaves_no_trace() -> None:
    catalogue = catalogue_of(["a"])
    with pytest.raises(ValueError, match=r"item 'b' has a vector of shape \(3,\), this catalogue \(8,\)"):
        catalogue.put("b", np.ones(3, np.float32))
    assert (len(catalogue), catalogue.handle("b")) == (1, None)


def test_a_small_catalogue_is_mean_centred_only_and_a_large_one_gets_directions_for_good() -> None:
    dim = 160
    catalogue = catalogue_of([f"i{k}" for k in range(1023)], dim)
    catalogue.refresh_transform()
    assert catalogue.text().shape == (1023, dim)
    assert catalogue.transform.projection.tolist() == np.eye(dim).tolist()
    for k in range(1023, 1300):
        catalogue.put(f"i{k}", unit(k, dim))
    catalogue.refresh_transform()
    frozen = catalogue.transform
    assert catalogue.text().shape == (1300, DIMS)
    assert (frozen.items, frozen.dims) == (1300, DIMS)
    for k in range(1300, 2700):
        catalogue.put(f"i{k}", unit(k, dim), terms=pack(text_terms("another word")))
    catalogue.refresh_transform()
    assert catalogue.transform is frozen
    wanted = frozen.unit(np.array([catalogue.vector(row) for row in range(2700)]))
    np.testing.assert_allclose(catalogue.text(), wanted, atol=1e-6)
    assert catalogue.lexicon.idf.tolist() == frozen.idf.tolist()


def test_nothing_is_fitted_while_a_catalogue_is_loaded() -> None:
    catalogue = catalogue_of([f"i{k}" for k in range(1500)])
    assert catalogue.transform.items == 0
    catalogue.refresh_transform()
    assert catalogue.transform.items == 1500


@pytest.mark.parametrize("items", [0, 1, 40, 1100])
@pytest.mark.parametrize("is_fitted", [False, True])
def test_reading_never_changes_a_catalogue(items: int, is_fitted: bool) -> None:
    """No property and no method that only answers; a fit that is not adopted does not either."""
    catalogue = catalogue_of([f"i{k}" for k in range(items)])
    if is_fitted:
        catalogue.refresh_transform()
        catalogue.put("more", unit("more"), terms=pack(text_terms("some words")))
        for k in range(items // 3):  # outgrown, if it is small
            catalogue.put(f"more{k}", unit(k), categories=["label"])
    before = pickle.dumps(vars(catalogue))
    read = [name for name, of in vars(Catalogue).items() if isinstance(of, property)]
    assert {"transform", "available", "published"} <= set(read)
    for name in read:
        getattr(catalogue, name)
    len(catalogue), catalogue.text(), catalogue.handle("i0"), catalogue.handle("nothing")
    if len(catalogue):
        catalogue.likeness(catalogue.text()[:2].copy(), np.zeros(2 * len(catalogue), np.float32))
        catalogue.vector(0), catalogue.is_known(0), catalogue.fitted(whitening=0.5)
    assert pickle.dumps(vars(catalogue)) == before


def test_a_transform_that_is_adopted_stays_whatever_comes() -> None:
    there = catalogue_of([f"there{k}" for k in range(1100)])
    here = catalogue_of(["a", "b", "c"])
    here.refresh_transform()
    here.adopt(there.fitted(whitening=0.5))
    used = here.transform
    for k in range(200):
        here.put(f"i{k}", unit(k))
    here.refresh_transform()
    assert here.transform is used
    vectors = np.array([here.vector(row) for row in range(len(here))])
    np.testing.assert_allclose(here.text(), used.unit(vectors), atol=1e-6)


def test_what_is_fitted_anew_is_newer_and_not_used_before_it_is_adopted() -> None:
    catalogue = catalogue_of([f"i{k}" for k in range(1100)])
    catalogue.refresh_transform()
    used = catalogue.transform
    newer = catalogue.fitted(whitening=1.0)
    assert newer.version > used.version
    assert catalogue.transform is used
    catalogue.adopt(newer)
    assert catalogue.transform is newer
    assert catalogue.fitted().version > newer.version


def test_a_transform_for_other_vectors_is_refused() -> None:
    catalogue = catalogue_of(["a"])
    with pytest.raises(ValueError, match=rf"for vectors of 3 numbers, these have {DIM}"):
        catalogue.adopt(plain(3))


def test_words_labels_and_the_day_of_an_item_are_replaced_with_it() -> None:
    catalogue = catalogue_of(["a", "b"])
    old, new = pack(text_terms("green tea")), pack(text_terms("black coffee"))
    catalogue.put("a", unit("a"), categories=["x", "y"], terms=old, published_at=5.0)
    catalogue.put("a", unit("a"), categories=["z"], terms=new)
    assert catalogue.lexicon.terms_of(0).tolist() == text_terms("black coffee").buckets.tolist()
    assert len(catalogue.categories.terms_of(0)) == 1
    assert np.isnan(catalogue.published).all()
