"""Items: what can be recommended, checked; the text that the encoder reads of it; its schema."""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple, TypeVar

import numpy as np

from recstream.records.actions import MAX_ID_BYTES, DecodeRules
from recstream.records.arrays import Vector
from recstream.records.checks import (
    EARLIEST,
    FLAGS,
    FieldError,
    describe,
    digits,
    flag,
    identifier,
    missing,
    publication,
    too_large,
    utf8_bytes,
)
from recstream.records.foreign import advice_on
from recstream.records.reject import Reason, Reject
from recstream.records.schema import Schema, id_schema, optional, record_schema, time_schema
from recstream.records.text import clean
from recstream.records.transport import Partition

__all__ = [
    "TEMPLATE",
    "Item",
    "LeftOut",
    "checked_item",
    "item_body_schema",
    "item_from",
    "item_schema",
    "item_text",
    "text_hash",
]

_NAMES: Final = ("item_id", "title")
"""Fields that are looked for under other names when one is missing."""
TEMPLATE: Final = "item-1"
"""Version of the text that `item_text` makes: part of the encoder's identity, so change it with the text."""


class LeftOut(NamedTuple):
    """A part of an optional field that could not be read, or a text that was cut: the item lacks it."""

    field: str
    """``categories``, ``published_at``, ...: without the place in a list."""
    reason: Reason
    detail: str
    """As of a `Reject`."""


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
    left_out: tuple[LeftOut, ...] = ()
    """The first fault of each field and reason."""


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

    What cannot be read of an optional field is left out, and noted in ``left_out``; numbers are read as
    texts and labels, and texts that are too long are cut. Of a deleted item only the id is read, so that no
    other field can get the record rejected.

    >>> at, rules = (Partition("items/0", "x"), 7, b"..."), DecodeRules()
    >>> item_from({"item_id": 3, "title": "Tea &amp; toast", "tags": [19, "hot"]}, *at, rules=rules)[:5]
    ('3', 'Tea & toast', None, (), ('19', 'hot'))
    >>> item_from({"item_id": 3, "title": "Tea", "published_at": "soon"}, *at, rules=rules).left_out[0][:2]
    ('published_at', 'bad_timestamp')
    >>> item_from({"item_id": "i1"}, *at, rules=rules).detail
    "title: got nothing, wanted a string; add 'title' to the record"
    """
    try:
        return checked_item(obj, "", partition, offset, raw, rules=rules)
    except FieldError as error:
        return Reject(error.reason, error.detail + advice_on(obj, error, _NAMES), partition, offset, raw)


def checked_item(
    obj: object, path: str, partition: Partition, offset: int, raw: bytes, *, rules: DecodeRules
) -> Item:
    """Check an item record found at ``path`` (``"item."`` inside an event).

    Raises:
        FieldError: what the record is of cannot be read: its id, its title, whether it deletes the item, or
            the vector that stands for its text.
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
    fields = _OptionalFields(obj, path)
    title = fields.cut(get("title"), "title", rules.max_text_bytes)
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
        fields.read("text", lambda text, _: fields.cut(text, "text", rules.max_item_text_bytes), None),
        fields.labels("categories", rules.max_labels),
        fields.labels("tags", rules.max_labels),
        fields.read("published_at", publication, None),
        fields.read("available", lambda value, field: flag(value, field, absent=True), True),
        False,
        None if vector is None else _unit(vector, path + "vector", rules.dim),
        partition,
        offset,
        raw,
        tuple(fields.left_out.values()),
    )


T = TypeVar("T")


