"""What goes into one micro-batch of a worker, and what comes of it."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from recstream.core.events import Event
from recstream.core.profile import AsOf
from recstream.core.rejects import Reject
from recstream.core.sessions import Session
from recstream.core.signals import Query, Trigger
from recstream.core.statistics import Touch
from recstream.engine.lists import Listed
from recstream.ports import ItemRow

__all__ = ["ClosedSession", "Dues", "Forgotten", "Received", "Step"]

Dues: TypeAlias = dict[str, tuple[Trigger, AsOf | None, float]]
"""Users whose lists are due: why, the event it says it reflects (None: the last), and when that was read."""


class Received(NamedTuple):
    """Decoded events with the moment they were read (Unix seconds)."""

    at: float
    events: list[Event]
    brought: dict[int, ItemRow] = {}  # noqa: RUF012 - a named tuple's default, never changed
    """Items that events carry along, encoded, by the offset of the event."""


class ClosedSession(NamedTuple):
    """A user's session, to be announced."""

    user_id: str
    session: Session


class Forgotten(NamedTuple):
    """A user was erased: whoever holds their list must drop it."""

    user_id: str


class Step(NamedTuple):
    """What came of one micro-batch."""

    queries: list[Query]
    """One a user whose list is due (none when lists were made in place)."""
    lists: list[Listed | Forgotten]
    """Lists made in place, and users erased between them, in the order of the log."""
    touches: list[Touch]
    """What item statistics are still to count."""
    rejects: list[Reject]
    sessions: list[ClosedSession]
    forgotten: list[Forgotten]
