"""What goes into one micro-batch of a worker, and what comes of it."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from recstream.dataflow.lists import EncodedList
from recstream.items.codec import ItemRow
from recstream.items.statistics import Interaction
from recstream.ranking.query import Query
from recstream.records.event import Event
from recstream.records.recommendation import Trigger
from recstream.records.reject import Reject
from recstream.users.sessions import Session
from recstream.users.state import AsOf

__all__ = ["BatchResult", "ClosedSession", "DueLists", "EventBatch", "Forgotten"]

DueLists: TypeAlias = dict[str, tuple[Trigger, AsOf | None, float]]
"""Users whose lists are due: why, the event it says it reflects (None: the last), and when that was read."""


class EventBatch(NamedTuple):
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


class BatchResult(NamedTuple):
    """What came of one micro-batch."""

    queries: list[Query]
    """One a user whose list is due (none when lists were made in place)."""
    lists: list[EncodedList | Forgotten]
    """Lists made in place, and users erased between them, in the order of the log."""
    interactions: list[Interaction]
    """What item statistics are still to count."""
    rejects: list[Reject]
    sessions: list[ClosedSession]
    forgotten: list[Forgotten]
