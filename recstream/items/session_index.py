"""Session index: the newest chunks of all users' engagements, and which of them hold an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.records.arrays import Handles

__all__ = ["SESSION_ITEMS", "SessionArrays", "SessionChunk", "SessionIndex"]

SESSION_ITEMS: Final = 50
"""Most distinct items in a chunk. When it is full, the next engagement of the user begins another."""
_PER_ITEM: Final = 200
"""Most chunks remembered of each item, the newest."""
_SCALES: Final = (1.0 / np.sqrt(np.maximum(np.arange(SESSION_ITEMS + 1), 1.0))).astype(np.float32)
"""By length of a chunk: 1 over its root."""


class SessionArrays(NamedTuple):
    """The arrays of a session index, for kernels."""

    items: npt.NDArray[np.int32]
    """Items of each chunk in order of arrival, shape ``(slots, SESSION_ITEMS)``."""
    lengths: npt.NDArray[np.int32]
    """Number of items of each chunk; 0 in a free slot."""
    scales: npt.NDArray[np.float32]
    """1 over the root of each length; 0 in a free slot."""
    ticks: npt.NDArray[np.float64]
    """Stream position at each chunk's newest item."""
    of_item: npt.NDArray[np.int64]
    """Numbers of the newest chunks with each item, a ring, shape ``(items, per item)``; -1 where free."""
    cycle: int
    """Number of the newest chunk that was put into the first slot. Chunks from it on are in the slots in
    order, earlier ones in the slots behind them, and still earlier ones have left."""
    next: int
    """Number of the next chunk."""


class SessionChunk(NamedTuple):
    """One chunk of a user's engagements, as it goes from one index to another."""

    tick: float
    """Stream position at the newest item."""
    items: Sequence[int]
    """Distinct, in order of arrival."""
    turns: Sequence[int]
    """Ordinal, among all engagements of the index, of the one that brought each item. The first identifies
    the chunk."""


