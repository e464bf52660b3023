"""Items: what can be recommended, checked; the text that the encoder reads of it; its schema."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np

from recstream.records.actions import MAX_ID_BYTES, DecodeRules
from recstream.records.arrays import Vector
from recstream.records.checks import (
    EARLIEST,
    FieldError,
    describe,
    flag,
    identifier,
    missing,
    publication,
    text_within,
    too_large,
)
from recstream.records.reject import Reject
from recstream.records.schema import Schema, id_schema, optional, record_schema, time_schema
from recstream.records.transport import Partition

__all__ = [
    "TEMPLATE",
    "Item",
    "checked_item",
    "item_body_schema",
    "item_from",
    "item_schema",
    "item_text",
    "text_hash",
]

TEMPLATE: Final = "item-1"
"""Version of the text that `item_text` makes: part of the encoder's identity, so change it with the text."""


class Item(NamedTuple):
    """One accepted item record."""

    item_id: str
    title: str
    """Cleaned; empty for a deleted item only."""
    text: str | None
    """Cleaned."""
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    published_at: float | None
    """Unix seconds (UTC)."""
    available: bool
    deleted: bool
    vector: Vector | None
    """The record's own vector, or the encoded text once the encode step has run. Unit length."""
    partition: Partition
    offset: int
    raw: bytes


def item_text(item: Item) -> str:
    """Give the text that the encoder reads of an item: its title, categories, tags and text, in that order.

    Parts that are absent leave nothing behind. A title or label that ends a sentence gets no second stop.

    >>> from recstream.records.transport import Partition
    >>> tea = Item("i1", "Tea", "Dark.", ("Drinks", "Hot"), ("leaf",), None, True, False, None,
    ...            Partition("items/0", "x"), 0, b"")
    >>> item_text(tea)
    'Tea. Categories: Drinks, Hot. Tags: leaf. Dark.'
    >>> item_text(tea._replace(title="Tea?", categories=(), tags=(), text=None))
    'Tea?'
    """
    parts = [_sentence(item.title)] if item.title else []
    if item.categories:
        parts.append(_sentence("Categories: " + ", ".join(item.categories)))
    if item.tags:
        parts.append(_sentence("Tags: " + ", ".join(item.tags)))
    if item.text is not None:
        parts.append(item.text)
    return " ".join(parts)


def _sentence(part: str) -> str:
    return part if part.endswith((".", "!", "?", "…", "。")) else part + "."


def text_hash(text: str) -> str:
    """Digest of an encoder's input: 128 bits of BLAKE2b in hex, the same on every machine.

    >>> text_hash("tea"), len(text_hash(""))
    ('833ede412aad05219a1b924c1fe8a5cd', 32)
    """
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def item_from(
    obj: object, partition: Partition, offset: int, raw: bytes, *, rules: DecodeRules
) -> Item | Reject:
    """Check one parsed item record. Bad data is a value, not an exception.

    Of a deleted item only the id is read, so that no other field can get the record rejected.

    >>> at = (Partition("items/0", "x"), 7, b"...")
    >>> item_from({"item_id": 3, "title": "Tea &amp; toast", "tags": "hot"}, *at, rules=DecodeRules())[:5]
    ('3', 'Tea & toast', None, (), ('hot',))
    >>> item_from({"item_id": "i1"}, *at, rules=DecodeRules()).detail
    "title: got nothing, wanted a string; add 'title' to the record"
    """
    try:
        return checked_item(obj, "", partition, offset, raw, rules=rules)
    except FieldError as error:
        return Reject(error.reason, error.detail, partition, offset, raw)


def checked_item(
    obj: object, path: str, partition: Partition, offset: int, raw: bytes, *, rules: DecodeRules
) -> Item:
    """Check an item record found at ``path`` (``"item."`` inside an event).

    Raises:
        FieldError: a field is not acceptable.
    """
    if not isinstance(obj, dict):
        name = path.rstrip(".") if path else "record"
        raise FieldError(
            "not_an_object" if not path else "bad_type",
            name,
            describe(obj),
            "an item object",
            'send it like {"item_id": "i1", "title": "Tea"}',
        )
    get = obj.get
    item_id = identifier(get("item_id"), path + "item_id")
    if flag(get("deleted"), path + "deleted", absent=False):
        return Item(item_id, "", None, (), (), None, False, True, None, partition, offset, raw)
    if get("title") is None:
        raise missing(path + "title", "a string")
    title = text_within(get("title"), path + "title", rules.max_text_bytes)
    if title is None:
        raise FieldError(
            "empty_text",
            path + "title",
            describe(get("title")),
            "a title with something to read",
            "name the item",
        )
    vector = get("vector")
    return Item(
        item_id,
        title,
        text_within(get("text"), path + "text", rules.max_item_text_bytes),
        _labels(get("categories"), path + "categories", rules.max_labels),
        _labels(get("tags"), path + "tags", rules.max_labels),
        publication(get("published_at"), path + "published_at"),
        flag(get("available"), path + "available", absent=True),
        False,
        None if vector is None else _unit(vector, path + "vector", rules.dim),
        partition,
        offset,
        raw,
    )