class _OptionalFields:
    """Reads the optional fields of a record found at ``path``, and notes what it leaves out."""

    def __init__(self, record: dict[str, object], path: str) -> None:
        self._record, self._path = record, path
        self.left_out: dict[tuple[str, Reason], LeftOut] = {}

    def read(self, name: str, check: Callable[[object, str], T], absent: T) -> T:
        try:
            return check(self._record.get(name), self._path + name)
        except FieldError as error:
            self._note(name, error)
            return absent

    def cut(self, value: object, name: str, most_bytes: int) -> str | None:
        """Check and clean a text, of which at most so many bytes of UTF-8 are kept; None for a blank one.

        Raises:
            FieldError: it is neither a text nor a number.
        """
        if value is None:
            return None
        text = digits(value)
        if not isinstance(text, str):
            raise FieldError(
                "bad_type", self._path + name, describe(value), "a string", "send the text in quotes"
            )
        cleaned = clean(text)
        size = utf8_bytes(cleaned)
        if size > most_bytes:
            self._note(name, too_large(self._path + name, size, most_bytes))
            cleaned = clean(cleaned.encode()[:most_bytes].decode(errors="ignore"))
        return cleaned or None

    def labels(self, name: str, most: int) -> tuple[str, ...]:
        """Check categories or tags: cleaned, blanks and repetitions dropped, order kept."""
        value = self._record.get(name)
        if value is None:
            return ()
        given = value if isinstance(value, list) else [value]
        if len(given) > most:
            self._note(name, too_large(self._path + name, len(given), most, "labels"))
        labels: dict[str, None] = {}
        for i, one in enumerate(given[:most]):
            field = f"{self._path}{name}[{i}]" if isinstance(value, list) else self._path + name
            label = digits(one)
            if not isinstance(label, str):
                if label is not None:
                    wanted = "a string or a number"
                    self._note(
                        name, FieldError("bad_type", field, describe(one), wanted, 'send it like ["a", "b"]')
                    )
                continue
            label = clean(label)
            size = utf8_bytes(label)
            if size > MAX_ID_BYTES:
                self._note(name, too_large(field, size, MAX_ID_BYTES))
            elif label:
                labels[label] = None
        return tuple(labels)

    def _note(self, name: str, error: FieldError) -> None:
        self.left_out.setdefault((name, error.reason), LeftOut(name, error.reason, error.detail))


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
    label = {"anyOf": [{"type": "string", "maxLength": MAX_ID_BYTES}, {"type": "number"}]}
    labels = {"anyOf": [{"type": "array", "items": optional(label), "maxItems": rules.max_labels}, label]}
    vector: Schema = {"type": "array", "items": {"type": "number"}, "contains": {"not": {"const": 0}}}
    if rules.dim:
        vector |= {"minItems": rules.dim, "maxItems": rules.dim}
    return {
        "description": "What can be recommended. Of a deleted item only `item_id` is read.",
        "type": "object",
        "properties": {"item_id": id_schema("Which item."), "deleted": optional(_flag_schema(True, False))},
        "required": ["item_id"],
        "if": {"properties": {"deleted": _flag_schema(True)}, "required": ["deleted"]},
        "else": {
            "required": ["title"],
            "properties": {
                "title": {
                    "anyOf": [
                        {
                            "type": "string",
                            "minLength": 1,
                            "pattern": r"\S",
                            "maxLength": rules.max_text_bytes,
                        },
                        {"type": "number"},
                    ]
                },
                "text": optional(
                    {
                        "anyOf": [
                            {"type": "string", "maxLength": rules.max_item_text_bytes},
                            {"type": "number"},
                        ]
                    }
                ),
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
                "available": optional(_flag_schema(True, False)),
                "vector": optional(vector | {"description": "As many numbers as the encoder gives."}),
            },
        },
    }


def _flag_schema(*values: bool) -> Schema:
    """Describe a flag that is one of ``values``; where both are, it may be blank."""
    words = "|".join(spelling for spelling, value in FLAGS.items() if value in values)
    blank = r"\s*|" if len(values) > 1 else ""
    return {
        "anyOf": [
            {"enum": [*values, *map(int, values)]},
            {"type": "string", "pattern": f"^({blank}{words})$"},
        ]
    }
