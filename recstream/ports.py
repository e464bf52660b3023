"""The ports between engine and io. Each docstring is the whole contract; `recstream.testing` checks it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from recstream.core.arrays import Matrix, Vector

__all__ = [
    "OPEN_SESSION",
    "UNCONFIRMED",
    "WAITING",
    "Encoder",
    "ItemRow",
    "ItemStore",
    "ModelRow",
    "ModelStore",
    "StatisticsRow",
    "StatisticsStore",
    "StoreMeta",
    "UnencodableError",
    "UserRow",
    "UserStore",
    "VectorCache",
]

WAITING: Final = 1
"""In `UserRow.unfinished`: events wait for their items."""
UNCONFIRMED: Final = 2
"""In `UserRow.unfinished`: output of an epoch that may not have committed."""
OPEN_SESSION: Final = 4
"""In `UserRow.unfinished`: a session that was not announced as closed."""


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


class StoreMeta(NamedTuple):
    """What a store was made with. A difference is an error at start, never a silent mix."""

    schema: int
    encoder: str
    """The encoder's ``identity``."""
    dim: int
    shards: int
    """User shards: fixed when the store is made, the ceiling of parallelism."""
    rules: str
    """How its events were counted, as `recstream.core.counting.counting_rules` writes it; ``""`` in
    layout 1, which did not note it."""


class UserRow(NamedTuple):
    """One user as stored."""

    user_id: str
    shard: int
    version: int
    events: int
    """Applied events."""
    updated_at: float
    """Event time of the newest applied event, Unix seconds."""
    vector: Vector
    """Unit long-term taste, zeros when there is none; searchable by any reader of the table."""
    state: bytes
    """The whole profile, encoded (its first byte is the codec's version)."""
    unfinished: int = 0
    """Why to come back to the user after a restart: a sum of `WAITING`, `UNCONFIRMED`, `OPEN_SESSION`."""


class UserStore(Protocol):
    """Users by id. One row has one writer: the owner of its shard.

    * ``fetch(ids)``: the rows that exist, by id; unknown ids are absent. Any string is a legal id
      (quotes, newlines, emoji, empty included), and any number of ids.
    * ``upsert(rows)``: insert or replace by ``user_id``; ids must be distinct (``ValueError``), no rows
      do nothing. Visible to the next ``fetch`` of this object; durable when it returns; all rows or none.
    * ``delete(ids)``: unknown ids are ignored.
    * ``ids()``: all of them, in order of their code points; ``unfinished(shards)``: those of these
      shards whose ``unfinished`` is not 0, with it.
    * ``is_settled()``: whether they do already; raises what a write has failed with since it returned.
    * ``settle()``: returns when every other reader of the store sees what was written, too.
    * ``newest(n)``: the n rows of the greatest ``updated_at``, in no order; of equals any.
    * ``near(vector, n)``: the n users whose ``vector`` is most similar, best first.
    * ``maintain()``: compacts and cleans up when due; cheap when not. Called from one process only.
    """

    def fetch(self, user_ids: Sequence[str]) -> dict[str, UserRow]:
        """Rows of those users that are stored."""
        ...

    def upsert(self, rows: Sequence[UserRow]) -> None:
        """Insert or replace, atomically."""
        ...

    def delete(self, user_ids: Sequence[str]) -> None:
        """Erase users."""
        ...

    def count(self) -> int:
        """How many users are stored."""
        ...

    def ids(self) -> list[str]:
        """Ids of all stored users, in order of their code points."""
        ...

    def unfinished(self, shards: Collection[int]) -> dict[str, int]:
        """Users in these shards to come back to after a restart, and why; in order of their ids."""
        ...

    def newest(self, n: int) -> list[UserRow]:
        """The rows of the n users who changed last."""
        ...

    def near(self, vector: Vector, n: int) -> list[tuple[str, float]]:
        """``(user_id, cosine similarity)`` of the n nearest users."""
        ...

    def is_settled(self) -> bool:
        """Whether all that was written is seen by every reader."""
        ...

    def settle(self) -> None:
        """Have all that was written seen by every reader."""
        ...

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due."""
        ...


class ItemRow(NamedTuple):
    """One item as stored and as replicas read it."""

    item_id: str
    title: str
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    published_at: float | None
    available: bool
    deleted: bool
    """A deleted item stays as a tombstone, so that replicas learn of it."""
    text_hash: str
    """Digest of the encoder's input: an unchanged text is not encoded again."""
    vector: Vector
    """Unit vector of the encoder's input; zeros for a tombstone."""
    seq: int
    """Grows with every write of any process (time of the write in ns): replicas read what is newer."""
    terms: bytes = b""
    """Lexical terms as `recstream.core.lexicon.pack` writes them; ``b""`` when they are not known, as of a
    tombstone, and of an item that was stored before layout 3 and not loaded again since."""


