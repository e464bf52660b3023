"""Users whose lists may hold an item that was deleted or withdrawn since."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from recstream.dataflow.background import Later
from recstream.dataflow.idle_refresh.idle_users import IdleUsers
from recstream.dataflow.recovery import Recovery
from recstream.stores.base import UserStore

__all__ = ["OutdatedUsers"]

_AT_ONCE: Final = 2000
"""Users read from the store together: ids alone."""
_LOOK_S: Final = 0.1
"""Seconds until one looks again whether they have been read."""


class OutdatedUsers:
    """Finds users whose lists may hold an item that has gone, those whose last event came last first.

    Of a list that this run has made it is known what it holds. Any other was made before: it may hold what
    has gone since the user's last event. Its time is in the user's row, and the time at which an item went in
    the item's. So nothing more has to be stored, and no list has to be read back.
    """

    def __init__(
        self, store: UserStore, idle: IdleUsers, recovery: Recovery, later: Later, *, late_s: float
    ) -> None:
        """Make it; ``late_s`` is how far events may be ahead of the clock."""
        self._store = store
        self._idle = idle
        self._recovery = recovery
        self._later = later
        self._late_s = late_s
        self._holders: dict[str, None] = {}
        """Users whose lists of this run hold what has gone since."""
        self._gone_at = float("-inf")
        """When the last item went, Unix seconds."""
        self._searched: dict[int, float] = {}
        """By user shard: all users were found whose lists may hold an item that went until then."""
        self._nothing_left = (float("-inf"), 0)
        """When the last item went, and how many shards there were, as all were searched: asked often."""
        self._shards: list[int] = []
        """Shards that are being searched."""
        self._until = float("-inf")
        """Users are being searched whose lists may hold an item that went until then."""
        self._before = (float("inf"), "")
        """Time of the last event, and id, of the last user read."""
        self._reading: list[list[tuple[str, float]]] | None = None
        """Where users are put as they are read; None: none are being read."""
        self._found: deque[str] = deque()

    def note(self, gone: Sequence[int], gone_at: float) -> None:
        """Note items that have gone, and when the last of all did (Unix seconds)."""
        self._gone_at = max(self._gone_at, gone_at)
        if gone:
            self._holders.update(dict.fromkeys(self._idle.holders(gone)))

    def forget(self, user_id: str) -> None:
        """Forget a user who was erased."""
        self._holders.pop(user_id, None)

    def next_look(self, steady: float) -> float | None:
        """When users may be found, by the steady clock; None: there are none."""
        if self._holders or self._found:
            return steady
        if self._shards or self._unsearched():
            return steady if self._reading is None or self._reading else steady + _LOOK_S
        return None

    def take(self, most: int, since: float) -> list[str]:
        """Take out ``most`` users, or fewer; users without an event from ``since`` on are not read."""
        taken: list[str] = []
        while self._holders and len(taken) < most:
            user_id = next(iter(self._holders))
            del self._holders[user_id]
            taken.append(user_id)
        if not self._found and most > 0:
            self._read(since)
        while self._found and len(taken) < most:
            user_id = self._found.popleft()
            if not self._idle.knows_list_of(user_id):
                taken.append(user_id)
        return taken

    def _read(self, since: float) -> None:
        """Have the next users read, and take in those that have been."""
        if self._reading:
            (rows,) = self._reading
            self._reading = None
            self._found.extend(user_id for user_id, _ in rows)
            if len(rows) == _AT_ONCE:
                user_id, at = rows[-1]
                self._before = (at, user_id)
            else:
                self._searched.update(dict.fromkeys(self._shards, self._until))
                self._shards = []
        elif self._reading is None and (self._shards or self._begin()):
            rows_read: list[list[tuple[str, float]]] = []
            self._reading = rows_read
            shards, before = self._shards, self._before
            self._later(lambda: rows_read.append(self._store.active(shards, since, before, _AT_ONCE)))

    def _begin(self) -> bool:
        """Begin to search the shards in which items that went are not searched for; False: there are none."""
        self._shards = self._unsearched()
        self._until = self._gone_at
        # A user's last event may be dated ahead, and their list still be older than the item's end.
        self._before = (self._until + self._late_s, "")
        return bool(self._shards)

    def _unsearched(self) -> list[int]:
        shards, searched, gone_at = self._recovery.shards, self._searched, self._gone_at
        if self._nothing_left == (gone_at, len(shards)):
            return []
        left = [shard for shard in shards if searched.get(shard, float("-inf")) < gone_at]
        if not left:
            self._nothing_left = (gone_at, len(shards))
        return left
