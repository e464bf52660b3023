"""When to look at a user again although nothing of theirs came: an item arrived, or time has passed."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from recstream.records.event import Event
from recstream.users.state import WaitingEvent

__all__ = ["Timers"]


class Timers:
    """Users to look at, by the item they wait for and by the steady clock (Unix seconds).

    >>> timers = Timers(wait_s=60.0, patience_s=0.0, look_every_s=1.0)
    >>> timers.look_at("u1", 5.0)
    >>> timers.next_look(3.0, has_arrivals=False), timers.due(5.0, []), timers.due(9.0, [])
    (5.0, ['u1'], [])
    """

    def __init__(self, *, wait_s: float, patience_s: float, look_every_s: float) -> None:
        self._wait_s = wait_s
        self._patience_s = patience_s
        self._look_every_s = look_every_s
        self.wanted: dict[str, dict[str, None]] = {}
        """Users whose events wait, by the item they wait for."""
        self.deadlines: list[tuple[float, str]] = []
        """Heap of (steady clock, user)."""
        self.heard: dict[str, float] = {}
        """Steady clock at the newest event of each user whose last session is open."""

    def next_look(self, now: float, *, has_arrivals: bool) -> float | None:
        """When there will be something to look at, or None."""
        if has_arrivals and self.wanted:
            return now
        looks = [self.deadlines[0][0]] if self.deadlines else []
        if self.wanted:  # an item that arrives, here or in another process, wakes nobody by itself
            looks.append(now + self._look_every_s)
        return min(looks, default=None)

    def due(self, now: float, arrived: Iterable[str]) -> list[str]:
        """Users to look at: their item arrived, they waited too long, or they went quiet. Each once."""
        users: dict[str, None] = {}
        for item_id in arrived:
            users.update(self.wanted.pop(item_id, {}))
        while self.deadlines and self.deadlines[0][0] <= now:
            user_id = heapq.heappop(self.deadlines)[1]
            users[user_id] = None
            quiet_at = self.heard.get(user_id, float("-inf")) + self._patience_s
            if quiet_at > now:
                self.look_at(user_id, quiet_at)
        return list(users)

    def look_at(self, user_id: str, at: float) -> None:
        """Look at a user at a moment."""
        heapq.heappush(self.deadlines, (at, user_id))

    def wait(self, user_id: str, waiting: Iterable[WaitingEvent]) -> None:
        """Look at a user when an item of these events arrives, or when they have waited long enough."""
        for received_at, event in waiting:
            self.wanted.setdefault(event.item_id or "", {})[user_id] = None
            self.look_at(user_id, received_at + self._wait_s)

    def want_no_more(self, user_id: str, events: Iterable[Event]) -> None:
        """Forget that the user waits for these events' items."""
        for event in events:
            users = self.wanted.get(event.item_id or "", {})
            users.pop(user_id, None)
            if not users:
                self.wanted.pop(event.item_id or "", None)

    def hear(self, user_id: str, at: float) -> None:
        """An event of the user was read: look again when they may have gone quiet."""
        if user_id not in self.heard:
            self.look_at(user_id, at + self._patience_s)
        self.heard[user_id] = at

    def gone_quiet(self, user_id: str, now: float) -> bool:
        """Whether nothing was heard of a user for as long as a session may pause; they are then dropped."""
        quiet = self.heard.get(user_id, float("-inf")) + self._patience_s <= now
        if quiet:
            self.heard.pop(user_id, None)
        return quiet
