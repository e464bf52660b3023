"""The published records as JSON Schema (draft 2020-12): building blocks, and all schemas by name.

A record's own schema stands beside the code that decodes or writes it, and is made from the same constants.
What a schema cannot say stands in its descriptions: bounds are in UTF-8 bytes (``maxLength`` counts
characters), a text must hold something legible once cleaned, a day must be on the calendar, an event must
not lie in the future, and a whole number that is written with a fraction (``17.0``) lies below 2**53.
Of an item more is accepted than its schema says: what cannot be read of an optional field is left out.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from recstream.records.actions import MAX_ID_BYTES, DecodeRules
from recstream.records.checks import MAX_SECONDS

__all__ = [
    "COUNT",
    "NUMBER",
    "SCHEMA_HEADER",
    "SCHEMA_VERSION",
    "STRING",
    "Schema",
    "all_schemas",
    "id_schema",
    "object_schema",
    "optional",
    "record_schema",
    "time_schema",
]

Schema: TypeAlias = dict[str, Any]

SCHEMA_VERSION: Final = "1"
"""Layout of the published records. It grows with every breaking change."""
SCHEMA_HEADER: Final = ("recstream-schema", SCHEMA_VERSION.encode())
"""Header of the messages that recstream writes."""

STRING: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MONTH: Final = "(0[1-9]|1[0-2])"
_DAY: Final = "(0[1-9]|[12][0-9]|3[01])"
_DATE: Final = f"[0-9]{{4}}(-{_MONTH}-{_DAY}|{_MONTH}{_DAY})"
_HOUR: Final = "([01][0-9]|2[0-3])"
_MINUTE: Final = "[0-5][0-9]"
_SECOND: Final = r"([0-5][0-9]|60)([.,][0-9]{1,12})?"
_TIME: Final = f"{_HOUR}(:{_MINUTE}(:{_SECOND})?|{_MINUTE}({_SECOND})?)?"
_ZONE: Final = f" ?([Zz]|UTC|GMT|[+-]{_HOUR}(:?{_MINUTE}(:?{_MINUTE})?)?)(\\[[!-Z^-~]{{1,40}}\\])?"


def all_schemas(rules: DecodeRules | None = None) -> dict[str, Schema]:
    """Give every published schema by name.

    >>> list(all_schemas())
    ['event', 'item', 'recommendation', 'reject', 'session']
    """
    # Imported here because each of them imports this module.
    from recstream.records.dead_letter import reject_schema
    from recstream.records.event import event_schema
    from recstream.records.item import item_schema
    from recstream.records.recommendation import recommendation_schema
    from recstream.records.session import session_schema

    return {
        "event": event_schema(rules),
        "item": item_schema(rules),
        "recommendation": recommendation_schema(),
        "reject": reject_schema(),
        "session": session_schema(),
    }


def record_schema(title: str, description: str, properties: Schema, required: list[str]) -> Schema:
    """Describe a record, an object of which some properties are required."""
    return {
        "$schema": _DIALECT,
        "$id": f"urn:recstream:{title}:{SCHEMA_VERSION}",
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
    }


def object_schema(properties: Schema) -> Schema:
    """Describe an object inside a record that has all of its properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def optional(schema: Schema) -> Schema:
    """Allow null, which counts as absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def id_schema(description: str) -> Schema:
    """Describe an id that is read: a string, or a whole number taken as its digits."""
    return {
        "description": f"{description} At most {MAX_ID_BYTES} bytes of UTF-8; whole numbers count as digits.",
        "anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}, {"type": "integer"}],
    }


def time_schema(*, earliest: float, dates: bool) -> Schema:
    """Describe a time that is read, not before ``earliest`` (Unix seconds); ``dates``: it may be a date."""
    time = f"[Tt ]{_TIME}{_ZONE}"
    day = r"(?!0000)" if dates else r"(?!0|1[0-8]|19[0-5]|196[0-8]|1969(?!-?12-?31))"
    return {
        "description": "Unix seconds, or ISO 8601 with an offset."
        + (" A bare date is its midnight UTC." * dates),
        "anyOf": [
            {"type": "number", "minimum": max(earliest, -MAX_SECONDS), "maximum": MAX_SECONDS},
            {"type": "string", "pattern": f"^{day}{_DATE}({time}){'?' if dates else ''}$", "maxLength": 64},
        ],
    }
