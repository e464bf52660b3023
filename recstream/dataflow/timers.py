"""When to look at a user again although no event of theirs came: an item arrived, or time has passed."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from recstream.records.event import Event
from recstream.users.state import WaitingEvent

__all__ = ["Timers"]


class Timers:
    """Users to look at, by the item they wait for and by the steady clock (Unix seconds).

    >>> timers = Timers(wait_s=60.0, silence_s=0.0, look_every_s=1.0)
    >>> timers.look_at("u1", 5.0)
    >>> timers.next_look(3.0, has_arrivals=False), timers.take_due(5.0, []), timers.take_due(9.0, [])
    (5.0, ['u1'], [])
    """

    def __init__(self, *, wait_s: float, silence_s: float, look_every_s: float) -> None:
        self._wait_s = wait_s
        self._silence_s = silence_s
        """Silence after which no session of a user can grow any more."""
        self._look_every_s = look_every_s
        self.waiting: dict[str, dict[str, None]] = {}
        """Users whose events wait, by the item they wait for."""
        self.deadlines: list[tuple[float, str]] = []
        """Heap of (steady clock, user)."""
        self.last_read: dict[str, float] = {}
        """When the newest event of each user was read whose last session is open, by the steady clock."""

    def next_look(self, now: float, *, has_arrivals: bool) -> float | None:
        """Give the time at which there will be something to look at, or None."""
        if has_arrivals and self.waiting:
            return now
        looks = [self.deadlines[0][0]] if self.deadlines else []
        if self.waiting:  # an item that arrives, here or in another process, wakes nobody by itself
            looks.append(now + self._look_every_s)
        return min(looks, default=None)

    def take_due(self, now: float, arrived: Iterable[str]) -> list[str]:
        """Take out the users to look at, each once: an item arrived, they waited too long, or are silent."""
        users: dict[str, None] = {}
        for item_id in arrived:
            users.update(self.waiting.pop(item_id, {}))
        while self.deadlines and self.deadlines[0][0] <= now:
            user_id = heapq.heappop(self.deadlines)[1]
            users[user_id] = None
            silent_at = self.last_read.get(user_id, float("-inf")) + self._silence_s
            if silent_at > now:
                self.look_at(user_id, silent_at)
        return list(users)

    def look_at(self, user_id: str, at: float) -> None:
        """Have a user looked at when the clock shows ``at``."""
        heapq.heappush(self.deadlines, (at, user_id))

    def wait(self, user_id: str, waiting: Iterable[WaitingEvent]) -> None:
        """Have a user looked at when an item of these events arrives, or when they waited long enough."""
        for received_at, event in waiting:
            self.waiting.setdefault(event.item_id or "", {})[user_id] = None
            self.look_at(user_id, received_at + self._wait_s)

    def stop_waiting(self, user_id: str, events: Iterable[Event]) -> None:
        """Forget that the user waits for these events' items."""
        for event in events:
            users = self.waiting.get(event.item_id or "", {})
            users.pop(user_id, None)
            if not users:
                self.waiting.pop(event.item_id or "", None)

    def note_read(self, user_id: str, at: float) -> None:
        """Note that an event of the user was read: they are looked at again once they may be silent."""
        if user_id not in self.last_read:
            self.look_at(user_id, at + self._silence_s)
        self.last_read[user_id] = at

    def take_if_silent(self, user_id: str, now: float) -> bool:
        """Give whether the user was silent until no session can grow; their time is then dropped."""
        is_silent = self.last_read.get(user_id, float("-inf")) + self._silence_s <= now
        if is_silent:
            self.last_read.pop(user_id, None)
        return is_silent
