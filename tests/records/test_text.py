"""Cleaning texts and reading their tone."""

from __future__ import annotations

import unicodedata
from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recstream.records.text import clean, tone
from tests.support.strategies import messy_texts, words


@given(messy_texts | st.text(st.characters()))
@example("&" + "amp;" * 40 + "lt;b>")
@example("&#38;" * 30 + "lt;")
@example("<" * 9 + "b>" * 9)
@example("<scr<b>ipt>x</scr<b>ipt>")
@example("&lt\u037eb>")
@example("a" + "\u0301\u0316" * 50)
@example("<\u200b\u0338")
@example("\u0344" * 40)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


@given(messy_texts | st.text(st.characters()))
def test_what_is_left_is_legible_unicode_on_one_line(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()  # no lone surrogates
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(c) == "Cc" for c in cleaned)
    assert not set("\u200b\u200d\u202e\ufeff\u00ad") & set(cleaned)


@given(words)
def test_ordinary_text_is_given_back_as_it_is(text: str) -> None:
    assert clean(text) is text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        (" \t\n", ""),
        ("<p>one</p><p>two</p>", "one two"),
        ("one<br/>two", "one two"),
        ("un<b>believ</b>able", "unbelievable"),
        ("<A HREF='x'>link</A>", "link"),
        ("a <!-- not <b>this</b> --> b", "a b"),
        ("a <!-- never closed", "a never closed"),
        ("a<script type='x'>if (a < b) {}</script>b", "a b"),
        ("a<STYLE>p {}</style >b", "a b"),
        ("the <script> tag", "the tag"),
        ("<!DOCTYPE html><?xml version='1'?>x", "x"),
        ("2 < 3 and 3 > 2, I <3 you", "2 < 3 and 3 > 2, I <3 you"),
        ("fish &amp; chips", "fish & chips"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("&amp;lt;b&amp;gt;bold", "bold"),
        ("a&nbsp;b", "a b"),
        ("AT&T", "AT&T"),
        ("so\u00adft hy\u200bphen", "soft hyphen"),
        ("bell\x07rings\x00", "bell rings"),
        ("half \ud83d pair", "half pair"),
        ("e\u0301", "\u00e9"),
        ("\u3000wide\u2003space\u2028", "wide space"),
        ("x&#99999999999999999999;y", "x y"),
        ("💥 boom", "💥 boom"),
    ],
)
def test_a_known_text_is_cleaned_as_a_person_would(text: str, wanted: str) -> None:
    assert clean(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "<" * 2_000_000,
        "<a" * 1_000_000,
        "<!--" * 500_000,
        "<script>" * 250_000,
        "<script>" + "</script" * 250_000,
        "<scr<b>" * 200_000,
        "&" * 2_000_000,
        "&" + "amp;" * 500_000 + "lt;",
        "&#38;" * 400_000,
        "&#" + "9" * 2_000_000,
        "a" + "\u0301\u0316" * 500_000,
    ],
    ids=range(11),
)
def test_a_hostile_megabyte_does_not_take_quadratic_time(text: str) -> None:
    start = perf_counter()
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert perf_counter() - start < 20.0  # seconds; quadratic work would take hours


@given(messy_texts | words)
def test_tone_stays_between_minus_one_and_one(text: str) -> None:
    assert -1.0 <= tone(text) <= 1.0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", 0.0),
        ("GREAT!!!", 1.0),
        ("Boring and predictable", -1.0),
        ("not great", -1.0),
        ("I don\u2019t recommend it", -1.0),
        ("Not bad at all. Lovely!", 1.0),
        ("great great awful", 1 / 3),
        ("no. great", 1.0),
    ],
)
def test_tone_counts_words_and_turns_negated_ones_round(text: str, wanted: float) -> None:
    assert tone(text) == pytest.approx(wanted)
