"""The newest sessions of all users, and which of them hold an item: what session-kNN looks at."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import Handles

__all__ = ["SESSION_ITEMS", "SessionArrays", "SessionWindow"]

SESSION_ITEMS: Final = 50
"""Distinct items in a session, which is a run of a user's engagements; when it is full the next begins."""
_PER_ITEM: Final = 200
"""Newest sessions remembered of each item."""


class SessionArrays(NamedTuple):
    """The window as the compiled loops see it."""

    items: npt.NDArray[np.int32]
    """Shape ``(sessions, SESSION_ITEMS)``, in order of arrival."""
    lengths: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.int64]
    """Which session a slot holds: sessions are numbered as they begin, slots are used again."""
    ticks: npt.NDArray[np.float64]
    """Stream position at each session's newest item."""
    of_item: npt.NDArray[np.int64]
    """Shape ``(items, kept an item)``: numbers of the sessions that hold it, a ring; -1 where free."""


class SessionWindow:
    """A bounded window of sessions: the oldest makes room for the newest.

    >>> window = SessionWindow(most=4)
    >>> window.add("u1", 7, 1.0), window.add("u1", 8, 2.0), window.add("u2", 7, 3.0)
    (0, 0, 1)
    >>> window.items_of(0), window.current("u2"), window.current("u3")
    ([7, 8], 1, -1)
    """

    def __init__(self, most: int = 20_000, *, per_item: int = _PER_ITEM) -> None:
        self.most = most
        self._items = np.zeros((0, SESSION_ITEMS), np.int32)
        self._lengths = np.zeros(0, np.int32)
        self._numbers = np.zeros(0, np.int64)
        self._ticks = np.zeros(0)
        self._of_item = np.full((0, per_item), -1, np.int64)
        self._places = np.zeros(0, np.int64)
        self._next = 0
        self._open: dict[str, int] = {}
        self._users: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._users)

    @property
    def arrays(self) -> SessionArrays:
        """The arrays: do not keep them across an `add`."""
        return SessionArrays(self._items, self._lengths, self._numbers, self._ticks, self._of_item)

    def reserve(self, items: int) -> None:
        """Make room for item handles below ``items``."""
        have = len(self._of_item)
        if items > have:
            rows = max(1024, items, 2 * have)
            self._of_item = np.concatenate(
                [self._of_item, np.full((rows - have, self._of_item.shape[1]), -1, np.int64)]
            )
            self._places = np.concatenate([self._places, np.zeros(rows - have, np.int64)])

    def add(self, user_id: str, item: int, tick: float) -> int:
        """Note that a user engaged with an item at a stream position; gives the session's number."""
        number = self._open.get(user_id, -1)
        slot = number % self.most
        if number < 0 or self._lengths[slot] >= SESSION_ITEMS:
            number = self.begin(user_id)
            slot = number % self.most
        self._ticks[slot] = tick
        length = int(self._lengths[slot])
        if item in self._items[slot, :length]:
            return number
        self.reserve(item + 1)
        self._items[slot, length] = item
        self._lengths[slot] = length + 1
        self._of_item[item, self._places[item] % self._of_item.shape[1]] = number
        self._places[item] += 1
        return number

    def begin(self, user_id: str) -> int:
        """A new session of the user begins, in the slot of the oldest when the window is full."""
        number, self._next = self._next, self._next + 1
        slot = number % self.most
        if slot >= len(self._lengths):
            self._grow(min(self.most, max(256, 2 * (slot + 1))))
        self._drop(int(self._numbers[slot]))
        self._lengths[slot], self._numbers[slot], self._ticks[slot] = 0, number, 0.0
        self._open[user_id] = number
        self._users[number] = user_id
        return number

    def current(self, user_id: str) -> int:
        """Number of the session that a user is in, -1 without one."""
        return self._open.get(user_id, -1)

    def user(self, number: int) -> str | None:
        """Whose session it is; None: it has left the window."""
        return self._users.get(number)

    def items_of(self, number: int) -> list[int]:
        """Items of a session, in order of arrival; none if it has left the window."""
        if number not in self._users:
            return []
        slot = number % self.most
        items: list[int] = self._items[slot, : self._lengths[slot]].tolist()
        return items

    def tick_of(self, number: int) -> float:
        """Stream position at the newest item of a session in the window."""
        return float(self._ticks[number % self.most])

    def forget(self, user_id: str) -> list[int]:
        """Drop all sessions of a user; gives their numbers."""
        gone = [number for number, user in self._users.items() if user == user_id]
        for number in gone:
            self._drop(number)
        return gone

    def _drop(self, number: int) -> None:
        user = self._users.pop(number, None)
        if user is None:
            return
        if self._open.get(user) == number:
            del self._open[user]
        slot = number % self.most
        self._lengths[slot], self._numbers[slot] = 0, -1

    def _grow(self, slots: int) -> None:
        have = len(self._lengths)
        for name, empty in (("_items", 0), ("_lengths", 0), ("_numbers", -1), ("_ticks", 0)):
            old: Handles = getattr(self, name)
            new = np.full((slots, *old.shape[1:]), empty, old.dtype)
            new[:have] = old
            setattr(self, name, new)
