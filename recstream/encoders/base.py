"""The contract of encoders and of their caches; `recstream.testing` checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from recstream.records.arrays import Matrix, Vector

__all__ = ["Encoder", "UnencodableError", "VectorCache"]


class UnencodableError(Exception):
    """Some of the texts given to `Encoder.encode` cannot be encoded; it is not the encoder that is at fault.

    >>> import pickle, numpy as np
    >>> error = UnencodableError({1: "HTTP 413: too long"}, np.eye(3, dtype=np.float32))
    >>> print(pickle.loads(pickle.dumps(error)))
    1 of 3 texts cannot be encoded; text 1: HTTP 413: too long
    >>> error.vectors[1].tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self, why: Mapping[int, str], vectors: Matrix) -> None:
        if not why:
            raise ValueError("no text is at fault: then there is nothing to raise")
        self.why = dict(sorted(why.items()))
        """What is wrong with each such text, by its place among the texts that the caller gave."""
        self.vectors: Matrix = vectors.copy()
        """What ``encode`` would have given: the rows of all other texts, and zeros at these places."""
        self.vectors[list(self.why)] = 0.0
        place, reason = next(iter(self.why.items()))
        super().__init__(f"{len(why)} of {len(vectors)} texts cannot be encoded; text {place}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return UnencodableError, (self.why, self.vectors)


class Encoder(Protocol):
    """Texts in, unit vectors out.

    * ``encode(texts)`` gives float32 of shape ``(len(texts), dim)``, rows of unit length, finite.
    * Row i depends on text i alone: neighbours, order and batch size do not change it (atol 1e-5).
    * No texts give shape ``(0, dim)``. An empty or blank text is encoded like any other.
    * Same ``identity`` => same vectors (rtol 1e-4), on any machine.
    * A fault of the world (server gone or refusing every text, another model, out of memory) is an
      exception that survives pickling, says how to mend it, and comes after all attempts worth making.
    * A fault of a text, at which asking again would not help, is an `UnencodableError`, once all other texts
      are encoded. Nothing of it is remembered: the same text fails again, until it can be encoded.
    """

    @property
    def identity(self) -> str:
        """Everything that changes the vectors: model digest, pooling, prefix, token limit, dim."""
        ...

    @property
    def label(self) -> str:
        """Short name for lists and people, such as ``"minilm-l6-v2@53aa5117"``."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Encode the texts, in their order.

        Raises:
            UnencodableError: some of the texts cannot be encoded; it carries the vectors of the others.
        """
        ...

    def close(self) -> None:
        """Free what is held; calling it twice is harmless."""
        ...


class VectorCache(Protocol):
    """Vectors by text, for one encoder identity; may forget, never lies.

    * ``get_many(texts)`` gives one vector or None per text, in order.
    * ``put_many(texts, vectors)`` makes later ``get_many`` calls *likely* to find them.
    * A corrupt, locked or full store degrades to misses with a warning; it never raises.
    """

    def get_many(self, texts: Sequence[str]) -> list[Vector | None]:
        """Look the texts up."""
        ...

    def put_many(self, texts: Sequence[str], vectors: Matrix) -> None:
        """Remember the texts' vectors."""
        ...

    def close(self) -> None:
        """Free what is held; calling it twice is harmless."""
        ...
