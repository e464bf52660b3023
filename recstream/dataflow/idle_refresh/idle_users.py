"""Users who may come back, what their last lists hold, and how much has happened since these were made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["IdleUsers", "refresh_value"]

Floats = npt.NDArray[np.float64]

_TREND: Final = 300.0
"""Events of the stream after which a list has lost most of what it can lose to trends."""
_RETURNING: Final = 10.0
"""Events after their last one within which all users are equally likely to come back."""
_LONGEST: Final = 64.0
"""Times ``after`` that pass at most between two lists of a user, where they always come out the same."""
_LONG_AGO: Final = 1e9
"""Events of the stream since the last event of a user, where it is not known how many there were."""
_NOTHING: Final = -1
"""In place of an item: the list is no longer than that."""
_UNKNOWN: Final = -2
"""In place of the first item: no list was made yet."""


def refresh_value(age: Floats, idle: Floats) -> Floats:
    """Give the value of making lists again, by their ``age`` and their users' ``idle`` time (in events).

    A user comes back with a rate that falls as one over how long they were away (return times have heavy
    tails: Barabasi, Nature 435, 2005), and a list loses ``1 - exp(-age / 300)`` of what trends are worth.
    Of many such lists, refreshing the one with the greatest *Whittle index* (Kadota et al., "Scheduling
    policies for minimizing age of information", IEEE/ACM ToN 26, 2018) costs least in the long run: the rate
    times ``age * loss(age)`` less the integral of the loss so far, here ``1 - (1 + x) exp(-x)`` with
    ``x = age / 300``. So who was just here is served often, but not again and again, and who was away for
    long now and then.

    >>> refresh_value(np.array([0.0, 30.0, 300.0]), np.array([10.0, 30.0, 300.0])).round(6).tolist()
    [0.0, 0.000117, 0.000852]
    """
    x = age / _TREND
    gained: Floats = (1.0 - (1.0 + x) * np.exp(-x)) / (idle + _RETURNING)
    return gained


class IdleUsers:
    """A bounded table of users: when their last event came, when their list was made, and what it holds.

    Time is counted in events of the whole stream (``tick``): where nothing happens, nothing is due.

    >>> users = IdleUsers(limit=2, after=20.0)
    >>> for tick, name in enumerate("abc"):
    ...     users.note_event(name, tick, at=100.0)
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
        """Place in the arrays by user, longest idle first."""
        self._names: list[str] = []
        self._free: list[int] = []
        self._event_ticks = np.zeros(0)
        self._list_ticks = np.zeros(0)
        self._event_times = np.zeros(0)
        self._intervals = np.zeros(0)
        """Ticks after which each user's list may be made again."""
        self._lists = np.zeros((0, 1), np.int32)
        """Handles of the items of each user's last list, with `_NOTHING` behind them; or `_UNKNOWN`."""
        self._next_due = float("inf")
        """No list is due before this tick."""

    def __len__(self) -> int:
        return len(self._places)

    def last_event_at(self, user_id: str) -> float | None:
        """Give when the user's last event came, or None if they are not in the table."""
        place = self._places.get(user_id)
        return None if place is None else float(self._event_times[place])

    def note_event(self, user_id: str, tick: float, at: float) -> None:
        """Note an event of the user; `pick` compares ``since`` with ``at`` (seconds, of any clock)."""
        place = self._places.pop(user_id, None)
        if place is None:
            if len(self._places) >= self._limit:
                self.drop(next(iter(self._places)))
            place = self._take_place(user_id, tick)
        self._places[user_id] = place
        self._event_ticks[place] = tick
        self._event_times[place] = at
        self._next_due = min(self._next_due, float(self._list_ticks[place] + self._intervals[place]))

    def adopt(self, user_id: str, tick: float, at: float) -> None:
        """Take in a user whose last event came ``at`` a time before all others, if there is room."""
        if user_id not in self._places and len(self._places) < self._limit:
            place = self._places[user_id] = self._take_place(user_id, tick)
            self._event_ticks[place] = tick - _LONG_AGO
            self._event_times[place] = at

    def knows_list_of(self, user_id: str) -> bool:
        """Whether it is known what the user's last list holds."""
        place = self._places.get(user_id)
        return place is not None and int(self._lists[place, 0]) != _UNKNOWN

    def holders(self, items: Sequence[int]) -> list[str]:
        """Users whose last list holds any of these items, those whose event came last first."""
        used = len(self._names)
        (places,) = np.nonzero(np.isin(self._lists[:used], np.asarray(items, np.int32)).any(axis=1))
        places = places[np.argsort(-self._event_times[places], kind="stable")]
        return [self._names[place] for place in places.tolist()]

    def drop(self, user_id: str) -> None:
        """Leave a user alone until their next event."""
        place = self._places.pop(user_id, None)
        if place is not None:
            self._names[place] = ""
            self._lists[place] = _UNKNOWN
            self._event_times[place] = -np.inf
            self._free.append(place)

    def note_list(self, user_id: str, tick: float, items: Sequence[int], *, is_refresh: bool) -> bool:
        """Note a list that was made; gives whether it differs from the one before (True: there is none)."""
        place = self._places.get(user_id)
        if place is None:
            return True
        if len(items) > self._lists.shape[1]:
            missing = len(items) - self._lists.shape[1]
            self._lists = np.pad(self._lists, ((0, 0), (0, missing)), constant_values=_NOTHING)
        made = np.full(self._lists.shape[1], _NOTHING, np.int32)
        made[: len(items)] = items
        differs = not np.array_equal(made, self._lists[place])
        self._lists[place] = made
        self._list_ticks[place] = tick
        if is_refresh and not differs:
            self._intervals[place] = min(2.0 * self._intervals[place], _LONGEST * self._after)
        else:
            self._intervals[place] = self._after
        self._next_due = min(self._next_due, float(tick + self._intervals[place]))
        return differs

    def is_due(self, tick: float) -> bool:
        """Whether `pick` may find a user; cheap."""
        return tick >= self._next_due

    def pick(self, most: int, *, tick: float, since: float) -> list[str]:
        """Choose users with events after ``since`` whose lists it is worth most to make again, best first.

        At most ``most`` of them. Their lists count as made now.
        """
        if most < 1 or not self.is_due(tick):
            return []
        used = len(self._names)
        due_at = np.where(
            self._event_times[:used] >= since, self._list_ticks[:used] + self._intervals[:used], np.inf
        )
        places = np.flatnonzero(due_at <= tick)
        if len(places) <= most:  # all that are due now: the next is due later
            due_at[places] = np.inf
            self._next_due = float(due_at.min(initial=np.inf))
        value = refresh_value(tick - self._list_ticks[places], tick - self._event_ticks[places])
        places = places[np.argsort(-value, kind="stable")[:most]]
        self._list_ticks[places] = tick
        if len(places):
            self._next_due = min(self._next_due, float((tick + self._intervals[places]).min()))
        return [self._names[place] for place in places.tolist()]

    def _take_place(self, user_id: str, tick: float) -> int:
        """Find a place for a user, as if a list of nothing known was made at this tick."""
        if self._free:
            place = self._free.pop()
            self._names[place] = user_id
        else:
            place = len(self._names)
            self._names.append(user_id)
            if place >= len(self._event_ticks):
                self._grow(max(1024, 2 * place))
        self._list_ticks[place] = tick
        self._lists[place] = _UNKNOWN
        self._intervals[place] = self._after
        return place

    def _grow(self, places: int) -> None:
        for name in ("_event_ticks", "_list_ticks", "_event_times", "_intervals", "_lists"):
            old = getattr(self, name)
            new = np.zeros((places, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
