"""Events that wait for their item: applied when it arrives, rejected when it does not."""

from __future__ import annotations

import math
from typing import NamedTuple

from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.dataflow.learning import EventLearning
from recstream.dataflow.messages import DueList
from recstream.dataflow.outbox import Outbox
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.timers import Timers
from recstream.dataflow.user_cache import UserCache
from recstream.items.statistics import Interaction
from recstream.records.event import Event, too_many_waiting, unknown_item
from recstream.records.reject import Reason, Reject
from recstream.users.state import UserState

__all__ = ["Settled", "WaitingEvents"]


class Settled(NamedTuple):
    """What came of a user's waiting events."""

    applied: int
    """Events applied, for their item has arrived."""
    due: DueList | None
    interactions: list[Interaction]
    rejects: list[Reject]
    """Events given up."""


_NOTHING = Settled(0, None, [], [])


class WaitingEvents:
    """The waiting events of a worker's users."""

    def __init__(
        self,
        users: UserCache,
        replica: CatalogueReplica,
        timers: Timers,
        outbox: Outbox,
        learning: EventLearning,
        services: Services,
        rules: DataflowRules,
    ) -> None:
        self._users = users
        self._catalogue = replica.catalogue
        self._timers = timers
        self._outbox = outbox
        self._learning = learning
        self._meters = services.meters
        self._now = services.now
        self._steady = services.steady
        self._rules = rules

    def wait(self, user_state: UserState) -> None:
        """Have the user looked at because of the newest of their waiting events."""
        self._timers.wait(user_state.user_id, user_state.waiting[-1:])

    def settle(self, user_id: str) -> Settled:
        """Apply a user's waiting events whose item has arrived, and give up those that waited too long."""
        user_state, rules = self._users.get(user_id), self._rules
        if not user_state.waiting:
            return _NOTHING
        # A replay, in which nothing waits, may meet events that the live job left waiting.
        wait_s = rules.wait_for_item_s if rules.unfinished else math.inf
        applied, given_up = user_state.settle(
            self._catalogue, rules.user_state, now=self._steady(), wait_s=wait_s
        )
        if not (applied or given_up):
            return _NOTHING
        self._meters.add("events_waiting", -(len(applied) + len(given_up)))
        self._users.changed(user_id)
        due = None
        interactions: list[Interaction] = []
        if applied:
            self._meters.add("events_applied", len(applied))
            due = DueList("event", None, self._now())
            for event, item in applied:
                interactions += self._learning.after(event, item, user_state)
            if rules.lists and rules.unfinished:
                self._outbox.keep(user_state, None)
        for event in given_up:
            self._outbox.keep(user_state, event)
        self._timers.stop_waiting(user_id, given_up)
        rejects = [unknown_item(event, rules.wait_for_item_s) for event in given_up]
        return Settled(len(applied), due, interactions, rejects)

    def refuse(self, event: Event, user_state: UserState) -> Reject:
        """Reject an event whose item is unknown and that may not wait for it."""
        rules = self._rules
        reason: Reason = "unknown_item" if rules.wait_for_item_s <= 0.0 else "too_many_waiting"
        reason = self._outbox.keep_refusal(user_state, event, reason)
        if reason == "unknown_item":
            return unknown_item(event, rules.wait_for_item_s)
        return too_many_waiting(event, rules.user_state.max_waiting)

    def forget(self, user_state: UserState) -> None:
        """End the waiting of a user who is erased: what waited was read, so it counts as applied."""
        waiting = user_state.waiting
        self._meters.add("events_waiting", -len(waiting))
        self._meters.add("events_applied", len(waiting))
        self._timers.stop_waiting(user_state.user_id, [one.event for one in waiting])