class ItemStore(Protocol):
    """Items by id, and what changed since.

    * ``upsert(rows)`` as for users; ``rows[i].seq`` is stored as given.
    * ``changed_since(seq)``: every row with a greater ``seq``, in order of ``(seq, item_id)``;
      ``changed_since(-1)`` gives all.
    * ``version()``: a number that differs whenever a write of any process may have changed the answer
      of ``changed_since``; cheap to ask (a few ms).
    """

    def upsert(self, rows: Sequence[ItemRow]) -> None:
        """Insert or replace, atomically."""
        ...

    def changed_since(self, seq: int) -> list[ItemRow]:
        """Rows written after ``seq``."""
        ...

    def version(self) -> int:
        """Table version as of now, writes of other processes included."""
        ...

    def count(self) -> int:
        """How many items are stored, tombstones included."""
        ...

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due."""
        ...


class StatisticsRow(NamedTuple):
    """What was learned across users about one item."""

    item_id: str
    shard: int
    seq: int
    """As for items."""
    tick: float
    """Stream position (events counted) at which the decayed counts hold."""
    counts: tuple[float, ...]
    """Decayed and all-time counts, one a scale."""
    state: bytes
    """Bounded neighbour lists, encoded (its first byte is the codec's version)."""


class StatisticsStore(Protocol):
    """Item statistics by item id: same contract as :class:`ItemStore`."""

    def upsert(self, rows: Sequence[StatisticsRow]) -> None:
        """Insert or replace, atomically."""
        ...

    def changed_since(self, seq: int) -> list[StatisticsRow]:
        """Rows written after ``seq``."""
        ...

    def version(self) -> int:
        """Table version as of now, writes of other processes included."""
        ...

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due."""
        ...


class ModelRow(NamedTuple):
    """What was learned about the stream as a whole, under one name."""

    name: str
    """Such as ``"transform"`` or ``"weights/3"``."""
    seq: int
    """As for items."""
    state: bytes
    """The model, encoded (its first byte is the codec's version)."""


class ModelStore(Protocol):
    """What was learned about the stream as a whole: a few rows by name, each with one writer.

    * ``fetch(names)``: those of these rows that exist (None: all), by name, in order of the names' code
      points. Any string is a legal name.
    * ``changed_since(seq)``: every row with a greater ``seq``, in order of ``(seq, name)``.
    * ``upsert(rows)`` and ``delete(names)`` as for users; ``version()`` and ``maintain()`` as for items:
      the version differs whenever a write of any process may have changed the answer of ``fetch``.
    """

    def upsert(self, rows: Sequence[ModelRow]) -> None:
        """Insert or replace, atomically."""
        ...

    def fetch(self, names: Sequence[str] | None = None) -> dict[str, ModelRow]:
        """Those of these rows that exist; None: all."""
        ...

    def changed_since(self, seq: int) -> list[ModelRow]:
        """Rows written after ``seq``."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Forget what was learned under these names."""
        ...

    def version(self) -> int:
        """Table version as of now, writes of other processes included."""
        ...

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due."""
        ...


class Meters(Protocol):
    """Counts and gauges by name; names are the closed list in `recstream.metrics`."""

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count ``amount`` more."""
        ...

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        ...


Rows = Mapping[str, UserRow]
