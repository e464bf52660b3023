"""Users who may come back, and how far the world has moved since their lists were made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["IdleUsers", "worth"]

Floats = npt.NDArray[np.float64]

_TREND: Final = 300.0
"""Events of the stream after which a list has lost most of what it can lose to trends."""
_RETURNING: Final = 10.0
"""Events within which everybody who was just here is equally likely to come back."""
_MOST_PATIENCE: Final = 64.0


def worth(age: Floats, idle: Floats) -> Floats:
    """How much it is worth to make lists again that are ``age`` old, of users ``idle`` so long (in events).

    A user comes back with a rate that falls as one over how long they were away (return times have heavy
    tails: Barabasi, Nature 435, 2005), and a list loses ``1 - exp(-age / 300)`` of what trends are worth.
    Of many such lists, refreshing the one with the greatest *Whittle index* (Kadota et al., "Scheduling
    policies for minimizing age of information", IEEE/ACM ToN 26, 2018) costs least in the long run: the rate
    times ``age * loss(age)`` less the integral of the loss so far, here ``1 - (1 + x) exp(-x)`` with
    ``x = age / 300``. So who was just here is served often, but not again and again, and who was away for
    long now and then.

    >>> worth(np.array([0.0, 30.0, 300.0]), np.array([10.0, 30.0, 300.0])).round(6).tolist()
    [0.0, 0.000117, 0.000852]
    """
    x = age / _TREND
    gained: Floats = (1.0 - (1.0 + x) * np.exp(-x)) / (idle + _RETURNING)
    return gained


class IdleUsers:
    """A bounded table of users: when they were heard, when their list was made, and a digest of it.

    Time is counted in events of the whole stream (``tick``): where nothing happens, nothing is due.

    >>> users = IdleUsers(limit=2, after=20.0)
    >>> for tick, name in enumerate("abc"):
    ...     users.hear(name, tick, at=100.0)
    ...     _ = users.note_list(name, tick, [7, 8], is_refresh=False)
    >>> users.pick(5, tick=10.0, since=0.0), users.pick(5, tick=50.0, since=0.0)
    ([], ['b', 'c'])
    >>> [users.note_list(name, 50.0, [8, 7], is_refresh=True) for name in ("b", "b", "c")]
    [True, False, True]
    >>> users.pick(5, tick=80.0, since=0.0)
    ['c']
    """

    def __init__(self, limit: int, after: float) -> None:
        self._after = after
        self._limit = limit
        self._places: dict[str, int] = {}
        """Place in the arrays by user, those heard longest ago first."""
        self._names: list[str] = []
        self._free: list[int] = []
        self._heard = np.zeros(0)
        self._made = np.zeros(0)
        self._at = np.zeros(0)
        self._patience = np.zeros(0)
        self._digests = np.zeros(0, np.int64)
        self._next = float("inf")
        """No list is due before this tick."""

    def __len__(self) -> int:
        return len(self._places)

    def heard_at(self, user_id: str) -> float | None:
        """When the user was heard last, or None if they are not in the table."""
        place = self._places.get(user_id)
        return None if place is None else float(self._at[place])

    def hear(self, user_id: str, tick: float, at: float) -> None:
        """The user is here; ``at`` (seconds, of whatever clock) is what `pick` compares ``since`` with."""
        place = self._places.pop(user_id, None)
        if place is None:
            if len(self._places) >= self._limit:
                self.drop(next(iter(self._places)))
            place = self._take_place(user_id)
            self._made[place] = tick
            self._digests[place] = 0
            self._patience[place] = self._after
        self._places[user_id] = place
        self._heard[place] = tick
        self._at[place] = at
        self._next = min(self._next, float(self._made[place] + self._patience[place]))

    def drop(self, user_id: str) -> None:
        """Leave a user alone from now on, until they are heard again."""
        place = self._places.pop(user_id, None)
        if place is not None:
            self._names[place] = ""
            self._at[place] = -np.inf
            self._free.append(place)

    def note_list(self, user_id: str, tick: float, items: Sequence[int], *, is_refresh: bool) -> bool:
        """Note a list that was made; gives whether it differs from the one before (True: there is none)."""
        place = self._places.get(user_id)
        if place is None:
            return True
        digest = hash(tuple(items))
        differs = digest != int(self._digests[place])
        self._digests[place] = digest
        self._made[place] = tick
        if is_refresh and not differs:
            self._patience[place] = min(2.0 * self._patience[place], _MOST_PATIENCE * self._after)
        else:
            self._patience[place] = self._after
        self._next = min(self._next, float(tick + self._patience[place]))
        return differs

    def is_due(self, tick: float) -> bool:
        """Whether `pick` may find somebody; cheap."""
        return tick >= self._next

    def pick(self, most: int, *, tick: float, since: float) -> list[str]:
        """At most so many users heard after ``since`` whose lists it is worth most to make again, best first.

        They count as made from now on.
        """
        if most < 1 or not self.is_due(tick):
            return []
        used = len(self._names)
        due_at = np.where(self._at[:used] >= since, self._made[:used] + self._patience[:used], np.inf)
        places = np.flatnonzero(due_at <= tick)
        if len(places) <= most:  # all that are due now: the next is due later
            due_at[places] = np.inf
            self._next = float(due_at.min(initial=np.inf))
        value = worth(tick - self._made[places], tick - self._heard[places])
        places = places[np.argsort(-value, kind="stable")[:most]]
        self._made[places] = tick
        if len(places):
            self._next = min(self._next, float((tick + self._patience[places]).min()))
        return [self._names[place] for place in places.tolist()]

    def _take_place(self, user_id: str) -> int:
        if self._free:
            place = self._free.pop()
            self._names[place] = user_id
            return place
        place = len(self._names)
        self._names.append(user_id)
        if place >= len(self._heard):
            for name in ("_heard", "_made", "_at", "_patience", "_digests"):
                old = getattr(self, name)
                new = np.zeros(max(1024, 2 * place), old.dtype)
                new[:place] = old
                setattr(self, name, new)
        return place
