"""Text as people send it: cleaned of markup and invisible characters, and the tone of comments."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from html import unescape
from html.entities import html5
from typing import Final

__all__ = ["clean", "tone"]

_PASSES: Final = 8
"""Rounds of cleaning: entities can hide tags, and removed tags can join others. What is left is noise."""

_TAG: Final = re.compile(
    r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,40})(?![a-zA-Z0-9:-])([^<>]*)>"
    r"|<![A-Za-z\[][^<>]*>|<\?[A-Za-z][^<>]*>|<!--"
)
"""What may be a tag. ``[^<>]*`` stops at the next ``<``, and the name gives no character back, so that
megabytes of ``<a<a<a`` and ``<aaaa`` are read only once."""
_SECTION: Final = re.compile(r"<(?:(!)--|(script|style)\b[^<>]*>)", re.IGNORECASE)
_SECTION_END: Final = {
    "!": re.compile("-->"),
    "script": re.compile(r"</script\b[^<>]*>", re.IGNORECASE),
    "style": re.compile(r"</style\b[^<>]*>", re.IGNORECASE),
}
_INLINE: Final = frozenset(
    "a abbr b bdi bdo big cite code del em font i ins kbd mark q s samp small span strike strong sub sup tt u"
    " var wbr".split()
)
"""Names of tags that do not part words: ``un<b>believ</b>able`` is one word, ``one<br>two`` are two."""
_ELEMENTS: Final = _INLINE | frozenset(
    "address area article aside audio base blockquote body br button canvas caption center col colgroup"
    " data datalist dd del details dialog dir div dl dt embed fieldset figcaption figure footer form"
    " frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe img input label legend li link"
    " main map marquee menu meta meter nav noframes noscript object ol optgroup option output p param"
    " picture pre progress rp rt ruby script search section select slot source style summary svg table"
    " tbody td template textarea tfoot th thead time title tr track ul video".split()
)
"""Names of HTML's elements."""
_BARE: Final = re.compile(
    r"[\s/]*((?:allowfullscreen|async|autoplay|checked|compact|controls|default|defer|disabled|download|hidden"
    r"|ismap|itemscope|loop|multiple|muted|nomodule|noshade|novalidate|nowrap|open|playsinline|readonly"
    r"|required|reversed|selected)[\s/]*)*",
    re.IGNORECASE,
)
"""What may stand in a tag without a value."""
_ATTRIBUTE: Final = re.compile(r"""[\s/"'][\w:.-]+\s*=""")
_REFERENCE: Final = re.compile(
    r"&(?:#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6});?|([A-Za-z][A-Za-z0-9]{1,31})(;|(?![\w=])))"
)
"""A character by its number or name; without the semicolon only where no word or address goes on:
``rock&notes`` and ``?a=1&copy=2`` hold none."""
_HUGE_REFERENCE: Final = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{7,});?")
"""Numbers beyond any character: to read them takes very long."""
_INVISIBLE: Final = re.compile(
    "(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f)|"
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]+"
)
"""Soft hyphens, zero-width, direction and tag characters, and lone surrogates. They part no words. The group
is a flag such as Scotland's, which is made of tag characters."""
_JOINERS: Final = re.compile("[\u200c\u200d\u180e]")
"""Zero-width non-joiner and joiner, and the Mongolian vowel separator: they belong to words and emoji."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]+")
_MAX_MARKS: Final = 30
"""Combining marks kept on one character: Unicode's stream-safe bound, for ordering them is quadratic."""


def clean(text: str) -> str:
    r"""Give the text that a person would read, on one line. Cleaning it again changes nothing.

    Tags, comments, scripts and styles are dropped; of one that is not closed only its mark. What is in angle
    brackets and is no markup stays: ``List<String>``, ``a <b and c> d``. Entities are decoded, even when
    escaped twice. Control characters become blanks, invisible ones and lone surrogates nothing, but for a
    joiner within a word or an emoji. The text is normalised (NFC), and white space is folded.

    >>> clean("<p>Fish &amp;amp; chips</p><script>x()</script> I &lt;3  <b>y</b>ou")
    'Fish & chips I <3 you'
    >>> clean("cafe\u0301\u200b\x00 ok\n")
    'café ok'
    >>> clean("2 < 3 > 1"), clean("List<String>")
    ('2 < 3 > 1', 'List<String>')
    """
    if _is_clean(text):
        return text
    for _ in range(_PASSES):
        cleaned = _once(text)
        if cleaned == text:
            return cleaned
        text = cleaned
    return _once(text.replace("<", " ").replace("&", " "))


def _is_clean(text: str) -> bool:
    """Whether `clean` would change nothing, as for most texts. Each test runs at C speed."""
    return (
        text.isprintable()  # false for every control, invisible and blank character but the space
        and "<" not in text
        and "&" not in text
        and "  " not in text
        and text[:1] != " "
        and text[-1:] != " "
        and (text.isascii() or unicodedata.is_normalized("NFC", text))
    )


def _once(text: str) -> str:
    if "&" in text:
        text = _REFERENCE.sub(_character, _HUGE_REFERENCE.sub(" ", text))
    if "<" in text:
        text = _without_sections(text)
        closed = frozenset(name.lower() for name in _CLOSING.findall(text))
        text = _TAG.sub(lambda tag: _gap(tag, closed), text)
    if not text.isprintable():
        text = _INVISIBLE.sub(_joiner, _CONTROL.sub(" ", text))
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", _too_many_marks().sub(r"\1", text))
    return " ".join(text.split())


