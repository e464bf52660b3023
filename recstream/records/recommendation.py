"""Recommendations: a user's list as it is published, and the tombstone of a user who was forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, get_args

import orjson

from recstream.records.schema import (
    COUNT,
    NUMBER,
    SCHEMA_HEADER,
    STRING,
    Schema,
    object_schema,
    record_schema,
)
from recstream.records.transport import Message

__all__ = [
    "ListedItem",
    "Trigger",
    "encode_recommendation",
    "recommendation_message",
    "recommendation_schema",
    "tombstone",
    "tombstone_line",
]

Trigger = Literal["event", "request", "drift"]
"""Why a list is made: the user did something, asked for it, or was away while the catalogue changed."""

_DECIMALS: Final = 6
"""Digits after the point of scores and of ``generated_at``."""


ListedItem: TypeAlias = tuple[str, float, dict[str, float], list[str]]
"""An item's id, its score, what the score is made of by the signal's name, and the ids of the user's items
that caused it."""


def encode_recommendation(
    items: Iterable[ListedItem],
    *,
    user_id: str,
    generation: int,
    version: int,
    generated_at: float,
    as_of: tuple[float, str, int],
    trigger: Trigger,
    encoder: str,
    catalogue: int,
) -> bytes:
    """Write the record of a list, the best of its ``items`` first.

    ``generation`` is that of the store, ``version`` that of the user's state; ``as_of`` is the event time,
    partition and offset of the last event in it. ``catalogue`` is the version of the item table. Times are in
    Unix seconds.

    >>> jazz = ("i7", 0.8300000001, {"short_term": 0.83}, ["i3"])
    >>> record = encode_recommendation(
    ...     [jazz], user_id="u1", generation=1700000000000, version=42, generated_at=5.0,
    ...     as_of=(4.0, "events/3", 9), trigger="event", encoder="hashing", catalogue=318)
    >>> orjson.loads(record)["items"]
    [{'item_id': 'i7', 'rank': 1, 'score': 0.83, 'signals': {'short_term': 0.83}, 'because': ['i3']}]
    """
    ts, partition, offset = as_of
    record = {
        "user_id": user_id,
        "generation": generation,
        "version": version,
        "generated_at": round(generated_at, _DECIMALS),
        "as_of": {"ts": ts, "partition": partition, "offset": offset},
        "trigger": trigger,
        "items": [
            {
                "item_id": item_id,
                "rank": rank,
                "score": round(score, _DECIMALS),
                "signals": signals,
                "because": because,
            }
            for rank, (item_id, score, signals, because) in enumerate(items, start=1)
        ],
        "model": {"encoder": encoder, "catalogue": catalogue},
    }
    return orjson.dumps(record)


def recommendation_message(user_id: str, generation: int, version: int, record: bytes) -> Message:
    """Give the message of a list: keyed by its user, with what orders lists in headers as well.

    >>> recommendation_message("u1", 1700000000000, 42, b"{}").headers[:2]
    (('recstream-generation', b'1700000000000'), ('recstream-version', b'42'))
    """
    headers = (
        ("recstream-generation", str(generation).encode()),
        ("recstream-version", str(version).encode()),
        SCHEMA_HEADER,
    )
    return Message(user_id.encode(), record, headers)


def tombstone(user_id: str) -> Message:
    """Give the message that deletes a user's list: a null value, by which compaction drops the list."""
    return Message(user_id.encode(), None, (SCHEMA_HEADER,))


def tombstone_line(key: bytes) -> bytes:
    """Give the line of a file that stands for the tombstone under a user's key.

    >>> tombstone_line(b"u1")
    b'{"user_id":"u1","deleted":true}'
    """
    return orjson.dumps({"user_id": key.decode(), "deleted": True})


def recommendation_schema() -> Schema:
    """Describe a recommendation list as it is emitted.

    >>> recommendation_schema()["properties"]["trigger"]["enum"]
    ['event', 'request', 'drift']
    """
    entry = object_schema(
        {
            "item_id": STRING,
            "rank": {"type": "integer", "minimum": 1},
            "score": NUMBER,
            "signals": {
                "description": "What the score is made of, by the signal's name.",
                "type": "object",
                "additionalProperties": NUMBER,
            },
            "because": {
                "description": "The user's items that caused this one.",
                "type": "array",
                "items": STRING,
            },
        }
    )
    properties = {
        "user_id": STRING,
        "generation": COUNT
        | {
            "description": "When the store was made, Unix milliseconds. A new store counts versions anew. "
            "Absent in lists of releases before it: 0."
        },
        "version": COUNT | {"description": "Grows by one with every change of the user's state."},
        "generated_at": NUMBER | {"description": "Unix seconds."},
        "as_of": object_schema({"ts": NUMBER, "partition": STRING, "offset": COUNT})
        | {"description": "The last event of this user that the list reflects; no later one has touched it."},
        "trigger": {"enum": list(get_args(Trigger))},
        "items": {"type": "array", "items": entry},
        "model": object_schema({"encoder": STRING, "catalogue": COUNT}),
    }
    description = (
        "A user's list. The message's key is user_id; its headers are recstream-generation and "
        "recstream-version (in decimal) and recstream-schema. Keep the list with the greatest (generation, "
        "version, generated_at); a null value means that the user was forgotten."
    )
    required = [name for name in properties if name != "generation"]
    return record_schema("recommendation", description, properties, required)
