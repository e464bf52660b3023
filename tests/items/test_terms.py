"""Hashed lexical terms: of what they are made, their bounds, and their way to bytes and back."""

from __future__ import annotations

import math
from collections import Counter
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.items.terms import BUCKETS, MAX_TERMS, Terms, pack, terms_of, text_terms, unpack

texts = st.text(max_size=200)


def bucket(word: str) -> int:
    return crc32(word.encode()) % BUCKETS


def as_dict(terms: Terms) -> dict[int, float]:
    return dict(zip(terms.buckets.tolist(), terms.counts.tolist(), strict=True))


def same(one: Terms, other: Terms) -> bool:
    return (
        one.buckets.dtype == other.buckets.dtype
        and one.counts.dtype == other.counts.dtype
        and np.array_equal(one.buckets, other.buckets)
        and np.array_equal(one.counts, other.counts)
    )


def test_a_term_weighs_one_and_the_logarithm_of_how_often_it_occurs() -> None:
    assert as_dict(text_terms("tea toast TEA tea")) == {
        bucket("tea"): pytest.approx(1 + math.log(3)),
        bucket("toast"): 1.0,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Fish & chips, x!", ["fish", "chips"]),
        ("snake_case e-mail", ["snake", "case", "mail"]),
        ("CAFÉ Ünal", ["café", "ünal"]),
        ("Война и мир", ["война", "мир"]),
        ("2001: A Space Odyssey", ["2001", "space", "odyssey"]),
        ("東京物語 (1953)", ["東京物語", "1953"]),
        ("😀 ? a 1 _ \ud800", []),
    ],
)
def test_words_are_runs_of_two_or_more_letters_and_digits(text: str, words: list[str]) -> None:
    assert as_dict(text_terms(text)) == {bucket(word): 1.0 for word in words}


def test_an_items_terms_are_those_of_its_title_labels_and_text() -> None:
    terms = terms_of("Dark tea", "Leaves of tea.", ("Drinks", "Hot"))
    counts = Counter(["dark", "tea", "leaves", "of", "tea", "drinks", "hot"])
    assert set(as_dict(terms)) == {bucket(word) for word in counts}
    assert as_dict(terms)[bucket("tea")] == pytest.approx(1 + math.log(2))


def test_words_of_one_bucket_are_one_term() -> None:
    assert bucket("zebrawinter") == bucket("teaboxing")
    assert as_dict(text_terms("zebrawinter teaboxing")) == {
        bucket("teaboxing"): pytest.approx(1 + math.log(2))
    }


def test_words_of_neighbouring_parts_do_not_run_together() -> None:
    assert same(terms_of("one", "two", ("three", "four")), text_terms("one two three four"))


def test_hashes_are_the_same_on_every_machine_and_in_every_release() -> None:
    """Stores hold them."""
    assert text_terms("space jazz zebra").buckets.tolist() == sorted(
        [bucket("space"), bucket("jazz"), bucket("zebra")]
    )
    assert pack(text_terms("tea and toast and tea")).hex() == "016d1bb2574068020201"


def test_of_a_long_text_the_heaviest_terms_stay_and_of_equals_those_with_the_smallest_bucket() -> None:
    words = list({bucket(f"w{k}"): f"w{k}" for k in range(400)}.values())
    heavy = words[-10:]
    terms = as_dict(text_terms(" ".join(words + heavy)))
    light = sorted(bucket(word) for word in words[:-10])[: MAX_TERMS - len(heavy)]
    assert set(terms) == {*light, *map(bucket, heavy)}


def test_a_word_repeated_without_end_weighs_a_bounded_amount() -> None:
    terms = text_terms("spam " * 10_000)
    assert terms.counts.tolist() == [pytest.approx(1 + math.log(255))]
    assert same(unpack(pack(terms)), terms)


@given(st.text(st.sampled_from("خانه ab\u200c\u200d"), max_size=40))
def test_joiners_make_no_other_word(text: str) -> None:
    """Not everybody who searches types them."""
    assert same(text_terms(text), text_terms(text.replace("\u200c", "").replace("\u200d", "")))


@given(texts)
def test_terms_are_sorted_distinct_bounded_and_typed(text: str) -> None:
    buckets, counts = text_terms(text)
    assert (buckets.dtype.name, counts.dtype.name, buckets.shape) == ("uint16", "float32", counts.shape)
    assert len(buckets) <= MAX_TERMS
    assert (np.diff(buckets.astype(int)) > 0).all()
    assert (counts >= 1).all()
    assert (buckets < BUCKETS).all()


@given(st.lists(st.sampled_from("tea jazz zebra space Ünal 東京".split()), max_size=40))
def test_the_order_of_words_does_not_matter(words: list[str]) -> None:
    assert same(text_terms(" ".join(words)), text_terms(" ".join(sorted(words))))


@given(texts)
def test_packed_terms_come_back_as_they_were(text: str) -> None:
    terms = text_terms(text)
    packed = pack(terms)
    assert len(packed) == 1 + 3 * len(terms.buckets)
    assert same(unpack(packed), terms)
    assert pack(unpack(packed)) == packed


@given(st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 255), max_size=MAX_TERMS))
def test_every_count_survives_packing(times: dict[int, int]) -> None:
    counts = [1 + math.log(times[one]) for one in sorted(times)]
    terms = Terms(np.array(sorted(times), np.uint16), np.array(counts, np.float32))
    assert same(unpack(pack(terms)), terms)


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"\x02abc", "got version 2, wanted 1; load the catalogue again"),
        (b"\x01abcd", "got 5 bytes, wanted 1 and 3 for each term"),
        (b"\x01ab\x00", "got a term that occurs 0 times"),
    ],
)
def test_what_pack_did_not_write_is_refused(packed: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unpack(packed)
