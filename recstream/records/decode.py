"""Decoding of batches of raw bytes to checked records and rejects: nothing is lost, nothing is raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from recstream.records.actions import DecodeRules
from recstream.records.checks import FieldError, identifier
from recstream.records.event import Event, event_from
from recstream.records.foreign import Foreign, foreign_bytes
from recstream.records.item import Item, item_from
from recstream.records.reject import Reject
from recstream.records.transport import Partition, RawBatch

__all__ = ["decode_events", "decode_items"]

_TO_DELETE: Final = 'send {"item_id": ..., "deleted": true} to delete'
Loads = Callable[[bytes], object]
"""A JSON parser such as `orjson.loads`: raises ValueError on what is not JSON or not UTF-8."""


def decode_events(
    batch: RawBatch, *, rules: DecodeRules, now: float, loads: Loads
) -> tuple[list[Event], list[Reject]]:
    """Decode one batch of events; each record ends in exactly one of the two lists, in order.

    Tombstones are left out: an event that was deleted from its topic says nothing, and erases nobody.
    ``now`` is the reader's clock in Unix seconds. Whatever the bytes, nothing is raised.

    >>> from json import loads
    >>> lines = [b'{"user_id": "u1", "ts": 5, "action": "like", "item_id": "i1"}', b"", b"[1]"]
    >>> batch = RawBatch(Partition("events/3", "x"), [7, 8, 9], lines)
    >>> events, rejects = decode_events(batch, rules=DecodeRules(), now=6.0, loads=loads)
    >>> [e.offset for e in events], [(r.offset, r.reason) for r in rejects]
    ([7], [(8, 'not_json'), (9, 'not_an_object')])
    """
    events: list[Event] = []
    rejects: list[Reject] = []
    partition, most = batch.partition, rules.max_record_bytes
    for offset, raw in zip(batch.offsets, batch.values, strict=True):
        if offset in batch.tombstones:
            continue
        if not raw or len(raw) > most:
            advice = "send forget events to erase users; events themselves need no deleting"
            rejects.append(_unread(partition, offset, raw, most, advice))
            continue
        try:
            obj = loads(raw)
        except (ValueError, RecursionError) as error:
            rejects.append(_not_json(partition, offset, raw, error))
            continue
        event = event_from(obj, partition, offset, raw, rules=rules, now=now)
        if isinstance(event, Event):
            events.append(event)
        else:
            rejects.append(event)
    return events, rejects


def decode_items(batch: RawBatch, *, rules: DecodeRules, loads: Loads) -> tuple[list[Item], list[Reject]]:
    """Decode one batch of items; each record ends in exactly one of the two lists, in order.

    A tombstone deletes the item that is its key, as ``"deleted": true`` does. One whose key is no id is
    rejected.

    >>> from json import loads
    >>> lines = [b'{"item_id": "i1", "deleted": true}', b"", b""]
    >>> batch = RawBatch(Partition("items/0", "x"), [1, 2, 3], lines, {2: b"i2"})
    >>> items, rejects = decode_items(batch, rules=DecodeRules(), loads=loads)
    >>> [(item.item_id, item.deleted) for item in items]
    [('i1', True), ('i2', True)]
    >>> rejects[0].reason, rejects[0].detail[-48:]
    ('not_json', 'send {"item_id": ..., "deleted": true} to delete')
    """
    items: list[Item] = []
    rejects: list[Reject] = []
    partition, most = batch.partition, rules.max_record_bytes
    for offset, raw in zip(batch.offsets, batch.values, strict=True):
        if offset in batch.tombstones:
            item = _deletion(batch.tombstones[offset], partition, offset, rules)
        elif not raw or len(raw) > most:
            rejects.append(_unread(partition, offset, raw, most, _TO_DELETE))
            continue
        else:
            try:
                obj = loads(raw)
            except (ValueError, RecursionError) as error:
                rejects.append(_not_json(partition, offset, raw, error))
                continue
            item = item_from(obj, partition, offset, raw, rules=rules)
        if isinstance(item, Item):
            items.append(item)
        else:
            rejects.append(item)
    return items, rejects


def _deletion(key: bytes | None, partition: Partition, offset: int, rules: DecodeRules) -> Item | Reject:
    """Read a tombstone: the item under this key is deleted."""
    try:
        item_id = identifier(None if key is None else key.decode(), "key")
    except UnicodeDecodeError:
        detail = f"key: got {(key or b'')[:40]!r}, wanted the item's id in UTF-8; {_TO_DELETE}"
        return Reject("bad_value", detail, partition, offset, b"")
    except FieldError as error:
        detail = f"null value: {error.detail}, or {_TO_DELETE}"
        return Reject(error.reason, detail, partition, offset, b"")
    return item_from({"item_id": item_id, "deleted": True}, partition, offset, b"", rules=rules)


def _unread(partition: Partition, offset: int, raw: bytes, most: int, advice: str) -> Reject:
    """Reject a record that is empty, for which there is ``advice``, or too long to be parsed."""
    if not raw:
        detail = f"record: got an empty record, wanted a JSON object; {advice}"
        return Reject("not_json", detail, partition, offset, raw)
    detail = f"record: got {len(raw)} bytes, wanted at most {most}; shorten it at the producer"
    return Reject("too_large", detail, partition, offset, raw)


def _not_json(partition: Partition, offset: int, raw: bytes, error: Exception) -> Reject:
    why = ascii(str(error))[1:-1] if not isinstance(error, RecursionError) else "it is nested too deeply"
    start = raw[:40].decode("utf-8", "replace")
    foreign = foreign_bytes(raw)
    if foreign is None:
        foreign = Foreign(why, "serialise the record with a JSON library")
    detail = (
        f"record: got {start!r}{'...' if len(raw) > 40 else ''} ({foreign.what}), wanted one JSON object in "
        f"UTF-8; {foreign.mend}"
    )
    return Reject("not_json", detail, partition, offset, raw)
