"""Users whose rows are written down first, and reach their table some seconds later, many at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from recstream.records.arrays import Vector
from recstream.stores.lance.arrow import users_table
from recstream.stores.lance.journal import Journal
from recstream.stores.lance.users import LanceUserStore
from recstream.users.codec import UserRow

__all__ = ["ROWS_A_MERGE", "JournalledUserStore"]

log = logging.getLogger(__name__)

_EVERY_S: Final = 10.0
"""Time between two merges."""
_MOST: Final = 2000
"""More rows at once go to the table directly: there they cost less each than in few, and are not kept twice.
So many that are waiting are merged without delay; at twice as many, who brings more waits."""
ROWS_A_MERGE: Final = 4000
"""Rows an upsert, as `recstream.dataflow.user_cache` has it."""
_BYTES: Final = 64 * 1024 * 1024
"""Likewise so many bytes that are written down are merged without delay."""


class JournalledUserStore:
    """A :class:`LanceUserStore` whose small writes do not wait for lance.

    *Measured* with 2,000 users of 8 KB in 26 fragments, for 400 rows: 110-130 ms to upsert them, which every
    event behind waits for; 12 ms to write them down. Merged every ten seconds, a user's rows of several
    barriers are one, and there are fewer fragments to read. `LanceDatabase.open` merges what a process that
    died had written down. Other readers of the table see a change some ten seconds late.
    """

    def __init__(self, store: LanceUserStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._changed = threading.Condition()
        """Guards all below and the journal."""
        self._waiting: dict[str, UserRow] = {}
        self._merging: dict[str, UserRow] = {}
        self._bytes = 0
        """Of the journal since the last merge began."""
        self._begun = self._merged = self._wanted = 0
        """How many merges have begun, are done, and are wanted without delay."""
        self._fault: BaseException | None = None
        self._thread: threading.Thread | None = None

    def fetch(self, user_ids: Sequence[str]) -> dict[str, UserRow]:
        """Rows of those users that are stored."""
        with self._changed:
            held = {
                user_id: row
                for user_id in user_ids
                if (row := self._waiting.get(user_id) or self._merging.get(user_id)) is not None
            }
        absent = [user_id for user_id in user_ids if user_id not in held]
        return held | (self._store.fetch(absent) if absent else {})

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
        own = {row.user_id: _frozen(row) for row in rows}
        if len(own) != len(rows):
            self._store.upsert(rows)  # which refuses them
        table = users_table(list(own.values()), self._store.schema)
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
        """Return when all that is there by now is in the table, and nothing of it written down beside it."""
        with self._changed:
            self._raise_fault()
            last = self._begun + bool(self._waiting)
            self._wanted = max(self._wanted, last)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._fault is not None or self._merged >= last)
            self._raise_fault()

    def delete(self, user_ids: Sequence[str]) -> None:
        """Erase users: what was written down of them goes before their rows do."""
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

    def near(self, vector: Vector, n: int) -> list[tuple[str, float]]:
        """``(user_id, cosine similarity)`` of the n nearest users."""
        with self._changed:
            newer = self._merging | self._waiting
        found = [one for one in self._store.near(vector, n + len(newer)) if one[0] not in newer]
        if newer and n > 0:
            stacked = np.stack([row.vector for row in newer.values()])
            lengths = np.linalg.norm(stacked, axis=1) * max(float(np.linalg.norm(vector)), 1e-12)
            cosines = (stacked @ vector) / np.where(lengths > 0.0, lengths, 1.0)
            found += zip(newer, cosines.astype(float).tolist(), strict=True)
        return sorted(found, key=lambda one: (-one[1], one[0]))[: max(n, 0)]

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._store.maintain()

    def _is_much(self, times: int = 1) -> bool:
        return len(self._waiting) >= times * _MOST or self._bytes >= times * _BYTES

    def _merge(self) -> None:
        """The thread's work: it ends with a fault, or with the process."""
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
                rows = list(self._merging.values())
                for at in range(0, len(rows), ROWS_A_MERGE):
                    self._store.upsert(rows[at : at + ROWS_A_MERGE])
                with self._changed:
                    self._journal.drop(files)
                    self._merging = {}
                    self._merged += 1
                    self._changed.notify_all()
        except BaseException as fault:
            log.exception("users that are written down cannot be merged into their table")
            with self._changed:
                self._fault = fault
                self._changed.notify_all()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault


def _frozen(row: UserRow) -> UserRow:
    """A row that does not change with the array it was made of."""
    vector = np.array(row.vector, np.float32)
    vector.flags.writeable = False
    return row._replace(vector=vector)
