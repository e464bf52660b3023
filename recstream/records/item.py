"""Items: what can be recommended, decoded and checked, and the text the encoder reads."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np

from recstream.records.actions import MAX_ID_BYTES, DecodeRules
from recstream.records.arrays import Vector
from recstream.records.checks import (
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
from recstream.records.transport import Partition

__all__ = ["TEMPLATE", "Item", "checked_item", "item_from", "item_text", "text_hash"]

TEMPLATE: Final = "item-1"
"""Version of what `item_text` makes of an item: part of the encoder's identity, so change both."""


class Item(NamedTuple):
    """One accepted item record (DESIGN section 2)."""

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
    """A ready vector of the producer's own, or the encoded text once the encode step has run."""
    partition: Partition
    offset: int
    raw: bytes


def item_text(item: Item) -> str:
    """Write out what the encoder reads of an item: its title, categories, tags and text, in that order.

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

    Of a deleted item only the id is read, so that nothing else can keep it from being deleted.

    >>> at = (Partition("items/0", "x"), 7, b"...")
    >>> item_from({"item_id": 3, "title": "Tea &amp; toast", "tags": "hot"}, *at, rules=DecodeRules())[:5]
    ('3', 'Tea & toast', None, (), ('hot',))
    >>> item_from({"item_id": "i1"}, *at, rules=DecodeRules()).detail
    "title: got nothing, wanted a string; add 'title' to the record"
    """
    try:
        return checked_item(obj, "", partition, offset, raw, rules=rules)
    except FieldError as refused:
        return Reject(refused.reason, refused.detail, partition, offset, raw)


def checked_item(
    obj: object, path: str, partition: Partition, offset: int, raw: bytes, *, rules: DecodeRules
) -> Item:
    """Check an item record found at ``path`` (``"item."`` inside an event).

    Raises:
        Refused: a field is not acceptable.
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
    """Check a ready vector and give it unit length, read-only."""
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
