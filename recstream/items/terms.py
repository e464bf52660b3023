"""Lexical terms: the words of a text, hashed and counted. They tell apart what an encoder blurs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

__all__ = ["BUCKETS", "MAX_TERMS", "Buckets", "Counts", "Terms", "pack", "terms_of", "text_terms", "unpack"]

BUCKETS: Final = 1 << 15
"""Number of buckets that words are hashed into. Stores hold buckets: a change needs a new `_VERSION`."""
MAX_TERMS: Final = 256
"""Most terms kept of one text: the most frequent, of equals those with the smallest bucket."""

_VERSION: Final = 1
"""First byte of packed terms. It stands for how words are split, hashed and written."""
_MAX_TIMES: Final = 255
"""Greatest number of occurrences that is counted: it is stored in a byte."""
_WORD: Final = re.compile(r"[^\W_]{2,}")
_JOINERS: Final = re.compile("[\u180e\u200c\u200d]")
_WEIGHTS: Final = (1.0 + np.log(np.arange(1, _MAX_TIMES + 1))).astype(np.float32)
_BYTES: Final = 3
"""Bytes of a packed term: its bucket as little-endian uint16, and its occurrences as uint8."""

Buckets: TypeAlias = npt.NDArray[np.uint16]
"""Shape ``(n,)``, uint16, ascending and distinct, below `BUCKETS`."""
Counts: TypeAlias = npt.NDArray[np.float32]
"""Shape ``(n,)``, float32, at least 1."""


class Terms(NamedTuple):
    """Lexical terms of one text, at most `MAX_TERMS`."""

    buckets: Buckets
    counts: Counts
    """``1 + ln(tf)`` with tf, the occurrences of words of the bucket, at most 255: the log-scaled term
    frequency of Manning, Raghavan & Schütze, *Introduction to Information Retrieval* (2008), 6.4.1."""


def terms_of(title: str, text: str | None, labels: Iterable[str] = ()) -> Terms:
    """Give the terms of an item: of its title, its labels (categories and tags) and its text, all cleaned.

    >>> terms = terms_of("Tea, dark tea", None, ["Drinks"])
    >>> sorted(terms.counts.round(2).tolist())
    [1.0, 1.0, 1.690000057220459]
    """
    return text_terms(" ".join([title, *labels, text or ""]))


def text_terms(text: str) -> Terms:
    """Give the terms of a text, such as a search query.

    A word is a run of at least two letters and digits of any script, in lower case; joiners (ZWJ, ZWNJ) in it
    make no difference, for not everybody types them. Scripts without blanks between words give one term for
    each phrase.

    >>> text_terms("Tea?").buckets.tolist() == text_terms("_TEA_").buckets.tolist()
    True
    >>> len(text_terms("a ? 1").buckets)
    0
    """
    if not text.isascii():
        text = _JOINERS.sub("", text)
    times: dict[int, int] = {}
    for word, count in Counter(_WORD.findall(text.lower())).items():
        bucket = crc32(word.encode()) & (BUCKETS - 1)
        times[bucket] = times.get(bucket, 0) + count
    held = sorted(times)
    if len(held) > MAX_TERMS:
        held = sorted(sorted(held, key=times.__getitem__, reverse=True)[:MAX_TERMS])  # sorts are stable
    return _terms(held, [min(times[bucket], _MAX_TIMES) for bucket in held])


def pack(terms: Terms) -> bytes:
    r"""Write terms as 3 bytes each, after a byte for the version: ``b""`` stands for terms not known.

    >>> terms = text_terms("tea and toast and tea")
    >>> pack(terms), pack(text_terms(""))
    (b'\x01m\x1b\xb2W@h\x02\x02\x01', b'\x01')
    """
    times = np.rint(np.exp(terms.counts - np.float32(1.0))).astype(np.uint8)
    return b"%c%b%b" % (_VERSION, terms.buckets.astype("<u2").tobytes(), times.tobytes())


def unpack(packed: bytes) -> Terms:
    r"""Read what `pack` wrote; ``b""``, which stands for terms not known, gives none.

    Raises:
        ValueError: it is of another version, or broken off.

    >>> unpack(pack(text_terms("tea and tea"))).counts.tolist()
    [1.0, 1.6931471824645996]
    >>> len(unpack(b"").buckets)
    0
    >>> unpack(b"\x01abcd")
    Traceback (most recent call last):
    ValueError: packed terms: got 5 bytes, wanted 1 and 3 for each term
    """
    if not packed:
        return _terms((), ())
    if packed[0] != _VERSION:
        mend = "load the catalogue again with this release"
        raise ValueError(f"packed terms: got version {packed[0]}, wanted {_VERSION}; {mend}")
    n, rest = divmod(len(packed) - 1, _BYTES)
    if rest:
        raise ValueError(f"packed terms: got {len(packed)} bytes, wanted 1 and {_BYTES} for each term")
    times = np.frombuffer(packed, np.uint8, n, 1 + 2 * n)
    if not times.all():
        raise ValueError("packed terms: got a term that occurs 0 times, wanted 1 at least")
    return _terms(np.frombuffer(packed, "<u2", n, 1), times)


def _terms(
    buckets: Sequence[int] | npt.NDArray[np.uint16], times: Sequence[int] | npt.NDArray[np.uint8]
) -> Terms:
    places = np.asarray(times, np.intp) - 1
    return Terms(np.array(buckets, np.uint16), _WEIGHTS[places])
