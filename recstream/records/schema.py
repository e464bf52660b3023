"""Schemas: the published records as JSON Schema (draft 2020-12), made from the constants that decode them.

What a schema cannot say stands in its descriptions: bounds are in UTF-8 bytes (``maxLength`` counts
characters), a text must hold something legible once cleaned, a day must be on the calendar, an event must
not lie in the future, and whole numbers are written without a fraction.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, get_args

from recstream.records.actions import MAX_ID_BYTES, TRAITS, DecodeRules, Kind
from recstream.records.checks import EARLIEST, MAX_SECONDS
from recstream.records.reject import Reason

__all__ = [
    "SCHEMA_VERSION",
    "Schema",
    "all_schemas",
    "event_schema",
    "item_schema",
    "recommendation_schema",
    "reject_schema",
    "session_schema",
]

Schema: TypeAlias = dict[str, Any]

SCHEMA_VERSION: Final = "1"
"""Layout of the records; the header ``recstream-schema`` of what leaves. Grows with breaking changes."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DATE: Final = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,12})?"
_PARTIAL_DATE: Final = r"^(\s*|0000-00(-00)?|(?!0000)[0-9]{4}(-(0[0-9]|1[0-2])(-00)?)?)$"
_ZONE: Final = "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"


def _record(title: str, description: str, properties: Schema, required: list[str]) -> Schema:
    return {
        "$schema": _DIALECT,
        "$id": f"urn:recstream:{title}:{SCHEMA_VERSION}",
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _optional(schema: Schema) -> Schema:
    """Allow null, which counts as absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def _id(description: str) -> Schema:
    """Schema of an id that is read: a string, or an integer taken as its digits."""
    return {
        "description": f"{description} At most {MAX_ID_BYTES} bytes of UTF-8; integers count as digits.",
        "anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}, {"type": "integer"}],
    }


def _instant(*, earliest: float, dates: bool) -> Schema:
    time = f"[Tt ]{_TIME}{_ZONE}"
    day = r"(?!0000)" if dates else r"(?!0|1[0-8]|19[0-5]|196[0-8]|1969-(?!12-31))"
    return {
        "description": "Unix seconds, or RFC 3339 with an offset."
        + (" A bare date is its midnight UTC." * dates),
        "anyOf": [
            {"type": "number", "minimum": max(earliest, -MAX_SECONDS), "maximum": MAX_SECONDS},
            {"type": "string", "pattern": f"^{day}{_DATE}({time}){'?' if dates else ''}$", "maxLength": 64},
        ],
    }


def event_schema(rules: DecodeRules | None = None) -> Schema:
    """Describe an event record under these rules (the default ones when None).

    >>> schema = event_schema()
    >>> schema["required"], schema["properties"]["action"]["enum"][:2]
    (['user_id', 'ts', 'action'], ['view', 'click'])
    """
    rules = DecodeRules() if rules is None else rules
    low, high = rules.rating_scale
    rating = {"type": "number", "minimum": low, "maximum": high}
    named = {"required": ["item_id"], "properties": {"item_id": {"not": {"type": "null"}}}}
    brought = {"required": ["item"], "properties": {"item": {"type": "object"}}}
    text = {
        "description": f"A search query, comment or review; at most {rules.max_text_bytes} bytes of UTF-8.",
        "type": "string",
        "maxLength": rules.max_text_bytes,
    }
    schema = _record(
        "event",
        "What a user did. Null counts as absent; fields not named here are ignored. Longest record: "
        f"{rules.max_record_bytes} bytes. ts at most {rules.future_tolerance_s:g} s ahead of the reader.",
        {
            "user_id": _id("Who."),
            "ts": _instant(earliest=0.0, dates=False),
            "action": {"enum": list(rules.actions)},
            "event_id": _optional(_id("For de-duplication; without it the source position is the identity.")),
        },
        ["user_id", "ts", "action"],
    )
    schema["allOf"] = [
        _when(
            rules,
            [kind for kind, traits in TRAITS.items() if traits.effect != "erasure"],
            {
                "properties": {
                    "item_id": _optional(
                        _id("On what; taken from `item` when absent, the same where both are there.")
                    ),
                    "item": _optional(_item_body(rules)),
                    "text": _optional(text),
                    "rec": _optional(_REC),
                }
            },
        ),
        _when(
            rules,
            [kind for kind, traits in TRAITS.items() if traits.needs_item],
            {"anyOf": [named, brought]},
        ),
        _when(
            rules,
            [kind for kind, traits in TRAITS.items() if traits.needs_text],
            {"required": ["text"], "properties": {"text": text | {"minLength": 1, "pattern": r"\S"}}},
        ),
        _when(
            rules,
            [kind for kind, traits in TRAITS.items() if traits.rating == "needed"],
            {"required": ["rating"], "properties": {"rating": rating}},
        ),
        _when(
            rules,
            [kind for kind, traits in TRAITS.items() if traits.rating == "optional"],
            {"properties": {"rating": _optional(rating)}},
        ),
    ]
    return schema


_REC: Final[Schema] = {
    "description": "Which emitted list, and which place on it, the event answers.",
    "type": "object",
    "properties": {
        "version": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "rank": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    },
    "required": ["version", "rank"],
}


def _when(rules: DecodeRules, kinds: list[Kind], then: Schema) -> Schema:
    """Ask for more from the actions of some kinds."""
    names = [name for name, action in rules.actions.items() if action.kind in kinds]
    return {"if": {"properties": {"action": {"enum": names}}, "required": ["action"]}, "then": then}


def item_schema(rules: DecodeRules | None = None) -> Schema:
    """Describe an item record under these rules (the default ones when None).

    >>> item_schema()["required"]
    ['item_id']
    """
    body = _item_body(DecodeRules() if rules is None else rules)
    schema = _record("item", body.pop("description"), body.pop("properties"), body.pop("required"))
    return schema | body


def _item_body(rules: DecodeRules) -> Schema:
    labels = {
        "anyOf": [
            {
                "type": "array",
                "items": {"type": "string", "maxLength": MAX_ID_BYTES},
                "maxItems": rules.max_labels,
            },
            {"type": "string", "maxLength": MAX_ID_BYTES},
        ]
    }
    vector: Schema = {"type": "null"}
    if rules.dim:
        numbers = {"type": "array", "items": {"type": "number"}, "minItems": rules.dim, "maxItems": rules.dim}
        vector = _optional(numbers | {"contains": {"not": {"const": 0}}})
    flag = _optional({"type": "boolean"})
    return {
        "description": "What can be recommended. Of a deleted item only `item_id` is read.",
        "type": "object",
        "properties": {"item_id": _id("Which item."), "deleted": flag},
        "required": ["item_id"],
        "if": {"properties": {"deleted": {"const": True}}, "required": ["deleted"]},
        "else": {
            "required": ["title"],
            "properties": {
                "title": {
                    "type": "string",
                    "minLength": 1,
                    "pattern": r"\S",
                    "maxLength": rules.max_text_bytes,
                },
                "text": _optional({"type": "string", "maxLength": rules.max_item_text_bytes}),
                "categories": _optional(labels),
                "tags": _optional(labels),
                "attributes": {"description": "Anything; not read."},
                "published_at": _optional(
                    {
                        "description": "Unix seconds, RFC 3339, a date, or a date with zeros for what is "
                        "not known; an empty text is like none.",
                        "anyOf": [
                            *_instant(earliest=EARLIEST, dates=True)["anyOf"],
                            {"type": "string", "pattern": _PARTIAL_DATE},
                        ],
                    }
                ),
                "available": flag,
                "vector": vector,
            },
        },
    }


_STRING: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def recommendation_schema() -> Schema:
    """Describe a recommendation list as it is emitted.

    >>> recommendation_schema()["properties"]["trigger"]["enum"]
    ['event', 'request', 'drift']
    """
    entry = _object(
        {
            "item_id": _STRING,
            "rank": {"type": "integer", "minimum": 1},
            "score": _NUMBER,
            "signals": {
                "description": "What the score is made of, by the signal's name.",
                "type": "object",
                "additionalProperties": _NUMBER,
            },
            "because": {
                "description": "The user's items that caused this one.",
                "type": "array",
                "items": _STRING,
            },
        }
    )
    properties = {
        "user_id": _STRING,
        "version": _COUNT | {"description": "Grows by one with every change of the user's state."},
        "generated_at": _NUMBER | {"description": "Unix seconds."},
        "as_of": _object({"ts": _NUMBER, "partition": _STRING, "offset": _COUNT})
        | {"description": "The last event of this user that the list reflects; no later one has touched it."},
        "trigger": {"enum": ["event", "request", "drift"]},
        "items": {"type": "array", "items": entry},
        "model": _object({"encoder": _STRING, "catalogue": _COUNT}),
    }
    description = (
        "A user's list. The message's key is user_id; its headers are recstream-version (the version in "
        "decimal) and recstream-schema. Keep the list with the greatest (version, generated_at); a null "
        "value means that the user was forgotten."
    )
    return _record("recommendation", description, properties, list(properties))


def reject_schema() -> Schema:
    """Describe a record of the dead-letter output.

    >>> "not_json" in reject_schema()["properties"]["reason"]["enum"]
    True
    """
    properties = {
        "reason": {"enum": list(get_args(Reason))},
        "detail": _STRING | {"description": "What is wrong, where, got, wanted, and how to mend it."},
        "source": _object({"partition": _STRING, "offset": _COUNT}),
        "raw": _STRING | {"description": "The record as it was read, or its beginning (raw_bytes)."},
        "at": _NUMBER | {"description": "When it was rejected, Unix seconds."},
    }
    required = list(properties)
    properties["raw_encoding"] = {
        "description": "There when `raw` is no UTF-8 and so given as base64.",
        "const": "base64",
    }
    properties["raw_bytes"] = {
        "description": "There when `raw` is only the beginning: length of the record, which is at source.",
        "type": "integer",
        "minimum": 1,
    }
    return _record("reject", "One record that was not applied.", properties, required)


def session_schema() -> Schema:
    """Describe a closed session.

    >>> session_schema()["required"]
    ['user_id', 'session_id', 'start', 'end', 'events', 'actions', 'items']
    """
    properties = {
        "user_id": _STRING,
        "session_id": _STRING | {"description": "The same when a closing is announced again."},
        "start": _NUMBER | {"description": "Time of its first event, Unix seconds."},
        "end": _NUMBER,
        "events": {"type": "integer", "minimum": 1},
        "actions": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        "items": {"type": "array", "items": _STRING, "uniqueItems": True},
    }
    return _record("session", "A run of a user's events without a gap.", properties, list(properties))


def all_schemas(rules: DecodeRules | None = None) -> dict[str, Schema]:
    """Give every published schema by name.

    >>> list(all_schemas())
    ['event', 'item', 'recommendation', 'reject', 'session']
    """
    return {
        "event": event_schema(rules),
        "item": item_schema(rules),
        "recommendation": recommendation_schema(),
        "reject": reject_schema(),
        "session": session_schema(),
    }
