"""Output that left and may have to leave again: what no event of the epoch that made it will bring back.

A list that an event caused is made again when the event is read again after a crash. This is about the
rest: what came of an item's arrival, or of time. It stays with the user until its epoch has surely
committed; a run that finds it unconfirmed sends it again (guarantee G3). Each entry carries the barrier that
commits it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from recstream.records.event import Event
from recstream.records.reject import Reason
from recstream.users.sessions import Session

__all__ = ["Barrier", "Refusal", "Refusals", "Unconfirmed"]


class Barrier(NamedTuple):
    """One commit of one job. Numbers grow with every commit of a job, over its restarts."""

    job: str
    """The live job, or one of the replays into the store: each knows of its own commits alone."""
    number: int


class Unconfirmed(NamedTuple):
    """One output."""

    barrier: Barrier
    """Whose commit confirms it."""
    what: Event | Session | None
    """An event that was given up, a closed session, or (None) the user's list."""


class Refusal(NamedTuple):
    """An event that was rejected although its record is sound, for the state of the user or the catalogue."""

    barrier: Barrier
    reason: Reason


Refusals: TypeAlias = dict[tuple[str, int], Refusal]
"""By partition identity and offset. Read again, such an event is rejected again, not taken for absorbed."""
