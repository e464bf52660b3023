"""An encoder without a model: hashed words and character trigrams, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

from recstream.encoders.base import EncoderSpec
from recstream.records.arrays import Matrix

__all__ = ["HashingEncoder"]

WORD = re.compile(r"\w+")
WORD_WEIGHT = 1.0
TRIGRAM_WEIGHT = 0.25
"""Powers of two, so that sums are exact and no order of summing can show."""
CHUNK = 4096
"""Texts summed at a time: bounds the float64 working matrix."""
DEFAULT_DIM = 384


@lru_cache(maxsize=65_536)
def _features(word: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Hashes and signed weights of one word and its trigrams."""
    marked = f"<{word}>"
    grams = [(f"w:{word}", WORD_WEIGHT)]
    grams += [(f"t:{marked[i : i + 3]}", TRIGRAM_WEIGHT) for i in range(len(marked) - 2)]
    hashes = [crc32(name.encode("utf-8", "surrogatepass")) for name, _ in grams]
    weights = [weight if h >> 31 else -weight for h, (_, weight) in zip(hashes, grams, strict=True)]
    return tuple(h & 0x7FFFFFFF for h in hashes), tuple(weights)


class HashingEncoder:
    """Texts that share words, or parts of words, are similar; nothing else is known about them.

    An :class:`~recstream.encoders.base.Encoder` for tests and for machines without a model.

    >>> from recstream.config import Settings
    >>> from recstream.runtime.wiring import encoder_spec
    >>> encoder = HashingEncoder(encoder_spec(Settings()))
    >>> a, b, c = encoder.encode(["space travel film", "a film on travel", "tax law"])
    >>> bool(a @ b > 0.4 > a @ c)
    True
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._prefix = spec.prefix
        self._max_words = spec.max_tokens
        self._dim = spec.dim if spec.dim > 0 else DEFAULT_DIM

    @property
    def identity(self) -> str:
        """Version of the features, dimension, prefix and word limit."""
        return f"hashing-v1;dim={self._dim};prefix={self._prefix!r};max_words={self._max_words}"

    @property
    def label(self) -> str:
        """Always ``"hashing-v1"``."""
        return "hashing-v1"

    @property
    def dim(self) -> int:
        """As asked for; 384 unless said otherwise."""
        return self._dim

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Unit rows in the order of the texts; a text without words gives the first unit vector."""
        out = np.empty((len(texts), self._dim), np.float32)
        for start in range(0, len(texts), CHUNK):
            out[start : start + CHUNK] = self._encode_chunk(texts[start : start + CHUNK])
        return out

    def _encode_chunk(self, texts: Sequence[str]) -> Matrix:
        cells: list[int] = []
        weights: list[float] = []
        counts: list[int] = []
        for text in texts:
            before = len(cells)
            for word in WORD.findall((self._prefix + text).casefold())[: self._max_words]:
                hashes, signed = _features(word)
                cells += hashes
                weights += signed
            counts.append(len(cells) - before)
        row = np.repeat(np.arange(len(texts), dtype=np.int64), counts)
        cell = row * self._dim + np.asarray(cells, np.int64) % self._dim
        sums = np.bincount(cell, np.asarray(weights, np.float64), len(texts) * self._dim)
        sums = sums.reshape(len(texts), self._dim)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        blank = length[:, 0] == 0.0  # no words, or features that cancel
        sums[blank, 0] = length[blank] = 1.0
        rows: Matrix = (sums / length).astype(np.float32)
        return rows

    def close(self) -> None:
        """Nothing is held."""
