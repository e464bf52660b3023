"""Contract suites of encoders and their caches: subclass one with ``make()``, and pytest runs it."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from recstream.encoders.base import Encoder, UnencodableError, VectorCache
from recstream.records.arrays import Matrix

__all__ = [
    "TEXTS",
    "EncoderContract",
    "UnencodableContract",
    "VectorCacheContract",
    "unit_rows",
]

TEXTS = (
    "a film about space travel",
    "tax law",
    "",
    "   ",
    "Düsseldorf café, 東京, 🎬",
    "jazz",
    "broken \ud800 surrogate",
    "the long road home " * 200,
    "line\nbreak\ttab\x00nul",
)
"""Ordinary and awkward texts."""


def unit_rows(n: int, dim: int, seed: int = 0) -> Matrix:
    """Random unit rows of shape ``(n, dim)``."""
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    unit: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


class EncoderContract(ABC):
    """Every encoder, real or fake, cached or not, passes these."""

    neighbour_atol = 1e-5
    """The port's promise; a suite on a quantised server states its own."""

    @abstractmethod
    def make(self) -> Encoder:
        """A fresh encoder; called for each test."""

    @pytest.fixture
    def encoder(self) -> Iterator[Encoder]:
        """One from ``make()``, closed afterwards."""
        made = self.make()
        yield made
        made.close()

    def test_rows_are_finite_float32_of_unit_length(self, encoder: Encoder) -> None:
        """Shape, dtype and length are as the port says, for awkward texts too."""
        rows = encoder.encode(list(TEXTS))
        assert rows.shape == (len(TEXTS), encoder.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)

    def test_rows_do_not_depend_on_their_neighbours(self, encoder: Encoder) -> None:
        """A text alone has the vector it has among others."""
        together = encoder.encode(list(TEXTS))
        for text, row in zip(TEXTS, together, strict=True):
            np.testing.assert_allclose(encoder.encode([text])[0], row, atol=self.neighbour_atol)

    def test_rows_follow_the_order_of_the_texts(self, encoder: Encoder) -> None:
        """Reversing the texts reverses the rows."""
        backwards = encoder.encode(list(TEXTS[::-1]))
        np.testing.assert_allclose(backwards[::-1], encoder.encode(list(TEXTS)), atol=self.neighbour_atol)

    def test_no_texts_give_no_rows(self, encoder: Encoder) -> None:
        """An empty batch has shape ``(0, dim)``."""
        empty = encoder.encode([])
        assert empty.shape == (0, encoder.dim)
        assert empty.dtype == np.float32

    def test_different_texts_have_different_vectors(self, encoder: Encoder) -> None:
        """The encoder does encode."""
        a, b = encoder.encode(["a film about space travel", "tax law"])
        assert float(a @ b) < 0.99

    def test_the_same_identity_gives_the_same_vectors(self, encoder: Encoder) -> None:
        """Two encoders made alike agree in identity, label, dimension and vectors."""
        other = self.make()
        try:
            assert (other.identity, other.label, other.dim) == (encoder.identity, encoder.label, encoder.dim)
            np.testing.assert_allclose(
                other.encode(["jazz", "tax law"]),
                encoder.encode(["jazz", "tax law"]),
                atol=self.neighbour_atol,
            )
        finally:
            other.close()

    def test_closing_twice_is_harmless(self, encoder: Encoder) -> None:
        """``close`` may be called again."""
        encoder.close()
        encoder.close()


