"""What one event does: to its user's state, to what is learned, and to whose list is due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import assert_never

from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.dataflow.idle_refresh.refresh import IdleRefresh
from recstream.dataflow.learning import EventLearning
from recstream.dataflow.messages import DueList, EventBatch
from recstream.dataflow.model_state.model_state import ModelState
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.user_cache import UserCache
from recstream.dataflow.waiting import WaitingEvents
from recstream.items.statistics import Interaction
from recstream.records.actions import TRAITS
from recstream.records.event import Event
from recstream.records.reject import Reject
from recstream.users.state import AsOf, Outcome, UserState

__all__ = ["Applied", "EventApplication"]


class Applied(NamedTuple):
    """What came of an event, besides the change of its user's state."""

    outcome: Outcome
    due: DueList | None = None
    """The list that the event asks for; of one absorbed before, only if none is due anyway."""
    interactions: Sequence[Interaction] = ()
    reject: Reject | None = None
    is_erasure: bool = False
    """Whether the user was erased, now or when the event was first read: their list must be dropped."""


_DUPLICATE = Applied(Outcome.DUPLICATE)
_WAITING = Applied(Outcome.WAITING)


class EventApplication:
    """Applies events to the users, items and models of one worker."""

    def __init__(
        self,
        users: UserCache,
        replica: CatalogueReplica,
        models: ModelState,
        learning: EventLearning,
        waiting: WaitingEvents,
        idle_refresh: IdleRefresh | None,
        services: Services,
        rules: DataflowRules,
    ) -> None:
        self._users = users
        self._replica = replica
        self._models = models
        self._learning = learning
        self._waiting = waiting
        self._idle_refresh = idle_refresh
        self._steady = services.steady
        self._rules = rules
        self._actions = rules.user_state.decode.actions

    def apply(self, event: Event, batch: EventBatch) -> Applied:
        """Apply one event of a batch. Its user is in memory.

        What its action does to the state is in `recstream.users.state`.
        """
        traits = TRAITS[self._actions[event.action].kind]
        user_state = self._users.get(event.user_id)
        match traits.effect:
            case "state":
                return self._change(event, batch, user_state, asks_for_list=traits.asks_for_list)
            case "list":
                return self._request(event, batch, user_state)
            case "erasure":
                return self._erase(event, batch, user_state)
            case _:
                assert_never(traits.effect)

    def _change(
        self, event: Event, batch: EventBatch, user_state: UserState, *, asks_for_list: bool
    ) -> Applied:
        examined = user_state.examine(event)
        if examined.outcome is None:
            self._learning.before(event, user_state)  # the item that the event carries is not known yet
        if event.item is not None:
            self._take_item(event, batch)
        if self._idle_refresh is not None:
            self._idle_refresh.note_event(event)
        # A waiting time begins now, not when the event was read: a worker's first batch waits for its model.
        outcome = user_state.take(
            event, examined, self._replica.catalogue, self._rules.user_state, self._steady()
        )
        if outcome is Outcome.APPLIED:
            self._users.changed(event.user_id)
            due = DueList("event", None, batch.received_at) if asks_for_list else None
            item = None if event.item_id is None else self._replica.catalogue.handle(event.item_id)
            if item is None:
                return Applied(outcome, due)
            return Applied(outcome, due, self._learning.after(event, item, user_state))
        if outcome is Outcome.ABSORBED:
            return Applied(outcome, DueList("event", None, batch.received_at))
        if outcome is Outcome.REFUSED:
            return Applied(outcome, reject=self._waiting.refuse(event, user_state))
        self._users.changed(event.user_id)
        if outcome is Outcome.WAITING:
            self._waiting.wait(user_state)
            return _WAITING
        return _DUPLICATE

    def _request(self, event: Event, batch: EventBatch, user_state: UserState) -> Applied:
        if event.item is not None:
            self._take_item(event, batch)
        if self._idle_refresh is not None:
            self._idle_refresh.note_event(event)
        position: AsOf | None = AsOf(event.ts, event.partition.name, event.offset)
        if user_state.as_of is not None and user_state.has_read_beyond(event):
            position = None  # replayed after a crash: the list says how far the state is
        return Applied(Outcome.APPLIED, DueList("request", position, batch.received_at))

    def _erase(self, event: Event, batch: EventBatch, user_state: UserState) -> Applied:
        if user_state.absorbed(event):
            # Its tombstone may have been lost in the crash that has it read again. The tombstone drops the
            # list of a user who came back since, so that list follows it.
            due = None if user_state.as_of is None else DueList("event", None, batch.received_at)
            return Applied(Outcome.ABSORBED, due, is_erasure=True)
        self._waiting.forget(user_state)
        self._users.forget(event)
        self._models.sessions.forget(event.user_id)
        self._models.replay_buffer.forget()
        if self._idle_refresh is not None:
            self._idle_refresh.forget(event.user_id)
        return Applied(Outcome.APPLIED, is_erasure=True)

    def _take_item(self, event: Event, batch: EventBatch) -> None:
        """Take in the item that the event carries, so that the event need not wait for it.

        The item is written by its shard's owner, where it arrives through the stream of items. In a log
        worked off in its order that is here, for the item must not be known before its event.
        """
        row = batch.items[event.offset]
        if self._rules.in_order:
            self._replica.put(row)
        else:
            self._replica.put_carried(row)
