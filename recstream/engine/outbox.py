"""Keeps output with its users until its epoch has committed, and finds after a crash what did not."""

from __future__ import annotations

from collections.abc import Callable

from recstream.core.events import Event
from recstream.core.outbox import Barrier, Refusal, Unconfirmed
from recstream.core.profile import Profile
from recstream.core.rejects import Reason
from recstream.core.sessions import Session
from recstream.core.shards import shard_of
from recstream.engine.commits import Commits
from recstream.engine.hot_set import HotSet

__all__ = ["Outbox"]


class Outbox:
    """The outboxes of all users of a worker: see `recstream.core.outbox` for what is in them, and why."""

    def __init__(self, users: HotSet, now: Callable[[], float], *, job: str, shards: int) -> None:
        self.commits = Commits(now)
        self._job = job
        self._users = users
        self._shards = shards
        self._kept: dict[int, dict[str, None]] = {}
        """By barrier, oldest first: users who keep output until it is known that it has committed."""

    def keep(self, profile: Profile, what: Event | Session | None) -> None:
        """Keep what leaves now: an event given up, a closed session, or (None) the user's list."""
        profile.outbox.append(Unconfirmed(self._note(profile), what))

    def refuse(self, profile: Profile, event: Event, reason: Reason) -> Reason:
        """Keep in mind that an event is rejected now; gives why, which stays so when it is read again."""
        where = (event.partition.identity, event.offset)
        before = profile.refused.get(where)
        reason = reason if before is None else before.reason
        profile.refused[where] = Refusal(self._note(profile), reason)
        return reason

    def left_by_an_earlier_run(self, profile: Profile) -> list[Event | Session | None]:
        """Drop what an earlier run of this job surely sent; take out, and give, what it may not have sent.

        What other jobs keep stays as it is.
        """
        if not (profile.outbox or profile.refused):
            return []
        self._drop_confirmed(profile)
        own = [one.what for one in profile.outbox if one.barrier.job == self._job]
        if own:
            profile.outbox = [one for one in profile.outbox if one.barrier.job != self._job]
            self._users.changed(profile.user_id)
        return own

    def let_go(self) -> None:
        """Drop what has surely left by now, from the users and, as they are written, from the store."""
        confirmed = self.commits.confirmed
        for barrier in [barrier for barrier in self._kept if barrier <= confirmed]:
            for user_id in self._kept.pop(barrier):
                profile = self._users.held(user_id)
                if profile is not None and (profile.outbox or profile.refused):
                    self._drop_confirmed(profile)
                    self._users.changed(user_id)

    def _note(self, profile: Profile) -> Barrier:
        number = self.commits.open()
        self._kept.setdefault(number, {})[profile.user_id] = None
        self._users.changed(profile.user_id)
        return Barrier(self._job, number)

    def _drop_confirmed(self, profile: Profile) -> None:
        shard = shard_of(profile.user_id, self._shards)

        def has_left(barrier: Barrier) -> bool:
            return barrier.job == self._job and self.commits.is_confirmed(barrier.number, shard)

        profile.outbox = [one for one in profile.outbox if not has_left(one.barrier)]
        profile.refused = {where: one for where, one in profile.refused.items() if not has_left(one.barrier)}