def _labels(value: object, field: str, most: int) -> tuple[str, ...]:
    """Check categories or tags: cleaned, blanks and repetitions dropped, order kept."""
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list):
        raise FieldError("bad_type", field, describe(value), "a list of strings", 'send it like ["a", "b"]')
    if len(given) > most:
        raise too_large(field, len(given), most, "labels")
    labels: dict[str, None] = {}
    for i, label in enumerate(given):
        if not isinstance(label, str):
            raise FieldError(
                "bad_type", f"{field}[{i}]", describe(label), "a string", "send each label in quotes"
            )
        cleaned = text_within(label, f"{field}[{i}]", MAX_ID_BYTES)
        if cleaned is not None:
            labels[cleaned] = None
    return tuple(labels)


def _unit(value: object, field: str, dim: int) -> Vector:
    """Check a record's own vector and give it unit length, read-only."""
    if dim == 0:
        raise FieldError(
            "bad_vector",
            field,
            describe(value),
            "no vector",
            "leave it out: the configured encoder makes the vectors of this store",
        )
    if not isinstance(value, list) or len(value) != dim:
        raise FieldError(
            "bad_vector",
            field,
            describe(value),
            f"a list of {dim} numbers",
            "use the store's own encoder, or leave the vector out",
        )
    if not set(map(type, value)) <= {int, float}:
        raise FieldError(
            "bad_vector", field, "something else among them", f"{dim} numbers", "send plain numbers, no nulls"
        )
    try:
        numbers = np.asarray([float(number) for number in value])
    except OverflowError:
        numbers = np.full(1, math.inf)
    peak = float(np.abs(numbers).max())
    if not 0.0 < peak < math.inf:
        raise FieldError(
            "bad_vector",
            field,
            "zeros only" if peak == 0.0 else "numbers that are not finite",
            "a direction",
            "leave the vector out: the text will be encoded instead",
        )
    numbers = numbers / peak  # so that squares neither overflow nor vanish
    unit = (numbers / math.sqrt(float(numbers @ numbers))).astype(np.float32)
    unit.flags.writeable = False
    return unit


_PARTIAL_DATE: Final = r"^(\s*|0000-00(-00)?|(?!0000)[0-9]{4}(-(0[0-9]|1[0-2])(-00)?)?)$"


def item_schema(rules: DecodeRules | None = None) -> Schema:
    """Describe an item record under these rules (the default ones when None).

    >>> item_schema()["required"]
    ['item_id']
    """
    body = item_body_schema(DecodeRules() if rules is None else rules)
    schema = record_schema("item", body.pop("description"), body.pop("properties"), body.pop("required"))
    return schema | body


def item_body_schema(rules: DecodeRules) -> Schema:
    """Describe an item inside of another record."""
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
        vector = optional(numbers | {"contains": {"not": {"const": 0}}})
    flag = optional({"type": "boolean"})
    return {
        "description": "What can be recommended. Of a deleted item only `item_id` is read.",
        "type": "object",
        "properties": {"item_id": id_schema("Which item."), "deleted": flag},
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
                "text": optional({"type": "string", "maxLength": rules.max_item_text_bytes}),
                "categories": optional(labels),
                "tags": optional(labels),
                "attributes": {"description": "Anything; not read."},
                "published_at": optional(
                    {
                        "description": "Unix seconds, RFC 3339, a date, or a date with zeros for what is "
                        "not known; an empty text is like none.",
                        "anyOf": [
                            *time_schema(earliest=EARLIEST, dates=True)["anyOf"],
                            {"type": "string", "pattern": _PARTIAL_DATE},
                        ],
                    }
                ),
                "available": flag,
                "vector": vector,
            },
        },
    }
