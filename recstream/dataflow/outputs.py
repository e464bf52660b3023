"""The last steps: lists, tombstones, sessions and dead letters become keyed messages and go to the sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.inputs import Source
from bytewax.operators import KeyedStream
from bytewax.outputs import FixedPartitionedSink

from recstream.connectors.base import MessageSink
from recstream.dataflow.messages import ClosedSession, EncodedList, Forgotten
from recstream.dataflow.worker import Worker
from recstream.records.dead_letter import dead_letter_message
from recstream.records.recommendation import tombstone
from recstream.records.reject import Reject
from recstream.records.session import session_message
from recstream.records.transport import Message, RawBatch

__all__ = [
    "Inputs",
    "Outputs",
    "dead_letters",
    "emit",
    "list_messages",
    "none_of",
    "session_messages",
]

X = TypeVar("X")
Messages: TypeAlias = KeyedStream[Message]


def emit(step_id: str, messages: Messages, sink: MessageSink) -> None:
    """End a stream in a sink; dynamic sinks get the messages alone, for they carry their key."""
    if isinstance(sink, FixedPartitionedSink):
        op.output(step_id, messages, sink)
    else:
        op.output(step_id, op.key_rm(f"{step_id}_key_rm", messages), sink)


@operator
def list_messages(step_id: str, lists: Stream[EncodedList | Forgotten]) -> Messages:
    """Key each list by its user, and a null value by every erased user, in their order."""
    return op.map("message", lists, _list_message)


def _list_message(one: EncodedList | Forgotten) -> tuple[str, Message]:
    return one.user_id, tombstone(one.user_id) if isinstance(one, Forgotten) else one.message()


@operator
def session_messages(step_id: str, sessions: Stream[ClosedSession], worker: Callable[[], Worker]) -> Messages:
    """Key each closed session by its user."""

    def shim(closed: ClosedSession) -> tuple[str, Message]:
        ids = worker().replica.catalogue.ids
        start, end, events, actions, items = closed.session
        return closed.user_id, session_message(
            closed.user_id,
            start=start,
            end=end,
            events=events,
            actions=actions,
            items=[ids[item] for item in items],
        )

    return op.map("message", sessions, shim)


@operator
def dead_letters(step_id: str, rejects: Stream[Reject], now: Callable[[], float]) -> Messages:
    """Write each reject as a record, keyed by the name of its source partition."""

    def shim(reject: Reject) -> tuple[str, Message]:
        return reject.partition.name, dead_letter_message(reject, at=now())

    return op.map("message", rejects, shim)


@operator
def none_of(step_id: str, up: Stream[X]) -> Stream[Reject]:
    """Consume a stream that has nothing for the outputs: every stream must end in one."""

    def shim(_: X) -> Iterable[Reject]:
        return ()

    return op.flat_map("drop", up, shim)


@dataclass(frozen=True)
class Inputs:
    """Where records come from."""

    events: Source[RawBatch]
    items: Source[RawBatch] | None = None


@dataclass(frozen=True)
class Outputs:
    """Where results go: sinks of messages, or of ``(key, message)`` pairs if they are partitioned."""

    lists: MessageSink
    rejects: MessageSink
    sessions: MessageSink | None = None
