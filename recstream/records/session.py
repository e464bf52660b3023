"""Sessions: the published record of a run of a user's events that a silence has closed."""

from __future__ import annotations

import orjson

from recstream.records.schema import NUMBER, SCHEMA_HEADER, STRING, Schema, record_schema
from recstream.records.transport import Message

__all__ = ["session_message", "session_schema"]


def session_message(
    user_id: str, *, start: float, end: float, events: int, actions: dict[str, int], items: list[str]
) -> Message:
    """Give the message of a closed session, keyed by its user.

    ``start`` and ``end`` are event times of its first and last event, Unix seconds. ``actions`` counts its
    events by action, ``items`` are the ids of its items, in order of first appearance. The session's id is
    made of its user and start, so that a closing that is announced twice can be recognised.

    >>> session_message("u1", start=5.0, end=9.0, events=2, actions={"view": 2}, items=["i1"]).value
    b'{"user_id":"u1","session_id":"u1@5.000","start":5.0,"end":9.0,"events":2,"actions":{"view":2},"items":["i1"]}'
    """
    record = {
        "user_id": user_id,
        "session_id": f"{user_id}@{start:.3f}",
        "start": start,
        "end": end,
        "events": events,
        "actions": actions,
        "items": items,
    }
    return Message(user_id.encode(), orjson.dumps(record), (SCHEMA_HEADER,))


def session_schema() -> Schema:
    """Describe a closed session.

    >>> session_schema()["required"]
    ['user_id', 'session_id', 'start', 'end', 'events', 'actions', 'items']
    """
    properties = {
        "user_id": STRING,
        "session_id": STRING | {"description": "The same when a closing is announced again."},
        "start": NUMBER | {"description": "Time of its first event, Unix seconds."},
        "end": NUMBER,
        "events": {"type": "integer", "minimum": 1},
        "actions": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        "items": {"type": "array", "items": STRING, "uniqueItems": True},
    }
    return record_schema("session", "A run of a user's events without a gap.", properties, list(properties))
