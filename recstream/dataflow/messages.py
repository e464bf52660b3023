"""Messages between the steps of the dataflow: micro-batches of events, and what comes of them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from recstream.items.codec import ItemRow
from recstream.items.statistics import Interaction
from recstream.ranking.query import Query
from recstream.records.event import Event
from recstream.records.recommendation import Trigger, recommendation_message
from recstream.records.reject import Reject
from recstream.records.transport import Message
from recstream.users.sessions import Session
from recstream.users.state import AsOf

__all__ = [
    "BatchResult",
    "ClosedSession",
    "DueList",
    "DueLists",
    "EncodedList",
    "EventBatch",
    "Forgotten",
    "ListRequests",
]


class EventBatch(NamedTuple):
    """Decoded events that were read together."""

    received_at: float
    """When they were read, Unix seconds."""
    events: list[Event]
    items: dict[int, ItemRow] = {}  # noqa: RUF012 - a named tuple's default, never changed
    """Items that events carry, encoded, by the offset of the event."""


class DueList(NamedTuple):
    """Why a user's list is to be made."""

    trigger: Trigger
    as_of: AsOf | None
    """The event that the list says it reflects; None: the last one applied."""
    received_at: float
    """When the event that asks for the list was read, Unix seconds."""


DueLists: TypeAlias = dict[str, DueList]
"""Lists to be made, by user, in the order in which they were asked for."""


class EncodedList(NamedTuple):
    """One user's list, as the bytes of its published record."""

    user_id: str
    generation: int
    version: int
    value: bytes

    def message(self) -> Message:
        """Give the list as a message keyed by its user."""
        return recommendation_message(self.user_id, self.generation, self.version, self.value)


class ClosedSession(NamedTuple):
    """A user's session, to be announced."""

    user_id: str
    session: Session


class Forgotten(NamedTuple):
    """A user was erased: whoever holds their list must drop it."""

    user_id: str


class ListRequests(NamedTuple):
    """What one micro-batch asks the ``recommend`` step for."""

    forgotten: list[Forgotten]
    """Users erased in the micro-batch. A list that is due of one of them follows from later events."""
    queries: list[Query]


class BatchResult(NamedTuple):
    """What came of one micro-batch of a worker."""

    queries: list[Query]
    """One for each user whose list is due (none where lists were made in place)."""
    lists: list[EncodedList | Forgotten]
    """Lists made in place, and users erased between them, in the order of the log."""
    interactions: list[Interaction]
    """What item statistics are still to count (none where a log is worked off in its order)."""
    rejects: list[Reject]
    sessions: list[ClosedSession]
    forgotten: list[Forgotten]