def _character(reference: re.Match[str]) -> str:
    name = reference[1]
    return unescape(reference[0]) if name is None else html5.get(name + reference[2], reference[0])


_CLOSING: Final = re.compile(r"</([a-zA-Z][a-zA-Z0-9:-]*)\s*>")


def _gap(tag: re.Match[str], closed: frozenset[str]) -> str:
    """What stands in a tag's place; the same text where it is no tag after all.

    A tag of HTML holds nothing but attributes. One of another name has a value for each, is closed at once,
    or its name is among those ``closed`` later.
    """
    if tag[2] is None:  # a declaration, or a comment that is not closed
        return " "
    slash, name, rest = tag[1], tag[2].lower(), tag[3]
    if name in _ELEMENTS:
        is_tag = bool(slash) or _ATTRIBUTE.search(rest) is not None or _BARE.fullmatch(rest) is not None
    else:
        is_closed = name in closed or (rest.endswith("/") and _BARE.fullmatch(rest) is not None)
        is_tag = is_closed or (_ATTRIBUTE.search(rest) is not None and not name.endswith(":"))
    if not is_tag:
        return tag[0]
    return "" if name in _INLINE else " "


def _joiner(run: re.Match[str]) -> str:
    """What stands in the place of invisible characters: a joiner where it joins or parts something."""
    if run[1]:
        return run[1]
    joiner = _JOINERS.search(run[0])
    before = run.string[run.start() - 1] if run.start() else ""
    if joiner is None or not _is_joined(before):
        return ""
    after = run.string[run.end()] if run.end() < len(run.string) else ""
    is_form = joiner[0] == "\u200d" and "\u0620" <= before <= "\u08ff"  # Arabic: as if joined to a letter
    is_kept = is_form or unicodedata.combining(before) == _VIRAMA or _is_joined(after)
    return joiner[0] if is_kept else ""


_VIRAMA: Final = 9
"""Combining class of the mark that takes a consonant's vowel: the joiner after it shows how it is written."""


def _is_joined(character: str) -> bool:
    """Whether there is a letter, mark, digit or symbol that a joiner may stand beside."""
    return bool(character) and unicodedata.category(character)[0] not in "PZ" and not character.isspace()


def _without_sections(text: str) -> str:
    """Drop comments, scripts and styles with what they hold, in linear time, even when none is closed."""
    kept: list[str] = []
    at = 0
    unclosed: set[str] = set()
    for start in _SECTION.finditer(text):
        kind = (start[1] or start[2]).lower()
        if start.start() < at or kind in unclosed:
            continue
        end = _SECTION_END[kind].search(text, start.end())
        if end is None:
            unclosed.add(kind)
            continue
        kept += (text[at : start.start()], " ")
        at = end.end()
    kept.append(text[at:])
    return "".join(kept)


@lru_cache(maxsize=1)
def _too_many_marks() -> re.Pattern[str]:
    marks = "".join(c for c in map(chr, range(0x300, 0x1F000)) if unicodedata.combining(c))
    return re.compile(f"([{marks}]{{{_MAX_MARKS}}})[{marks}]+")


_WORD: Final = re.compile(r"[a-z]+(?:['\u2019][a-z]+)?|[.!?;:]")
_GOOD: Final = frozenset(
    "adore adored amazing awesome beautiful best brilliant charming classic clever delight delightful"
    " enjoy enjoyable enjoyed excellent fantastic favorite favourite fine flawless fun funny gem good great"
    " gripping happy helpful impressive incredible like liked love loved lovely magnificent masterpiece"
    " memorable moving outstanding perfect pleasant pleased recommend recommended remarkable solid stunning"
    " superb terrific thrilling touching useful wonderful worth".split()
)
_BAD: Final = frozenset(
    "annoying appalling atrocious avoid awful bad bland boring broke broken cheap clumsy defective"
    " disappointed disappointing disappointment dislike disliked dreadful dull fail failed failure flawed"
    " garbage hate hated horrible inferior junk lame lousy mediocre mess overrated pathetic pointless poor"
    " poorly refund regret ridiculous rubbish sad stupid tedious terrible trash ugly unfunny unwatchable"
    " useless waste wasted weak worse worst worthless wrong".split()
)
_NOT: Final = frozenset("barely cannot hardly lacks neither never no none nor not without".split())
_REACH: Final = 3
"""How many words after a negation are turned round."""


def tone(text: str) -> float:
    """Sentiment of a comment, from -1 to 1, by counting words of a small English list.

    It is the share of praising words less that of blaming ones. A negation turns the next three words of its
    sentence round. It is 0.0 when no listed word occurs or both sides are even.

    >>> tone("A great film, I loved it"), tone("Not good. Boring!"), tone("Good start, weak end")
    (1.0, -1.0, 0.0)
    >>> tone("I didn't hate it"), tone("Arrived on Tuesday"), tone("Sehr schön")
    (1.0, 0.0, 0.0)
    """
    good = bad = reach = 0
    for word in _WORD.findall(text.lower()):
        if word in _NOT or word.endswith(("n't", "n\u2019t")):
            reach = _REACH
            continue
        if not word[0].isalpha():
            reach = 0
            continue
        if word in _GOOD or word in _BAD:
            if (word in _GOOD) is (reach == 0):
                good += 1
            else:
                bad += 1
        reach = max(reach - 1, 0)
    return (good - bad) / (good + bad) if good + bad else 0.0