class UnencodableContract(ABC):
    """Every encoder that meets a text it cannot encode passes these."""

    poison = "POISON"
    """A text that the encoder of ``make()`` cannot encode."""

    @abstractmethod
    def make(self) -> Encoder:
        """A fresh encoder; called for each test."""

    @pytest.fixture
    def encoder(self) -> Iterator[Encoder]:
        """One from ``make()``, closed afterwards."""
        made = self.make()
        yield made
        made.close()

    def fault(self, encoder: Encoder, texts: Sequence[str]) -> UnencodableError:
        """What encoding these texts raises; it survives pickling, and shows which are at fault."""
        with pytest.raises(UnencodableError) as caught:
            encoder.encode(texts)
        error = caught.value
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
        assert (str(copy), copy.why) == (str(error), error.why)
        np.testing.assert_array_equal(copy.vectors, error.vectors)
        assert error.vectors.shape == (len(texts), encoder.dim)
        assert error.vectors.dtype == np.float32
        assert not error.vectors[list(error.why)].any()
        assert all(error.why.values()), "each says why"
        return error

    @pytest.mark.parametrize("at", [0, 1, 16, 50, 99])
    def test_it_is_found_among_a_hundred_that_are_encoded(self, encoder: Encoder, at: int) -> None:
        """Its place is that in the caller's list, and all others have the vectors they have alone."""
        texts = [f"text {i % 60} {'word ' * (i % 7)}" for i in range(99)]
        wanted = np.insert(encoder.encode(texts), at, 0.0, axis=0)
        error = self.fault(encoder, [*texts[:at], self.poison, *texts[at:]])
        assert list(error.why) == [at]
        np.testing.assert_allclose(error.vectors, wanted, atol=1e-5)

    def test_each_of_several_is_found_wherever_it_is(self, encoder: Encoder) -> None:
        """Repeated, beside another, at both ends: none hides another, none takes a good one along."""
        texts = [self.poison, "jazz", self.poison, "war", "tax law", "jazz", self.poison]
        error = self.fault(encoder, texts)
        assert list(error.why) == [0, 2, 6]
        np.testing.assert_allclose(
            error.vectors[[1, 3, 4, 5]], encoder.encode(["jazz", "war", "tax law", "jazz"]), atol=1e-5
        )

    def test_it_fails_alone(self, encoder: Encoder) -> None:
        """No good text is needed to tell."""
        assert list(self.fault(encoder, [self.poison]).why) == [0]

    def test_it_fails_again_and_leaves_the_others_alone(self, encoder: Encoder) -> None:
        """Nothing of it is remembered as if it were a vector."""
        first = self.fault(encoder, ["jazz", self.poison])
        again = self.fault(encoder, [self.poison, "jazz"])
        assert (list(first.why), list(again.why)) == ([1], [0])
        np.testing.assert_allclose(encoder.encode(["jazz"])[0], first.vectors[0], atol=1e-5)


class VectorCacheContract(ABC):
    """Every vector cache passes these."""

    @abstractmethod
    def make(self, identity: str, dim: int) -> VectorCache:
        """A cache for ``identity``; within a test all calls share one empty store."""

    def test_it_gives_back_what_was_put_in_order(self) -> None:
        """Hits are exact, misses are None, each in its place."""
        cache, rows = self.make("a", 8), unit_rows(len(TEXTS), 8)
        cache.put_many(list(TEXTS), rows)
        found = cache.get_many(["unknown", *TEXTS[::-1]])
        assert found[0] is None
        for row, vector in zip(rows[::-1], found[1:], strict=True):
            assert vector is not None
            assert vector.dtype == np.float32
            np.testing.assert_array_equal(vector, row)
        cache.close()

    def test_no_texts_are_fine(self) -> None:
        """Empty calls do nothing."""
        cache = self.make("a", 8)
        cache.put_many([], unit_rows(0, 8))
        assert cache.get_many([]) == []
        cache.close()

    def test_identities_do_not_mix(self) -> None:
        """One encoder's vectors are never given to another."""
        first, second = self.make("a", 8), self.make("b", 8)
        first.put_many(["jazz"], unit_rows(1, 8))
        assert second.get_many(["jazz"]) == [None]
        first.close()
        second.close()

    def test_another_dimension_is_a_miss(self) -> None:
        """A vector of the wrong length is not given out, even under the same identity."""
        first, second = self.make("a", 8), self.make("a", 16)
        first.put_many(["jazz"], unit_rows(1, 8))
        assert second.get_many(["jazz"]) == [None]
        first.close()
        second.close()

    def test_a_later_put_wins(self) -> None:
        """Putting again replaces."""
        cache, rows = self.make("a", 8), unit_rows(2, 8)
        cache.put_many(["jazz"], rows[:1])
        cache.put_many(["jazz"], rows[1:])
        (found,) = cache.get_many(["jazz"])
        assert found is not None
        np.testing.assert_array_equal(found, rows[1])
        cache.close()

    def test_it_can_be_sent_to_another_process(self) -> None:
        """A cache survives pickling, and the copy sees what the original wrote."""
        cache = self.make("a", 8)
        copy = pickle.loads(pickle.dumps(cache))  # noqa: S301 -- our own bytes
        cache.put_many(["jazz"], unit_rows(1, 8))
        assert copy.get_many(["jazz"])[0] is not None
        cache.close()
        copy.close()

    def test_closing_twice_is_harmless_and_a_closed_cache_misses(self) -> None:
        """``close`` may be called again; what follows neither raises nor finds."""
        cache = self.make("a", 8)
        cache.put_many(["jazz"], unit_rows(1, 8))
        cache.close()
        cache.close()
        cache.put_many(["blues"], unit_rows(1, 8))
        assert cache.get_many(["jazz"]) == [None]
