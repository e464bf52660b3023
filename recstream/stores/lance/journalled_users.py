"""Users whose rows go to a journal first, and reach their table some seconds later, many at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from typing_extensions import override

from recstream.records.arrays import Vector
from recstream.stores.lance.arrow import matrix_of, user_rows, users_table
from recstream.stores.lance.erasure import ErasureNote
from recstream.stores.lance.journal import Journal
from recstream.stores.lance.keyed_table import KeyedTable
from recstream.stores.lance.maintenance import Maintenance
from recstream.stores.lance.tables import LanceUserStore
from recstream.users.codec import UserRow

__all__ = ["JournalledUserStore", "UnmergedUserStore", "merge_batches"]

log = logging.getLogger(__name__)

_EVERY_S: Final = 10.0
"""Seconds between two merges."""
_MOST: Final = 2000
"""Rows of one upsert above which it goes to the table directly: there they cost less each than in few, and
are not kept twice. So many rows in the journal are merged without delay; at twice as many a writer waits."""
_ROWS_A_MERGE: Final = 4000
"""Rows of one write to the table, as `recstream.dataflow.user_cache` has it."""
_BYTES: Final = 64 * 1024 * 1024
"""Bytes in the journal that are merged without delay; at twice as many a writer waits."""

_Place = tuple[Any, int]
"""An Arrow table, and which of its rows."""


def merge_batches(store: LanceUserStore, batches: Iterable[Any]) -> None:
    """Put Arrow tables of user rows into the table of users: of each user the last row."""
    _put(store, {user_id: place for batch in batches for user_id, place in _places(batch).items()})


class UnmergedUserStore(LanceUserStore):
    """Users of a table, and rows that are newer than it: for who looks into a store while a job runs.

    ``batches`` are what the journals held when it was made (`not_merged`): no user is older than that.
    """

    def __init__(
        self,
        table: KeyedTable,
        dim: int,
        maintenance: Maintenance,
        erasures: ErasureNote,
        batches: Iterable[Any],
    ) -> None:
        super().__init__(table, dim, maintenance, erasures)
        self._newer = {row.user_id: row for batch in batches for row in user_rows(batch, dim)}

    @override
    def fetch(self, user_ids: Sequence[str]) -> dict[str, UserRow]:
        held = {user_id: self._newer[user_id] for user_id in user_ids if user_id in self._newer}
        return held | super().fetch([user_id for user_id in user_ids if user_id not in held])

    @override
    def upsert(self, rows: Sequence[UserRow]) -> None:
        super().upsert(rows)
        self._drop(row.user_id for row in rows)

    @override
    def delete(self, user_ids: Sequence[str]) -> None:
        super().delete(user_ids)
        self._drop(user_ids)

    @override
    def count(self) -> int:
        return len(self.ids()) if self._newer else super().count()

    @override
    def ids(self) -> list[str]:
        return sorted({*super().ids(), *self._newer})

    @override
    def unfinished(self, shards: Collection[int]) -> dict[str, int]:
        older = {name: why for name, why in super().unfinished(shards).items() if name not in self._newer}
        newer = {
            row.user_id: row.unfinished
            for row in self._newer.values()
            if row.shard in shards and row.unfinished
        }
        return dict(sorted((older | newer).items()))

    @override
    def newest(self, n: int) -> list[UserRow]:
        found = [row for row in super().newest(n + len(self._newer)) if row.user_id not in self._newer]
        found += self._newer.values()
        return sorted(found, key=lambda row: -row.updated_at)[: max(n, 0)]

    @override
    def near(self, vector: Vector, n: int) -> list[tuple[str, float]]:
        older = super().near(vector, n + len(self._newer))
        found = [one for one in older if one[0] not in self._newer]
        length = max(float(np.linalg.norm(vector)), 1e-12)
        found += [(row.user_id, float(row.vector @ vector) / length) for row in self._newer.values()]
        return sorted(found, key=lambda one: (-one[1], one[0]))[: max(n, 0)]

    def _drop(self, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            self._newer.pop(user_id, None)


def _put(store: LanceUserStore, places: Mapping[str, _Place]) -> None:
    rows = _taken(places.values())
    for at in range(0, len(rows), _ROWS_A_MERGE):
        store.put(rows.slice(at, _ROWS_A_MERGE))


def _places(table: Any) -> dict[str, _Place]:
    return {user_id: (table, row) for row, user_id in enumerate(table["user_id"].to_pylist())}


def _taken(places: Iterable[_Place]) -> Any:
    """The rows at these places, one or more, as one Arrow table."""
    by_table: dict[int, tuple[Any, list[int]]] = {}
    for table, row in places:
        by_table.setdefault(id(table), (table, []))[1].append(row)
    return pa.concat_tables([table.take(rows) for table, rows in by_table.values()])


class JournalledUserStore:
    """A `LanceUserStore` whose small writes do not wait for lance.

    *Measured* with 2,000 users of 8 KB in 26 fragments, for 400 rows: 110-130 ms to upsert them, while
    every event behind waits; 12 ms to append them to the journal. Merged every ten seconds, a user's rows
    of several barriers are one, and there are fewer fragments to read. `LanceDatabase.open` merges the
    journal of a process that died. Other readers of the table see a change some ten seconds late.
    """

    def __init__(self, store: LanceUserStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._changed = threading.Condition()
        """Guards the attributes below, and the journal."""
        self._waiting: dict[str, _Place] = {}
        self._merging: dict[str, _Place] = {}
        self._bytes = 0
        """Size of the batches appended since the last merge began."""
        self._begun = self._merged = self._wanted = 0
        """Numbers of the merges that have begun, are done, and are wanted without delay."""
        self._fault: BaseException | None = None
        self._thread: threading.Thread | None = None

    def fetch(self, user_ids: Sequence[str]) -> dict[str, UserRow]:
        """Rows of those users that are stored."""
        with self._changed:
            held = {
                user_id: place
                for user_id in user_ids
                if (place := self._waiting.get(user_id) or self._merging.get(user_id)) is not None
            }
        absent = [user_id for user_id in user_ids if user_id not in held]
        found = self._store.fetch(absent) if absent else {}
        if held:
            found |= {row.user_id: row for row in user_rows(_taken(held.values()), self._store.dim)}
        return found

    def upsert(self, rows: Sequence[UserRow]) -> None:
        """Insert or replace: durable when it returns.

        Raises:
            StoreError: an earlier write to the table failed, or this one.
            ValueError: two rows of one user.
        """
        if not rows:
            return
        if len(rows) > _MOST:
            self.settle()
            self._store.upsert(rows)
            return
        table = users_table(rows, self._store.schema)
        own = _places(table)
        if len(own) != len(rows):
            self._store.put(table)  # which refuses them
        with self._changed:
            self._raise_fault()
            self._journal.append(table)
            self._waiting |= own
            self._bytes += table.nbytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._merge, name="merge users", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._fault is not None or not self._is_much(2))

    def is_settled(self) -> bool:
        """Whether all is in the table.

        Raises:
            StoreError: it cannot be written.
        """
        with self._changed:
            self._raise_fault()
            return not (self._waiting or self._merging)

    def settle(self) -> None:
        """Return when all rows written so far are in the table, and none of them in the journal."""
        with self._changed:
            self._raise_fault()
            last = self._begun + bool(self._waiting)
            self._wanted = max(self._wanted, last)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._fault is not None or self._merged >= last)
            self._raise_fault()

    def delete(self, user_ids: Sequence[str]) -> None:
        """Erase users, first from the journal and then from the table."""
        self.settle()
        self._store.delete(user_ids)

    def count(self) -> int:
        """How many users are stored."""
        self.settle()
        return self._store.count()

    def ids(self) -> list[str]:
        """Ids of all stored users."""
        self.settle()
        return self._store.ids()

    def unfinished(self, shards: Collection[int]) -> dict[str, int]:
        """Users in these shards to come back to after a restart, and why."""
        self.settle()
        return self._store.unfinished(shards)

    def newest(self, n: int) -> list[UserRow]:
        """The rows of the n users who changed last."""
        self.settle()
        return self._store.newest(n)

    def active(
        self, shards: Collection[int], since: float, before: tuple[float, str], n: int
    ) -> list[tuple[str, float]]:
        """``(user_id, updated_at)`` of the n users who changed last before a user."""
        self.settle()
        return self._store.active(shards, since, before, n)

    def near(self, vector: Vector, n: int) -> list[tuple[str, float]]:
        """``(user_id, cosine similarity)`` of the n nearest users."""
        with self._changed:
            newer = self._merging | self._waiting
        found = [one for one in self._store.near(vector, n + len(newer)) if one[0] not in newer]
        if newer and n > 0:
            rows = _taken(newer.values())
            stacked = matrix_of(rows["vector"], self._store.dim)
            lengths = np.linalg.norm(stacked, axis=1) * max(float(np.linalg.norm(vector)), 1e-12)
            cosines = (stacked @ vector) / np.where(lengths > 0.0, lengths, 1.0)
            found += zip(rows["user_id"].to_pylist(), cosines.astype(float).tolist(), strict=True)
        return sorted(found, key=lambda one: (-one[1], one[0]))[: max(n, 0)]

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._store.maintain()

    def _is_much(self, times: int = 1) -> bool:
        return len(self._waiting) >= times * _MOST or self._bytes >= times * _BYTES

    def _merge(self) -> None:
        """Merge again and again: the thread ends with a fault, or with the process."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting)
                    self._changed.wait_for(
                        lambda: self._wanted > self._begun or self._is_much(), timeout=_EVERY_S
                    )
                    self._merging, self._waiting = self._waiting, {}
                    self._bytes = 0
                    self._begun += 1
                    files = self._journal.turn()
                    self._changed.notify_all()
                _put(self._store, self._merging)
                with self._changed:
                    self._journal.drop(files)
                    self._merging = {}
                    self._merged += 1
                    self._changed.notify_all()
        except BaseException as fault:
            log.exception("the journal of users cannot be merged into their table")
            with self._changed:
                self._fault = fault
                self._changed.notify_all()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault
