"""What an earlier run left unfinished in the user shards of a worker, taken up once by this one."""

from __future__ import annotations

from collections.abc import Iterable

from recstream.dataflow.messages import BatchResult, ClosedSession, DueLists
from recstream.dataflow.outbox import Outbox
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.timers import Timers
from recstream.dataflow.user_cache import UserCache
from recstream.records.event import Event, unknown_item
from recstream.users.codec import OPEN_SESSION, UNCONFIRMED, WAITING
from recstream.users.sessions import Session
from recstream.users.state import UserState

__all__ = ["Recovery"]


class Recovery:
    """Events that wait, output whose epoch may not have committed, open sessions: no event asks for them."""

    def __init__(
        self, users: UserCache, outbox: Outbox, timers: Timers, services: Services, rules: DataflowRules
    ) -> None:
        self._users = users
        self._outbox = outbox
        self._agenda = timers
        self._rules = rules
        self._meters = services.meters
        self._now = services.now
        self._steady = services.steady
        self._adopted: dict[int, bool] = {}
        """User shards that the worker owns, and whether what is unfinished in them was looked for."""

    def adopt(self, shard: int, barrier: int | None) -> None:
        """Note that the worker owns a user shard, and its last committed ``barrier`` (None: it has none)."""
        self._adopted.setdefault(shard, not self._rules.unfinished)
        if barrier is not None:
            self._outbox.commits.resume(shard, barrier)

    def owns(self, shard: int) -> bool:
        """Whether the worker is known to own a user shard."""
        return shard in self._adopted

    @property
    def is_taken_up(self) -> bool:
        """Whether all shards adopted so far were looked through."""
        return all(self._adopted.values())

    def take_up(self, done: BatchResult, due: DueLists) -> None:
        """Look through the shards that are new to the worker."""
        if self.is_taken_up:
            return
        new = [shard for shard, looked in self._adopted.items() if not looked]
        self._adopted.update(dict.fromkeys(new, True))
        unfinished = self._users.unfinished(new)
        wanted = [user_id for user_id, why in unfinished.items() if why & (WAITING | UNCONFIRMED)]
        self.load(wanted, done, due)
        if self._rules.sessions:
            for user_id, why in unfinished.items():
                if why & OPEN_SESSION:
                    self._agenda.hear(user_id, self._steady())

    def load(self, user_ids: Iterable[str], done: BatchResult, due: DueLists) -> None:
        """Bring users into memory, and take up what is unfinished of those that were read from the store."""
        for user_state in self._users.load(user_ids):
            for what in self._outbox.left_by_an_earlier_run(user_state):
                self._send_again(user_state, what, done, due)
            if user_state.waiting:
                self._wait_on(user_state)

    def _wait_on(self, user_state: UserState) -> None:
        now = self._steady()
        # A wall clock that was set back must not make an event wait longer than it may.
        user_state.waiting = [
            one._replace(received_at=min(one.received_at, now)) for one in user_state.waiting
        ]
        self._meters.add("events_waiting", len(user_state.waiting))
        self._meters.add("events_waiting_at_start", len(user_state.waiting))
        self._agenda.wait(user_state.user_id, user_state.waiting)
        # An item may have arrived while nobody held the user.
        self._agenda.look_at(user_state.user_id, now)

    def _send_again(
        self, user_state: UserState, what: Event | Session | None, done: BatchResult, due: DueLists
    ) -> None:
        """Send what an earlier run made in an epoch that did not commit."""
        if isinstance(what, Event):
            kind = "reject"
            done.rejects.append(unknown_item(what, self._rules.wait_for_item_s))
        elif isinstance(what, Session):
            kind = "session"
            done.sessions.append(ClosedSession(user_state.user_id, what))
        else:
            kind = "list"
            due[user_state.user_id] = ("event", None, self._now())
        self._meters.add("outputs_resent", kind=kind)
        self._outbox.keep(user_state, what)
