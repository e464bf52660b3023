"""Stores in memory: they end with their process, and record the newest calls for tests."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from recstream.items.codec import ItemRow, StatisticsRow
from recstream.records.arrays import Vector
from recstream.stores.base import ModelRow, StoreError, StoreMeta
from recstream.stores.meta import no_store
from recstream.users.codec import UserRow

__all__ = [
    "MemoryDatabase",
    "MemoryItemStore",
    "MemoryModelStore",
    "MemoryStatisticsStore",
    "MemoryUserStore",
    "inspect_store",
    "open_store",
    "open_users",
    "upgrade_store",
]

Call = tuple[str, tuple[str, ...]]
"""What was called, and the keys it was called with."""
_MOST_CALLS: Final = 1000
"""Calls kept at least; at twice as many the older half is dropped."""


def _note(calls: list[Call], name: str, keys: tuple[str, ...]) -> None:
    if len(calls) >= 2 * _MOST_CALLS:
        del calls[:_MOST_CALLS]
    calls.append((name, keys))


def _checked(column: str, keys: Iterable[str]) -> tuple[str, ...]:
    asked = tuple(keys)
    seen: set[str] = set()
    for key in asked:
        if key in seen:
            raise ValueError(f"{column} {key[:100]!r} is there twice in one upsert")
        seen.add(key)
        try:
            key.encode()
        except UnicodeEncodeError as error:
            msg = f"half a surrogate pair in {key[:100]!r} is no text: UTF-8 cannot hold it"
            raise ValueError(msg) from error
    return asked


def _frozen(vector: Vector, dim: int) -> Vector:
    if vector.shape != (dim,):
        raise ValueError(f"vector has shape {vector.shape}, this store holds {(dim,)}")
    if not np.isfinite(vector).all():
        raise ValueError("vector holds NaN or infinity")
    own: Vector = vector.astype(np.float32)
    own.flags.writeable = False
    return own


class MemoryUserStore:
    """A :class:`recstream.stores.base.UserStore` in a dict.

    >>> store = MemoryUserStore(dim=1)
    >>> store.upsert([UserRow("u", 0, 1, 1, 0.5, np.ones(1, "f4"), b"")])
    >>> sorted(store.fetch(["u", "v"])), store.calls
    (['u'], [('upsert', ('u',)), ('fetch', ('u', 'v'))])
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.calls: list[Call] = []
        self.rows: dict[str, UserRow] = {}

    def fetch(self, user_ids: Sequence[str]) -> dict[str, UserRow]:
        """Rows of those users that are stored."""
        _note(self.calls, "fetch", tuple(user_ids))
        return {user_id: self.rows[user_id] for user_id in user_ids if user_id in self.rows}

    def upsert(self, rows: Sequence[UserRow]) -> None:
        """Insert or replace, all or none."""
        keys = _checked("user_id", (row.user_id for row in rows))
        _note(self.calls, "upsert", keys)
        self.rows |= {row.user_id: row._replace(vector=_frozen(row.vector, self.dim)) for row in rows}

    def delete(self, user_ids: Sequence[str]) -> None:
        """Erase users."""
        _note(self.calls, "delete", tuple(user_ids))
        for user_id in user_ids:
            self.rows.pop(user_id, None)

    def count(self) -> int:
        """How many users are stored."""
        return len(self.rows)

    def ids(self) -> list[str]:
        """Ids of all stored users."""
        return sorted(self.rows)

    def unfinished(self, shards: Collection[int]) -> dict[str, int]:
        """Users in these shards to come back to after a restart, and why."""
        rows = [self.rows[user_id] for user_id in sorted(self.rows)]
        return {row.user_id: row.unfinished for row in rows if row.unfinished and row.shard in shards}

    def newest(self, n: int) -> list[UserRow]:
        """The n rows of the greatest ``updated_at``."""
        return sorted(self.rows.values(), key=lambda row: -row.updated_at)[: max(n, 0)]

    def active(
        self, shards: Collection[int], since: float, before: tuple[float, str], n: int
    ) -> list[tuple[str, float]]:
        """``(user_id, updated_at)`` of the n users who changed last before a user."""
        at, last = before
        found = [
            (-row.updated_at, row.user_id)
            for row in self.rows.values()
            if row.shard in shards
            and row.updated_at >= since
            and (-row.updated_at, row.user_id) > (-at, last)
        ]
        return [(user_id, -order) for order, user_id in sorted(found)[: max(n, 0)]]

    def near(self, vector: Vector, n: int) -> list[tuple[str, float]]:
        """``(user_id, cosine similarity)`` of the n nearest users; ties by id."""
        query = _frozen(vector, self.dim)
        norm = float(np.linalg.norm(query))
        found = [
            (row.user_id, float(row.vector @ query) / norm if norm else 0.0) for row in self.rows.values()
        ]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[: max(n, 0)]

    def is_settled(self) -> bool:
        """It always is."""
        return True

    def settle(self) -> None:
        """Nothing is ever left to do."""

    def maintain(self) -> None:
        """Record the call."""
        _note(self.calls, "maintain", ())


