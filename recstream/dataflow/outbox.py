"""Output kept with its users until its epoch has committed; what had not is found after a crash."""

from __future__ import annotations

from collections.abc import Callable

from recstream.dataflow.user_cache import UserCache
from recstream.records.event import Event
from recstream.records.reject import Reason
from recstream.records.transport import shard_of
from recstream.users.sessions import Session
from recstream.users.state import Barrier, Refusal, Unconfirmed, UserState

__all__ = ["Commits", "Outbox"]


class Outbox:
    """The outboxes of all users of a worker: see `recstream.users.state.Unconfirmed`."""

    def __init__(self, users: UserCache, now: Callable[[], float], *, job: str, shards: int) -> None:
        self.commits = Commits(now)
        self._job = job
        self._users = users
        self._shards = shards
        self._kept: dict[int, dict[str, None]] = {}
        """By barrier, oldest first: users who keep output until it is known that it has committed."""

    def keep(self, user_state: UserState, output: Event | Session | None) -> None:
        """Keep output that is emitted now: an event given up, a closed session, or (None) the user's list."""
        user_state.outbox.append(Unconfirmed(self._next_barrier(user_state), output))

    def keep_refusal(self, user_state: UserState, event: Event, reason: Reason) -> Reason:
        """Keep that an event is rejected now; gives the reason, which stays when the event is read again."""
        where = (event.partition.identity, event.offset)
        before = user_state.refused.get(where)
        reason = reason if before is None else before.reason
        user_state.refused[where] = Refusal(self._next_barrier(user_state), reason)
        return reason

    def take_unconfirmed(self, user_state: UserState) -> list[Event | Session | None]:
        """Take out the output that an earlier run of this job may not have sent.

        What it surely sent is dropped. Output of other jobs stays.
        """
        if not (user_state.outbox or user_state.refused):
            return []
        self._drop_confirmed(user_state)
        own = [one.what for one in user_state.outbox if one.barrier.job == self._job]
        if own:
            user_state.outbox = [one for one in user_state.outbox if one.barrier.job != self._job]
            self._users.changed(user_state.user_id)
        return own

    def drop_confirmed(self) -> None:
        """Drop the output whose epoch has committed, from users and, as these are written, from the store."""
        confirmed = self.commits.confirmed
        for barrier in [barrier for barrier in self._kept if barrier <= confirmed]:
            for user_id in self._kept.pop(barrier):
                user_state = self._users.find(user_id)
                if user_state is not None and (user_state.outbox or user_state.refused):
                    self._drop_confirmed(user_state)
                    self._users.changed(user_id)

    def _next_barrier(self, user_state: UserState) -> Barrier:
        number = self.commits.open()
        self._kept.setdefault(number, {})[user_state.user_id] = None
        self._users.changed(user_state.user_id)
        return Barrier(self._job, number)

    def _drop_confirmed(self, user_state: UserState) -> None:
        shard = shard_of(user_state.user_id, self._shards)

        def is_out(barrier: Barrier) -> bool:
            return barrier.job == self._job and self.commits.is_confirmed(barrier.number, shard)

        user_state.outbox = [one for one in user_state.outbox if not is_out(one.barrier)]
        user_state.refused = {
            where: one for where, one in user_state.refused.items() if not is_out(one.barrier)
        }


class Commits:
    """Numbers of barriers, growing over restarts, and which of them have committed.

    Bytewax begins no epoch before the earlier ones have committed. So when a second barrier is reached, the
    first has committed. The last one that the run before committed is what bytewax resumes a shard from: the
    number of the barrier is in the shard's snapshot.

    >>> commits = Commits(now=lambda: 1.0)
    >>> first = commits.open()
    >>> commits.close() == first, commits.is_confirmed(first, shard=0)
    (True, False)
    >>> _ = commits.open(), commits.close(), commits.open()
    >>> commits.is_confirmed(first, shard=0)
    True
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._number = self._first = int(now() * 1e9)
        self._is_open = True
        self._has_output = False
        self._closed = [-1, -1]
        self._resumed: dict[int | None, int] = {}

    def resume(self, shard: int | None, barrier: int) -> None:
        """Note the last barrier that an earlier run committed for a shard (None: for all of them)."""
        self._resumed[shard] = barrier
        if barrier >= self._number:  # the clock was set back in between
            self._number = barrier + 1
            if not self._has_output:
                self._first = self._number

    def open(self) -> int:
        """Give the number of the barrier that commits what is made now."""
        if not self._is_open:
            self._number = max(self._number + 1, int(self._now() * 1e9))
            self._is_open = True
        self._has_output = True
        return self._number

    def close(self) -> int:
        """Note that the barrier is reached; gives its number, the same to all shards that reach it."""
        if self._is_open:
            self._is_open = False
            self._closed = [self._closed[-1], self._number]
        return self._number

    @property
    def confirmed(self) -> int:
        """Greatest number of this run that has surely committed; -1: none has."""
        return self._closed[0]

    def is_confirmed(self, barrier: int, shard: int) -> bool:
        """Whether the output made before a barrier is known to be committed."""
        if barrier >= self._first:
            return barrier <= self.confirmed
        return barrier <= max(self._resumed.get(shard, -1), self._resumed.get(None, -1))
