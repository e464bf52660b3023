"""What an earlier run left unfinished in the user shards of a worker, taken up once by this one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from recstream.dataflow.messages import ClosedSession, DueList, DueLists
from recstream.dataflow.outbox import Outbox
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.timers import Timers
from recstream.dataflow.user_cache import UserCache
from recstream.records.event import Event, unknown_item
from recstream.records.reject import Reject
from recstream.users.codec import OPEN_SESSION, UNCONFIRMED, WAITING
from recstream.users.sessions import Session
from recstream.users.state import UserState

__all__ = ["Recovery", "Resent"]


class Resent(NamedTuple):
    """Output of an epoch that did not commit, to be sent again."""

    due: DueLists
    rejects: list[Reject]
    sessions: list[ClosedSession]


class Recovery:
    """Takes up events that wait, output whose epoch may not have committed, and open sessions.

    No event asks for these: their users may never come back by themselves.
    """

    def __init__(
        self, users: UserCache, outbox: Outbox, timers: Timers, services: Services, rules: DataflowRules
    ) -> None:
        self._users = users
        self._outbox = outbox
        self._timers = timers
        self._rules = rules
        self._meters = services.meters
        self._now = services.now
        self._steady = services.steady
        self._shards: dict[int, bool] = {}
        """User shards that the worker owns, and whether what is unfinished in them was looked for."""

    def own_shard(self, shard: int, barrier: int | None) -> None:
        """Note that the worker owns a user shard, and its last committed ``barrier`` (None: it has none)."""
        self._shards.setdefault(shard, not self._rules.unfinished)
        if barrier is not None:
            self._outbox.commits.resume(shard, barrier)

    @property
    def shards(self) -> Collection[int]:
        """User shards that the worker is known to own."""
        return self._shards.keys()

    def owns(self, shard: int) -> bool:
        """Whether the worker is known to own a user shard."""
        return shard in self._shards

    @property
    def is_done(self) -> bool:
        """Whether all shards owned so far were searched."""
        return all(self._shards.values())

    def search_new_shards(self) -> Resent:
        """Take up what is unfinished in the shards that are new to the worker."""
        if self.is_done:
            return Resent({}, [], [])
        new = [shard for shard, is_searched in self._shards.items() if not is_searched]
        self._shards.update(dict.fromkeys(new, True))
        unfinished = self._users.unfinished(new)
        resent = self.load(user_id for user_id, why in unfinished.items() if why & (WAITING | UNCONFIRMED))
        if self._rules.sessions:
            for user_id, why in unfinished.items():
                if why & OPEN_SESSION:
                    self._timers.note_read(user_id, self._steady())
        return resent

    def load(self, user_ids: Iterable[str]) -> Resent:
        """Bring users into memory, and take up what is unfinished of those that were read from the store."""
        resent = Resent({}, [], [])
        for user_state in self._users.load(user_ids):
            for output in self._outbox.take_unconfirmed(user_state):
                self._send_again(user_state, output, resent)
            if user_state.waiting:
                self._wait_on(user_state)
        return resent

    def _wait_on(self, user_state: UserState) -> None:
        now = self._steady()
        # A wall clock that was set back must not make an event wait longer than it may.
        user_state.waiting = [
            one._replace(received_at=min(one.received_at, now)) for one in user_state.waiting
        ]
        self._meters.add("events_waiting", len(user_state.waiting))
        self._meters.add("events_waiting_at_start", len(user_state.waiting))
        self._timers.wait(user_state.user_id, user_state.waiting)
        # An item may have arrived while nobody held the user.
        self._timers.look_at(user_state.user_id, now)

    def _send_again(self, user_state: UserState, output: Event | Session | None, resent: Resent) -> None:
        if isinstance(output, Event):
            kind = "reject"
            resent.rejects.append(unknown_item(output, self._rules.wait_for_item_s))
        elif isinstance(output, Session):
            kind = "session"
            resent.sessions.append(ClosedSession(user_state.user_id, output))
        else:
            kind = "list"
            resent.due[user_state.user_id] = DueList("event", None, self._now())
        self._meters.add("outputs_resent", kind=kind)
        self._outbox.keep(user_state, output)
