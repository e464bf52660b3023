"""The users that a worker holds in memory: a bounded window on the user table, written at the checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from recstream.dataflow.background import Later
from recstream.items.catalogue import Catalogue
from recstream.metrics.base import Meters
from recstream.records.event import Event
from recstream.stores.base import UserStore
from recstream.users.codec import UserRow, user_row, user_state_of
from recstream.users.offset_ranges import absorb, cut_after
from recstream.users.state import UserState

__all__ = ["UserCache"]

_UPSERT_ROWS: Final = 4000
"""Rows an upsert: *measured* 48-67 k rows/s in calls of 2,000 to 5,000 (6 KB each), 14-26 k in one of 20,000.

A crash in between leaves some users newer than others, which their offset ranges make harmless.
"""
_READ_AHEAD: Final = 5000
"""Most users read ahead at start: some 40 MB until their events come."""


class UserCache:
    """User states by user id, least recently used first. A changed one stays until it is written."""

    def __init__(
        self,
        store: UserStore,
        catalogue: Catalogue,
        meters: Meters,
        *,
        limit: int,
        shards: int,
        sessions: bool,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._meters = meters
        self._limit = limit
        self._shards = shards
        self._sessions = sessions
        self._user_states: dict[str, UserState] = {}
        self._dirty: dict[str, None] = {}
        self._forgotten: dict[str, None] = {}
        self._was_empty = store.count() == 0
        self._is_whole = self._was_empty
        """Whether every stored user that this worker owns is in memory: then a look-up can find nothing."""
        self._has_evicted = False
        self._is_warmed = False
        self._read_ahead: list[list[UserRow]] | None = None
        """Where `warm` puts the rows it has read; None: nothing is being read."""
        self._looked_up: set[str] = set()
        """Users looked up while `warm` reads: their rows may have changed since."""
        self._rows_ahead: dict[str, UserRow] = {}
        """Rows that were read ahead, as they are stored."""

    def __len__(self) -> int:
        return len(self._user_states)

    def warm(self, later: Later) -> None:
        """Have the users who changed last read ahead, ``later``: a look-up holds up the events of its batch.

        *Measured* 20-40 ms a look-up of a few users beside other work, with some 2,000 stored. Once a run.
        """
        if self._is_whole or self._is_warmed:
            return
        self._is_warmed = True
        read_ahead: list[list[UserRow]] = []
        self._read_ahead = read_ahead
        self._looked_up = set(self._user_states)
        most = min(self._limit, _READ_AHEAD)
        later(lambda: read_ahead.append(self._store.newest(most)))

    def _take_read_ahead(self, absent: Iterable[str]) -> None:
        """Take in the rows read ahead, once they are there, without those of users looked up meanwhile."""
        if self._read_ahead is None:
            return
        if not self._read_ahead:
            self._looked_up.update(absent)
            return
        (rows,) = self._read_ahead
        self._is_whole = len(rows) < min(self._limit, _READ_AHEAD) and not self._has_evicted
        self._rows_ahead = {row.user_id: row for row in rows if row.user_id not in self._looked_up}
        self._read_ahead = None
        self._looked_up.clear()

    def load(self, user_ids: Iterable[str]) -> list[UserState]:
        """Bring these users into memory by one look-up; gives those that were read from the store."""
        absent = []
        user_states = self._user_states
        for user_id in dict.fromkeys(user_ids):
            user_state = user_states.pop(user_id, None)
            if user_state is not None:
                user_states[user_id] = user_state  # now the most recently used
            else:
                absent.append(user_id)
        if not absent:
            return []
        self._take_read_ahead(absent)
        rows = {user_id: self._rows_ahead.pop(user_id) for user_id in absent if user_id in self._rows_ahead}
        wanted = [user_id for user_id in absent if user_id not in rows and user_id not in self._forgotten]
        if wanted and not self._is_whole:
            rows |= self._store.fetch(wanted)
        loaded = []
        for user_id in absent:
            row = rows.get(user_id)
            user_state = UserState(user_id) if row is None else user_state_of(row, self._catalogue)
            user_states[user_id] = user_state
            if row is not None:
                loaded.append(user_state)
        self._meters.add("users_loaded", len(loaded))
        return loaded

    def unfinished(self, shards: Collection[int]) -> dict[str, int]:
        """Give the users of these shards in whom an earlier run left something unfinished, and what."""
        return {} if self._was_empty else self._store.unfinished(shards)

    def get(self, user_id: str) -> UserState:
        """Give a user that was loaded before.

        Raises:
            KeyError: the user was not.
        """
        return self._user_states[user_id]

    def find(self, user_id: str) -> UserState | None:
        """Give a user, if in memory."""
        return self._user_states.get(user_id)

    def changed(self, user_id: str) -> None:
        """Note that a user's state differs from their row."""
        self._dirty[user_id] = None

    def forget(self, event: Event) -> None:
        """Erase a user as the event asks, from memory at once and from the store at the next flush.

        Only the offset ranges stay, and are stored if the user comes back: so the event, read again after a
        crash, does not erase what came after it. Where the beginning of a log is replayed after its end, what
        came after the event is erased with the rest and no longer absorbed: read again, it counts again.
        """
        user_id = event.user_id
        offset_ranges = self._user_states[user_id].offset_ranges
        ranges = offset_ranges.setdefault(event.partition.identity, [])
        cut_after(ranges, event.offset)
        absorb(ranges, event.offset, event.partition.since)
        self._user_states[user_id] = UserState(user_id, offset_ranges=offset_ranges)
        self._dirty.pop(user_id, None)
        self._forgotten[user_id] = None

    def flush(self, *, is_last: bool = False) -> int:
        """Write the users that changed, then evict the least recently used; gives the number of rows written.

        ``is_last``: all is left so that every other reader of the store finds it.
        """
        if self._forgotten:  # of who came back, too: older versions of their row are to go
            self._store.delete(list(self._forgotten))
        changed = list(self._dirty)
        for at in range(0, len(changed), _UPSERT_ROWS):
            user_states = [self._user_states[user_id] for user_id in changed[at : at + _UPSERT_ROWS]]
            self._store.upsert(
                [
                    user_row(user_state, self._catalogue, self._shards, sessions=self._sessions)
                    for user_state in user_states
                ]
            )
        if is_last:
            self._store.settle()
        self.is_settled()
        self._forgotten.clear()
        self._dirty.clear()
        self._evict()
        self._meters.set("users_hot", len(self._user_states))
        return len(changed)

    def is_settled(self) -> bool:
        """Whether every other reader sees what was written. Raises what has failed since."""
        return self._store.is_settled()

    @property
    def is_overfull(self) -> bool:
        """Whether so many users came since the last flush that one is due before the barrier."""
        return len(self._user_states) > 2 * self._limit

    def _evict(self) -> None:
        spare = len(self._user_states) - self._limit
        if spare <= 0:
            return
        self._is_whole = False
        self._has_evicted = True
        idle = [user for user, one in self._user_states.items() if not one.waiting and not one.outbox]
        for user_id in idle[:spare]:
            del self._user_states[user_id]
