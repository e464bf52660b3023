"""The contract of stores, of their parts and of their errors; `recstream.testing.stores` checks it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from recstream.items.codec import ItemRow, StatisticsRow
from recstream.records.arrays import Vector
from recstream.users.codec import UserRow

__all__ = [
    "ItemStore",
    "ModelRow",
    "ModelStore",
    "StatisticsStore",
    "Store",
    "StoreError",
    "StoreMeta",
    "StoreMismatchError",
    "StoreModule",
    "UserStore",
]


class StoreError(Exception):
    """A store that cannot be used as asked: what is wrong, where, and how to mend it.

    Survives pickling, so that it crosses process boundaries whole.

    >>> str(StoreError("/data/store", "is a file, not a folder", "point store.path elsewhere"))
    'store /data/store: is a file, not a folder. To mend it: point store.path elsewhere.'
    """

    def __init__(self, path: str, problem: str, mend: str) -> None:
        super().__init__(path, problem, mend)
        self.path = path
        self.problem = problem
        self.mend = mend

    def __str__(self) -> str:
        return f"store {self.path}: {self.problem}. To mend it: {self.mend}."


class StoreMismatchError(StoreError):
    """A sound store that was made by another release or with other settings: trying again is no use."""


class StoreMeta(NamedTuple):
    """What a store was made with. A difference is an error at start, never a silent mix."""

    schema: int
    encoder: str
    """The encoder's ``identity``."""
    dim: int
    shards: int
    """User shards: fixed when the store is made, the ceiling of parallelism."""
    rules: str
    """How its events were counted, as `recstream.users.counting_rules.counting_rules` writes it; ``""`` in
    layout 1, which did not note it."""


class UserStore(Protocol):
    """Users by id. One row has one writer: the owner of its shard.

    * ``fetch(ids)``: the rows that exist, by id; unknown ids are absent. Any string is a legal id
      (quotes, newlines, emoji, empty included), and any number of ids.
    * ``upsert(rows)``: insert or replace by ``user_id``; ids must be distinct (``ValueError``), no rows
      do nothing. Visible to the next ``fetch`` of this object; durable when it returns; all rows or none.
    * ``delete(ids)``: unknown ids are ignored. No reader sees these users again; their bytes may stay on the
      disk until ``maintain`` or ``purge`` of the store, and in the end no longer than a minute.
    * ``ids()``: all of them, in order of their code points; ``unfinished(shards)``: those of these
      shards whose ``unfinished`` is not 0, with it.
    * ``is_settled()``: whether they do already; raises what a write has failed with since it returned.
    * ``settle()``: returns when every other reader of the store sees what was written, too.
    * ``newest(n)``: the n rows of the greatest ``updated_at``, in no order; of equals any.
    * ``active(shards, since, before, n)``: of the users in these shards whose ``updated_at`` is ``since`` or
      later, in order of ``(-updated_at, user_id)``, the first n that come after ``before`` in it, a pair of
      ``updated_at`` and ``user_id``.
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

    def active(
        self, shards: Collection[int], since: float, before: tuple[float, str], n: int
    ) -> list[tuple[str, float]]:
        """``(user_id, updated_at)`` of the n users who changed last before a user."""
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


class ItemStore(Protocol):
    """Items by id, and what changed since.

    * ``upsert(rows)`` as for users; ``rows[i].seq`` is stored as given.
    * ``changed_since(seq)``: every row with a greater ``seq``, in order of ``(seq, item_id)``;
      ``changed_since(-1)`` gives all.
    * ``version()``: a number that differs whenever a write of any process may have changed the answer
      of ``changed_since``; cheap to ask (a few ms).
    * ``titles(ids)``: those of the items that are stored and not deleted, by id.
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

    def titles(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Titles of those items that are there."""
        ...

    def count(self) -> int:
        """How many items are stored, tombstones included."""
        ...

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due."""
        ...


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


class Store(Protocol):
    """All that one job keeps, in one place. Threads may share it.

    Several processes may open one place at once, as long as each row has one writer.
    """

    @property
    def generation(self) -> int:
        """When the store was made, Unix milliseconds: later stores have a greater one, copies the same.

        Versions of lists are counted anew in each store, so published lists are ordered by this first.
        """
        ...

    @property
    def users(self) -> UserStore:
        """Users: every reader sees a write when it returns."""
        ...

    @property
    def journalled_users(self) -> UserStore:
        """The same users, for the process that writes them at every barrier.

        A write is durable when it returns; other readers may see it only once it is settled.
        """
        ...

    @property
    def items(self) -> ItemStore:
        """The catalogue."""
        ...

    @property
    def statistics(self) -> StatisticsStore:
        """Statistics of the items."""
        ...

    @property
    def models(self) -> ModelStore:
        """What was learned about the stream as a whole."""
        ...

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. Called from one process only.

        Also removes what is left of erased users, so that it is gone a minute after the erasure.
        """
        ...

    def purge(self) -> bool:
        """Return when no bytes of the users erased so far are on the disk; False where some have to stay.

        Called from the process that maintains, or while no job runs. Cheap where nobody was erased.
        """
        ...


class StoreModule(Protocol):
    """The functions of a module that is registered in `recstream.stores.STORES`."""

    def open_store(
        self,
        path: Path,
        meta: StoreMeta,
        *,
        create: bool,
        alone: bool,
        compact_every_s: float,
        keep_versions_s: float,
    ) -> Store:
        """Open the store at ``path``, or make it when ``create`` is true.

        ``alone``: no other job may be writing it, so one that seems to is waited for a moment: it is dying.
        The rest is section ``store`` of the settings; a store that keeps no versions ignores it.

        Raises:
            StoreMismatchError: it was made by another release or with other settings than ``meta`` says.
            StoreError: it cannot be used, or there is none and ``create`` is false.
        """
        ...

    def inspect_store(self, path: Path) -> StoreMeta | None:
        """What the store there was made with; None when there is none. Creates nothing.

        Raises:
            StoreError: it cannot be read.
        """
        ...

    def open_users(self, path: Path, dim: int) -> UserStore:
        """The users of a store of this or of an older layout. Creates nothing.

        Raises:
            StoreError: there are none, or they cannot be read.
        """
        ...

    def upgrade_store(
        self, path: Path, schema: int, rules: str, *, accept: bool, dry_run: bool
    ) -> Iterator[str]:
        """Bring a store to a layout and, with ``accept``, to other rules of counting.

        Gives a sentence for each step that was done (``dry_run``: that would be).

        Raises:
            StoreError: there is no store, or it cannot be changed.
            StoreMismatchError: it is of a newer layout, or its rules differ and are not accepted.
        """
        ...