class SessionIndex:
    """The newest chunks of all users' engagements, numbered; the oldest makes room for the newest.

    A chunk is up to `SESSION_ITEMS` distinct items that a user engaged with one after another. Session-kNN
    compares chunks as others compare sessions.

    >>> index = SessionIndex(capacity=4)
    >>> index.add("u1", 7, 1.0), index.add("u1", 8, 2.0), index.add("u2", 7, 3.0)
    (0, 0, 1)
    >>> index.items_of(0), index.current("u2"), index.current("u3")
    ([7, 8], 1, -1)
    """

    def __init__(self, capacity: int = 20_000, *, per_item: int = _PER_ITEM) -> None:
        self.capacity = capacity
        """Most chunks."""
        self._items = np.zeros((0, SESSION_ITEMS), np.int32)
        self._lengths = np.zeros(0, np.int32)
        self._numbers = np.zeros(0, np.int64)
        self._ticks = np.zeros(0)
        self._scales = np.zeros(0, np.float32)
        self._of_item = np.full((0, per_item), -1, np.int64)
        self._places = np.zeros(0, np.int64)
        self._turns = np.zeros((0, SESSION_ITEMS), np.int64)
        self._turn = 0
        self._next = 0
        self._open: dict[str, int] = {}
        self._users: dict[int, str] = {}
        self._numbers_of: dict[str, list[int]] = {}
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._users)

    @property
    def arrays(self) -> SessionArrays:
        """The arrays of now: do not keep them across an `add`."""
        cycle = max(self._next - 1, 0) // self.capacity * self.capacity
        return SessionArrays(
            self._items, self._lengths, self._scales, self._ticks, self._of_item, cycle, self._next
        )

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
        """Note that a user engaged with an item at a stream position; gives the number of the chunk."""
        number = self._open.get(user_id, -1)
        slot = number % self.capacity
        length = SESSION_ITEMS if number < 0 else int(self._lengths[slot])
        if length == SESSION_ITEMS:
            number, length = self.begin(user_id), 0
            slot = number % self.capacity
        self._ticks[slot] = tick
        self._changed[user_id] = None
        if item not in self._items[slot, :length].tolist():  # faster than numpy's search of few
            self._append(number, slot, length, item)
        return number

    def begin(self, user_id: str) -> int:
        """Begin a chunk of the user, in the slot of the oldest when the index is full; gives its number."""
        number, self._next = self._next, self._next + 1
        slot = number % self.capacity
        if slot >= len(self._lengths):
            self._grow(min(self.capacity, max(256, 2 * (slot + 1))))
        self._drop(int(self._numbers[slot]))
        self._lengths[slot], self._numbers[slot], self._ticks[slot], self._scales[slot] = 0, number, 0.0, 0.0
        self._open[user_id] = number
        self._users[number] = user_id
        self._numbers_of.setdefault(user_id, []).append(number)
        return number

    def current(self, user_id: str) -> int:
        """Number of the chunk that a user's next engagement goes into, -1 without one."""
        return self._open.get(user_id, -1)

    def items_of(self, number: int) -> list[int]:
        """Items of a chunk, in order of arrival; none if it has left the index."""
        if number not in self._users:
            return []
        slot = number % self.capacity
        items: list[int] = self._items[slot, : self._lengths[slot]].tolist()
        return items

    def tick_of(self, number: int) -> float:
        """Stream position at the newest item of a chunk in the index."""
        return float(self._ticks[number % self.capacity])

    def forget(self, user_id: str) -> list[int]:
        """Drop all chunks of a user; gives their numbers."""
        dropped = list(self._numbers_of.get(user_id, ()))
        for number in dropped:
            self._drop(number)
        if dropped:
            self._changed[user_id] = None
        return dropped

    def take_changed(self) -> list[str]:
        """Users whose chunks were changed here since the last call. Chunks that have left do not count."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def chunks_of(self, user_id: str) -> list[SessionChunk]:
        """A user's chunks in the index, oldest first."""
        found = []
        for number in self._numbers_of.get(user_id, ()):
            slot = number % self.capacity
            length = self._lengths[slot]
            if not length:
                continue
            items, turns = self._items[slot, :length].tolist(), self._turns[slot, :length].tolist()
            found.append(SessionChunk(float(self._ticks[slot]), items, turns))
        return found

    def put(self, chunks: Mapping[str, Sequence[SessionChunk]]) -> None:
        """Replace these users' chunks by those of another index; other users' stay as they are.

        Of more than there is room for, the oldest are left out.

        >>> index, other = SessionIndex(capacity=4), SessionIndex(capacity=4)
        >>> index.add("u1", 7, 1.0), index.add("u2", 7, 2.0), index.add("u1", 8, 3.0)
        (0, 1, 0)
        >>> other.put({user: index.chunks_of(user) for user in ("u2", "u1")})
        >>> other.items_of(other.current("u1")), other.tick_of(other.current("u1"))
        ([7, 8], 3.0)
        """
        oldest = self._oldest()
        begun: list[tuple[int, str, SessionChunk]] = []
        added: list[tuple[int, SessionChunk]] = []
        for user_id, theirs in chunks.items():
            mine = {int(self._turns[n % self.capacity, 0]): n for n in self._numbers_of.get(user_id, ())}
            for chunk in theirs:
                number = mine.pop(chunk.turns[0], None)
                if number is None:
                    if chunk.turns[0] > oldest:
                        begun.append((chunk.turns[0], user_id, chunk))
                    continue
                slot = number % self.capacity
                self._ticks[slot] = chunk.tick
                have = int(self._lengths[slot])
                if have < len(chunk.items):
                    added.append((number, SessionChunk(chunk.tick, chunk.items[have:], chunk.turns[have:])))
            for number in mine.values():
                self._drop(number)
        begun.sort(key=lambda one: one[:2])
        for _, user_id, chunk in begun[-self.capacity :]:
            number = self.begin(user_id)
            self._ticks[number % self.capacity] = chunk.tick
            added.append((number, chunk))
        self._append_all([(number, chunk) for number, chunk in added if number in self._users])

    def _oldest(self) -> int:
        """First turn of the chunk that leaves next, -1 without one. Chunks that began before it have left."""
        slot = self._next % self.capacity
        is_full = slot < len(self._lengths) and self._lengths[slot] > 0
        return int(self._turns[slot, 0]) if is_full else -1

    def _append_all(self, added: Sequence[tuple[int, SessionChunk]]) -> None:
        """As `_append` for each item in the order of turns, but in a few passes: a start brings many."""
        if not added:
            return
        lengths = [len(chunk.items) for _, chunk in added]
        numbers = np.repeat(np.array([number for number, _ in added], np.int64), lengths)
        turns = np.concatenate([np.asarray(chunk.turns, np.int64) for _, chunk in added])
        items = np.concatenate([np.asarray(chunk.items, np.int64) for _, chunk in added])
        order = np.argsort(turns, kind="stable")
        numbers, turns, items = numbers[order], turns[order], items[order]
        self.reserve(int(items.max()) + 1)
        slots = numbers % self.capacity
        places = self._lengths[slots] + _ranks(slots)
        self._items[slots, places], self._turns[slots, places] = items, turns
        self._lengths += np.bincount(slots, minlength=len(self._lengths)).astype(np.int32)
        self._scales[slots] = _SCALES[self._lengths[slots]]
        rings = (self._places[items] + _ranks(items)) % self._of_item.shape[1]
        self._of_item[items, rings] = numbers  # of several in one place the last one stays
        self._places += np.bincount(items, minlength=len(self._places))
        self._turn = max(self._turn, int(turns[-1]) + 1)

    def _append(self, number: int, slot: int, length: int, item: int) -> None:
        """Append an item to the chunk in a slot, which has ``length`` items."""
        if item >= len(self._of_item):
            self.reserve(item + 1)
        self._items[slot, length], self._turns[slot, length] = item, self._turn
        self._lengths[slot] = length + 1
        self._scales[slot] = _SCALES[length + 1]
        place = int(self._places[item])
        self._of_item[item, place % self._of_item.shape[1]] = number
        self._places[item] = place + 1
        self._turn += 1

    def _drop(self, number: int) -> None:
        user = self._users.pop(number, None)
        if user is None:
            return
        numbers = self._numbers_of[user]
        numbers.remove(number)
        if not numbers:
            del self._numbers_of[user]
        if self._open.get(user) == number:
            del self._open[user]
        slot = number % self.capacity
        self._lengths[slot], self._numbers[slot], self._scales[slot] = 0, -1, 0.0

    def _grow(self, slots: int) -> None:
        have = len(self._lengths)
        for name, empty in (
            *(("_items", 0), ("_turns", 0)),
            *(("_lengths", 0), ("_numbers", -1), ("_ticks", 0), ("_scales", 0)),
        ):
            old: Handles = getattr(self, name)
            new = np.full((slots, *old.shape[1:]), empty, old.dtype)
            new[:have] = old
            setattr(self, name, new)


def _ranks(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of equal values before each.

    >>> _ranks(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values)) - np.repeat(begins, np.diff(np.r_[begins, len(values)]))
    return ranks
