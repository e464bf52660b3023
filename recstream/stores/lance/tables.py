"""The stores over LanceDB: each is rows of one kind over one table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from recstream.items.codec import ItemRow, StatisticsRow
from recstream.records.arrays import Vector
from recstream.stores.base import ModelRow
from recstream.stores.lance.arrow import (
    item_rows,
    items_table,
    model_rows,
    models_table,
    statistics_rows,
    statistics_table,
    user_rows,
    users_table,
)
from recstream.stores.lance.erasure import ErasureNote
from recstream.stores.lance.keyed_table import KeyedTable
from recstream.stores.lance.maintenance import Maintenance
from recstream.users.codec import UserRow

__all__ = ["LanceItemStore", "LanceModelStore", "LanceStatisticsStore", "LanceUserStore"]


class LanceUserStore:
    """Users by id over the ``users`` table.

    Vectors of fetched rows are read-only views of the whole answer's buffer: copy one that is kept
    for long, or it keeps its neighbours in memory too. An id with half a surrogate pair, which no
    JSON decoder of ours lets through, is refused by ``upsert`` and unknown to ``fetch``.
    """

    def __init__(self, table: KeyedTable, dim: int, maintenance: Maintenance, erasures: ErasureNote) -> None:
        self._table = table
        self._dim = dim
        self._maintenance = maintenance
        self._erasures = erasures

    @property
    def schema(self) -> Any:
        """Arrow schema of the table."""
        return self._table.schema

    @property
    def dim(self) -> int:
        """Length of a user's vector."""
        return self._dim

    def put(self, rows: Any) -> None:
        """Insert or replace the rows of an Arrow table in one commit."""
        self._table.upsert(rows["user_id"].to_pylist(), rows)

    def is_settled(self) -> bool:
        """It always is."""
        return True

    def settle(self) -> None:
        """All is in the table when `upsert` returns."""

    def fetch(self, user_ids: Sequence[str]) -> dict[str, UserRow]:
        """Rows of those users that are stored."""
        return {row.user_id: row for row in user_rows(self._table.fetch(user_ids), self._dim)}

    def upsert(self, rows: Sequence[UserRow]) -> None:
        """Insert or replace in one commit."""
        if rows:
            self.put(users_table(rows, self._table.schema))

    def delete(self, user_ids: Sequence[str]) -> None:
        """Erase users, 1,000 a commit: no reader sees them again, and their bytes go with the next purge."""
        self._erasures.write()
        self._table.delete(user_ids)
        self._erasures.write()

    def count(self) -> int:
        """How many users are stored."""
        return self._table.count()

    def ids(self) -> list[str]:
        """Ids of all stored users."""
        return self._table.keys()

    def unfinished(self, shards: Collection[int]) -> dict[str, int]:
        """Users in these shards to come back to after a restart, and why."""
        if not shards:
            return {}
        where = f"unfinished != 0 AND shard IN ({', '.join(str(int(s)) for s in sorted(shards))})"
        return self._table.numbers("unfinished", where)

    def newest(self, n: int) -> list[UserRow]:
        """The rows of the n users who changed last."""
        return user_rows(self._table.greatest("updated_at", n), self._dim)

    def active(
        self, shards: Collection[int], since: float, before: tuple[float, str], n: int
    ) -> list[tuple[str, float]]:
        """``(user_id, updated_at)`` of the n users who changed last before a user."""
        if not shards:
            return []
        where = f"shard IN ({', '.join(str(int(s)) for s in sorted(shards))})"
        return self._table.last("updated_at", since, before, n, where=where)

    def near(self, vector: Vector, n: int) -> list[tuple[str, float]]:
        """``(user_id, cosine similarity)`` of the n nearest users: an exact scan."""
        if vector.shape != (self._dim,):
            raise ValueError(f"vector has shape {vector.shape}, this store holds {(self._dim,)}")
        return self._table.nearest(vector, n)

    def version(self) -> int:
        """Table version as of now, writes of other processes included."""
        return self._table.version()

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._maintenance.run_when_due()

    def purge(self) -> bool:
        """As `Maintenance.purge`."""
        return self._maintenance.purge()


class LanceItemStore:
    """Items by id, and what changed since, over the ``items`` table.

    Vectors of rows read are read-only views of the whole answer's buffer.
    """

    def __init__(self, table: KeyedTable, dim: int, maintenance: Maintenance) -> None:
        self._table = table
        self._dim = dim
        self._maintenance = maintenance

    def upsert(self, rows: Sequence[ItemRow]) -> None:
        """Insert or replace in one commit."""
        if rows:
            self._table.upsert([row.item_id for row in rows], items_table(rows, self._table.schema))

    def titles(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Titles of those items that are there."""
        rows = item_rows(self._table.fetch(item_ids), self._dim)
        return {row.item_id: row.title for row in rows if not row.deleted}

    def changed_since(self, seq: int) -> list[ItemRow]:
        """Rows written after ``seq``, by ``(seq, item_id)``."""
        return item_rows(self._table.newer(seq), self._dim)

    def version(self) -> int:
        """Table version as of now; maintenance changes it too."""
        return self._table.version()

    def count(self) -> int:
        """How many items are stored, tombstones included."""
        return self._table.count()

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._maintenance.run_when_due()


class LanceStatisticsStore:
    """What was learned about items, over the ``statistics`` table."""

    def __init__(self, table: KeyedTable, maintenance: Maintenance) -> None:
        self._table = table
        self._maintenance = maintenance

    def upsert(self, rows: Sequence[StatisticsRow]) -> None:
        """Insert or replace in one commit."""
        if rows:
            packed = statistics_table(rows, self._table.schema)
            self._table.upsert([row.item_id for row in rows], packed)

    def changed_since(self, seq: int) -> list[StatisticsRow]:
        """Rows written after ``seq``, by ``(seq, item_id)``."""
        return statistics_rows(self._table.newer(seq))

    def version(self) -> int:
        """Table version as of now; maintenance changes it too."""
        return self._table.version()

    def count(self) -> int:
        """How many items have statistics."""
        return self._table.count()

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._maintenance.run_when_due()


class LanceModelStore:
    """What was learned about the stream as a whole, over the ``models`` table."""

    def __init__(self, table: KeyedTable, maintenance: Maintenance) -> None:
        self._table = table
        self._maintenance = maintenance

    def upsert(self, rows: Sequence[ModelRow]) -> None:
        """Insert or replace in one commit."""
        if rows:
            self._table.upsert([row.name for row in rows], models_table(rows, self._table.schema))

    def fetch(self, names: Sequence[str] | None = None) -> dict[str, ModelRow]:
        """Those of these rows that exist (None: all), in order of their names."""
        rows = model_rows(self._table.rows() if names is None else self._table.fetch(names))
        return {row.name: row for row in sorted(rows, key=lambda row: row.name)}

    def changed_since(self, seq: int) -> list[ModelRow]:
        """Rows written after ``seq``, by ``(seq, name)``."""
        return model_rows(self._table.newer(seq))

    def delete(self, names: Sequence[str]) -> None:
        """Forget what was learned under these names."""
        self._table.delete(names)

    def version(self) -> int:
        """Table version as of now; maintenance changes it too."""
        return self._table.version()

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._maintenance.run_when_due()

    def purge(self) -> bool:
        """As `Maintenance.purge`."""
        return self._maintenance.purge()
