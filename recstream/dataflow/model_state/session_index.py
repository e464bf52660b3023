"""The session index: kept over restarts and shared by the workers of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from recstream.items.catalogue import Catalogue
from recstream.items.codec import RowFormatError
from recstream.items.session_index import SessionChunk, SessionIndex
from recstream.records.transport import shard_of
from recstream.stores.base import ModelRow

__all__ = [
    "SESSIONS",
    "Named",
    "SessionIndexState",
    "row_of_user",
    "sessions_in",
    "sessions_state",
    "without_user",
]

SESSIONS: Final = "sessions/"
"""Prefix of the rows' names."""
_LAYOUT: Final = 1
"""First byte of every such row."""
_ROWS: Final = 1024
"""Number of rows that users are spread over: *measured* 12 ms to write 64 of them (1,280 chunks), against
22 ms for 500 chunks with a row each."""
_ROWS_A_FLUSH: Final = 64
"""Rows written together."""
_TURNS_MOST: Final = 8
"""Turns after which changed rows are written although there are fewer than `_ROWS_A_FLUSH` of them."""

Named = dict[str, list[tuple[float, list[str], list[int]]]]
"""Chunks by user: stream position, item ids, turns (as in `SessionChunk`)."""


def row_of_user(user_id: str, shards: int) -> str:
    """Give the name of the row that holds a user's chunks: a row of their shard, so that it has one writer.

    >>> row_of_user("u1", 32), shard_of("u1", 32) == int(row_of_user("u1", 32)[9:]) // 32
    ('sessions/0583', True)
    """
    return f"{SESSIONS}{shard_of(user_id, shards * max(1, _ROWS // shards)):04d}"


def sessions_state(sessions: Named) -> bytes:
    """Pack chunks as they are stored."""
    return bytes((_LAYOUT,)) + msgspec.msgpack.encode(sessions)


def sessions_in(row: ModelRow) -> Named:
    """Unpack the chunks that a row holds.

    Raises:
        RowFormatError: another version of recstream wrote it.
    """
    if row.state[:1] != bytes((_LAYOUT,)):
        msg = (
            f"the stored sessions {row.name!r} have layout {row.state[:1].hex() or 'nothing'}, this version "
            f"of recstream reads {_LAYOUT:02x}: run the version that wrote them, or replay the log into a "
            "new store (recstream backfill)"
        )
        raise RowFormatError(msg)
    return msgspec.msgpack.decode(memoryview(row.state)[1:], type=Named)


def without_user(row: ModelRow, user_id: str) -> ModelRow | None:
    """Give a row without the chunks of a user; None: it holds none of theirs."""
    sessions = sessions_in(row)
    return None if sessions.pop(user_id, None) is None else row._replace(state=sessions_state(sessions))


class SessionIndexState:
    """The session index of one worker and its rows, each of which holds all chunks of some users.

    A chunk that leaves the index leaves its row when that is next written. An erased user leaves it at the
    next barrier. Rows name users and items by their ids.
    """

    def __init__(self, index: SessionIndex, catalogue: Catalogue, *, shards: int) -> None:
        self._index = index
        self._catalogue = catalogue
        self._shards = shards
        self._members: dict[str, set[str]] = {}
        self._dirty: dict[str, None] = {}
        self._urgent: dict[str, None] = {}
        self._turn = 0
        self._waited = 0

    def start(self, rows: Mapping[str, ModelRow]) -> None:
        """Load the chunks of all workers of the run before."""
        self.follow(rows)

    def follow(self, rows: Mapping[str, ModelRow]) -> None:
        """Take in what other workers have written."""
        chunks: dict[str, list[SessionChunk]] = {}
        intern = self._catalogue.intern
        for name, row in rows.items():
            if not name.startswith(SESSIONS):
                continue
            sessions = sessions_in(row)
            chunks |= {user_id: [] for user_id in self._members.get(name, set()) - sessions.keys()}
            for user_id, theirs in sessions.items():
                chunks[user_id] = [
                    SessionChunk(tick, [intern(item) for item in items], turns)
                    for tick, items, turns in theirs
                ]
            self._members[name] = set(sessions)
        self._index.put(chunks)

    def forget(self, user_id: str) -> None:
        """Drop a user's chunks now, and from their row at the next barrier."""
        name = row_of_user(user_id, self._shards)
        if self._index.forget(user_id) or user_id in self._members.get(name, ()):
            self._urgent[name] = None

    @property
    def is_urgent(self) -> bool:
        """Whether a row holds an erased user."""
        return bool(self._urgent)

    @property
    def waits(self) -> bool:
        """Whether rows wait to be written."""
        return bool(self._dirty or self._urgent)

    def due(self, turn: int, *, all_of_it: bool) -> dict[str, bytes]:
        """Give the rows to be written now: those that hold an erased user, and some that wait the longest.

        A crash loses the chunks of some seconds.
        """
        for user_id in self._index.take_changed():
            name = row_of_user(user_id, self._shards)
            self._members.setdefault(name, set()).add(user_id)
            self._dirty[name] = None
        names = dict(self._urgent)
        self._urgent.clear()
        if all_of_it:
            names |= self._dirty
        elif turn != self._turn:
            self._waited += bool(self._dirty)
            if self._waited >= _TURNS_MOST or len(self._dirty) >= _ROWS_A_FLUSH:
                most = max(_ROWS_A_FLUSH, len(self._dirty) // 8)
                names |= dict.fromkeys(list(self._dirty)[:most])
                self._waited = 0
        self._turn = turn
        return {name: self._state(name) for name in names}

    def _state(self, name: str) -> bytes:
        self._dirty.pop(name, None)
        ids = self._catalogue.ids
        sessions: Named = {}
        for user_id in sorted(self._members.get(name, ())):
            theirs = self._index.chunks_of(user_id)
            if theirs:
                sessions[user_id] = [
                    (tick, [ids[item] for item in items], list(turns)) for tick, items, turns in theirs
                ]
        self._members[name] = set(sessions)
        return sessions_state(sessions)
