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
@example("a\u200c\u200b\u200d\u0301b")
@example("&zwnj;\u200c<b>a</b>\u200dc\u200d")
@example("<o:p>&lt;o:p>x</o:p>")
@example("a&amp;notin;b&notin c&copy=d")
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
    assert not set("\u200b\u202e\ufeff\u00ad") & set(cleaned)
    for joiner in "\u200c\u200d":
        assert joiner not in cleaned[:1]
        assert not {joiner + "\u200c", joiner + "\u200d", f" {joiner}"} & {
            cleaned[at : at + 2] for at in range(len(cleaned))
        }


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
        ("a <!-- b --> c --> d", "a c --> d"),
        ("A --> B <-- C", "A --> B <-- C"),
        ("List<String> and Map<K, V>", "List<String> and Map<K, V>"),
        ("a <b and c> d", "a <b and c> d"),
        ("<Untitled> <3 <none>", "<Untitled> <3 <none>"),
        ("Ann <ann@example.org> <https://example.org/>", "Ann <ann@example.org> <https://example.org/>"),
        ("std::vector<int> v", "std::vector<int> v"),
        ("<para>text</para><note/> <my-tag x='1'>y", "text y"),
        ("<o:p>Word</o:p>", "Word"),
        ("<img src=a.png>x<br />y<input disabled>z", "x y z"),
        ("<svg/onload=alert(1)>", ""),
        ("rock&notes, black&centre, Q&A", "rock&notes, black&centre, Q&A"),
        ("/?a=1&copy=2&lt=3", "/?a=1&copy=2&lt=3"),
        ("fish &amp chips&nbsp", "fish & chips"),
        ("&Aacute;&#193;&#xC1;", "ÁÁÁ"),
    ],
)
def test_a_known_text_is_cleaned_as_a_person_would(text: str, wanted: str) -> None:
    assert clean(text) == wanted


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("Persian: I want, houses", "می\u200cخواهم و خانه\u200cها"),
        ("Persian: short for a calendar", "۱۴۰۰ ه\u200d.ش"),
        ("a family", "👨\u200d👩\u200d👧 games"),
        ("a heart on fire, a sign after a variation selector", "❤\ufe0f\u200d🔥"),
        ("a woman of a skin colour", "👩🏽\u200d🚀"),
        (
            "Scotland's flag, made of tags",
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        ),
        ("Devanagari: half a letter", "क्\u200dष"),
        ("Malayalam: a letter that ends a word", "അവന്\u200d വന്നു"),
        ("German: no ligature", "Auf\u200clage"),
        ("Mongolian: a parted vowel", "ᠬᠠ\u180eᠠ"),
    ],
)
def test_a_joiner_that_belongs_to_a_word_or_an_emoji_stays(what: str, text: str) -> None:
    assert clean(text) == text, what
    assert clean(f"<p>{text}</p>&nbsp;") == text, what


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\u200c", ""),
        ("\u200dtea\u200c", "tea"),
        ("tea \u200d cup", "tea cup"),
        ("(\u200dtea)", "(tea)"),
        ("ها\u200c\u200cی", "ها\u200cی"),
        ("ها\u200b\u200c\u00adی", "ها\u200cی"),
        ("خانه\u200c", "خانه"),
        ("می&zwnj;خواهم", "می\u200cخواهم"),
        ("tea\U000e0041\U000e0042", "tea"),
        ("\U0001f3f4\U000e0041\U000e007f", "\U0001f3f4"),
    ],
)
def test_a_joiner_that_joins_nothing_goes(text: str, wanted: str) -> None:
    assert clean(text) == wanted


@given(st.text(st.sampled_from("ab\u200c\u200d\u200b\u094dक🏴👩 .ه"), max_size=30))
def test_with_or_without_joiners_a_text_reads_the_same(text: str) -> None:
    plain = str.maketrans("", "", "\u200b\u200c\u200d")
    assert clean(text).translate(plain) == clean(text.translate(plain))


@given(
    words, st.sampled_from(["T", "string", "K, V", "foo@example.org", "b and c", "3", " x ", "k > 5 and j "])
)
def test_angle_brackets_that_are_no_markup_stay(text: str, inside: str) -> None:
    given_ = f"{text} <{inside}> {text}"
    assert clean(given_) == " ".join(given_.split())


@pytest.mark.parametrize(
    "text",
    [
        "<" * 2_000_000,
        "<" + "a" * 500_000,
        "</" + "a" * 500_000 + " " * 500_000,
        "<b" + " open" * 100_000 + " x>",
        "<b " + "a " * 250_000 + ">",
        "<x>" * 100_000 + "</x>",
        "a\u200d" * 250_000,
        "\u200d" * 500_000,
        "&" + "a" * 500_000,
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
    ids=range(19),
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