class MemoryItemStore:
    """A :class:`recstream.stores.base.ItemStore` in a dict."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.calls: list[Call] = []
        self.rows: dict[str, ItemRow] = {}
        self._version = 1

    def upsert(self, rows: Sequence[ItemRow]) -> None:
        """Insert or replace, all or none."""
        keys = _checked("item_id", (row.item_id for row in rows))
        _note(self.calls, "upsert", keys)
        self.rows |= {row.item_id: row._replace(vector=_frozen(row.vector, self.dim)) for row in rows}
        self._version += bool(rows)

    def titles(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Titles of those items that are there."""
        _note(self.calls, "titles", tuple(item_ids))
        return {k: self.rows[k].title for k in item_ids if k in self.rows and not self.rows[k].deleted}

    def changed_since(self, seq: int) -> list[ItemRow]:
        """Rows written after ``seq``, by ``(seq, item_id)``."""
        _note(self.calls, "changed_since", ())
        newer = [row for row in self.rows.values() if row.seq > seq]
        return sorted(newer, key=lambda row: (row.seq, row.item_id))

    def version(self) -> int:
        """Grows with each upsert of rows."""
        return self._version

    def count(self) -> int:
        """How many items are stored, tombstones included."""
        return len(self.rows)

    def maintain(self) -> None:
        """Record the call."""
        _note(self.calls, "maintain", ())


class MemoryStatisticsStore:
    """A :class:`recstream.stores.base.StatisticsStore` in a dict."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.rows: dict[str, StatisticsRow] = {}
        self._version = 1

    def upsert(self, rows: Sequence[StatisticsRow]) -> None:
        """Insert or replace, all or none."""
        keys = _checked("item_id", (row.item_id for row in rows))
        _note(self.calls, "upsert", keys)
        self.rows |= {row.item_id: row for row in rows}
        self._version += bool(rows)

    def changed_since(self, seq: int) -> list[StatisticsRow]:
        """Rows written after ``seq``, by ``(seq, item_id)``."""
        _note(self.calls, "changed_since", ())
        newer = [row for row in self.rows.values() if row.seq > seq]
        return sorted(newer, key=lambda row: (row.seq, row.item_id))

    def version(self) -> int:
        """Grows with each upsert of rows."""
        return self._version

    def maintain(self) -> None:
        """Record the call."""
        _note(self.calls, "maintain", ())


class MemoryModelStore:
    """A :class:`recstream.stores.base.ModelStore` in a dict."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.rows: dict[str, ModelRow] = {}
        self._version = 1

    def upsert(self, rows: Sequence[ModelRow]) -> None:
        """Insert or replace, all or none."""
        keys = _checked("name", (row.name for row in rows))
        _note(self.calls, "upsert", keys)
        self.rows |= {row.name: row for row in rows}
        self._version += bool(rows)

    def fetch(self, names: Sequence[str] | None = None) -> dict[str, ModelRow]:
        """Those of these rows that exist (None: all), in order of their names."""
        _note(self.calls, "fetch", () if names is None else tuple(names))
        wanted = self.rows if names is None else {name for name in names if name in self.rows}
        return {name: self.rows[name] for name in sorted(wanted)}

    def changed_since(self, seq: int) -> list[ModelRow]:
        """Rows written after ``seq``, by ``(seq, name)``."""
        _note(self.calls, "changed_since", ())
        newer = [row for row in self.rows.values() if row.seq > seq]
        return sorted(newer, key=lambda row: (row.seq, row.name))

    def delete(self, names: Sequence[str]) -> None:
        """Forget what was learned under these names."""
        _note(self.calls, "delete", tuple(names))
        for name in names:
            self._version += self.rows.pop(name, None) is not None

    def version(self) -> int:
        """Grows with each change of the rows."""
        return self._version

    def maintain(self) -> None:
        """Record the call."""
        _note(self.calls, "maintain", ())


class MemoryDatabase:
    """A :class:`recstream.stores.base.Store` in dicts."""

    def __init__(self, meta: StoreMeta) -> None:
        self.generation = int(time.time() * 1000)
        self.users = self.journalled_users = MemoryUserStore(meta.dim)
        self.items = MemoryItemStore(meta.dim)
        self.statistics = MemoryStatisticsStore()
        self.models = MemoryModelStore()

    def maintain(self) -> None:
        """Record the call in each store."""
        self.users.maintain()
        self.items.maintain()
        self.statistics.maintain()
        self.models.maintain()

    def purge(self) -> bool:
        """Nothing is left of who was deleted."""
        return True


def open_store(
    path: Path,
    meta: StoreMeta,
    *,
    create: bool,
    alone: bool,
    compact_every_s: float,
    keep_versions_s: float,
) -> MemoryDatabase:
    """A new empty store.

    Raises:
        StoreError: positions of a run are kept at ``path``, but not the state that belongs to them.
    """
    if not create:
        raise no_store(path, "is in the memory of its job")
    if (path / "positions").exists():
        mend = "delete the folder to begin anew, or set store.backend to one that lasts"
        raise StoreError(str(path), "was in the memory of a process that ended; its positions are left", mend)
    return MemoryDatabase(meta)


def inspect_store(path: Path) -> StoreMeta | None:
    """Nothing: no other process sees it."""
    return None


def open_users(path: Path, dim: int) -> MemoryUserStore:
    """Refuse: no other process sees them.

    Raises:
        StoreError: always.
    """
    raise no_store(path, "is in the memory of its job")


def upgrade_store(path: Path, schema: int, rules: str, *, accept: bool, dry_run: bool) -> Iterator[str]:
    """Refuse: it never outlives a release.

    Raises:
        StoreError: always.
    """
    raise no_store(path, "is in the memory of its job")
