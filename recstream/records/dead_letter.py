"""Dead letters: rejected records as they are written, read back, checked once more and mended."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson

from recstream.records.actions import DecodeRules
from recstream.records.checks import describe
from recstream.records.decode import decode_events, decode_items
from recstream.records.event import Event
from recstream.records.item import Item
from recstream.records.reject import REASONS, Reason, Reject
from recstream.records.schema import COUNT, NUMBER, STRING, Schema, object_schema, record_schema
from recstream.records.transport import Message, Partition, RawBatch

__all__ = [
    "MAX_RAW_BYTES",
    "DeadLetter",
    "DeadLetterError",
    "Mended",
    "StreamName",
    "dead_letter_from",
    "dead_letter_message",
    "dead_letter_record",
    "mend",
    "raw_of",
    "reject_schema",
    "source_id",
]

StreamName = Literal["events", "items"]
"""Stream that a dead letter came from."""

MAX_RAW_BYTES: Final = 262_144
"""Longest ``raw`` in a dead letter, in bytes: as base64 it fits a topic's usual limit of 1 MB."""
_MEND: Final = "send it as `recstream deadletter list --json` gives it, with raw mended"
"""How to mend a line that is no dead letter."""


def reject_schema() -> Schema:
    """Describe a record of the dead-letter output.

    >>> "not_json" in reject_schema()["properties"]["reason"]["enum"]
    True
    """
    properties = {
        "reason": {"enum": list(get_args(Reason))},
        "detail": STRING | {"description": "What is wrong, where, got, wanted, and how to mend it."},
        "source": object_schema({"partition": STRING, "offset": COUNT}),
        "raw": STRING | {"description": "The record as it was read, or its beginning (raw_bytes)."},
        "at": NUMBER | {"description": "When it was rejected, Unix seconds."},
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
    return record_schema("reject", "One record that was not applied.", properties, required)


def dead_letter_record(reject: Reject, *, at: float) -> dict[str, object]:
    r"""Give the record of a reject as the dead-letter output holds it, ready for any JSON writer.

    ``at`` is when it was rejected, Unix seconds. ``raw`` is the record as text or, where it is no UTF-8,
    as base64 with ``"raw_encoding": "base64"`` beside it, so that the very bytes can be had again.
    Of a record longer than `MAX_RAW_BYTES` only the beginning is kept, with ``raw_bytes``, the length of the
    record, beside it. The whole record is at ``source``.

    >>> bad = Reject("not_json", "...", Partition("events/0", "x"), 7, b"\xff")
    >>> dead_letter_record(bad._replace(raw=b"hey"), at=5.0)["raw"]
    'hey'
    >>> record = dead_letter_record(bad, at=5.0)
    >>> record["raw"], record["raw_encoding"], record["source"]
    ('/w==', 'base64', {'partition': 'events/0', 'offset': 7})
    >>> long = dead_letter_record(bad._replace(raw=b"x" * 300_000), at=5.0)
    >>> long["raw_bytes"], len(str(long["raw"]))
    (300000, 262144)
    """
    record: dict[str, object] = {
        "reason": reject.reason,
        # a detail that quotes half of a surrogate pair would stop every JSON writer
        "detail": reject.detail.encode("utf-8", "backslashreplace").decode(),
        "source": {"partition": reject.partition.name, "offset": reject.offset},
    }
    kept = reject.raw[:MAX_RAW_BYTES]
    text = _text(kept)
    if text is None:
        record["raw"] = b64encode(kept).decode()
        record["raw_encoding"] = "base64"
    else:
        record["raw"] = text
    if len(reject.raw) > MAX_RAW_BYTES:
        record["raw_bytes"] = len(reject.raw)
    record["at"] = at
    return record


def dead_letter_message(reject: Reject, *, at: float) -> Message:
    """Give the message of a reject, keyed by the name of its source partition."""
    return Message(reject.partition.name.encode(), orjson.dumps(dead_letter_record(reject, at=at)))


def raw_of(record: Mapping[str, object]) -> bytes:
    r"""Give the bytes of the rejected record, or those that were kept of it.

    Raises:
        ValueError: ``raw_encoding`` says that ``raw`` is base64, and it is not.

    >>> raw_of({"raw": "/w==", "raw_encoding": "base64"})
    b'\xff'
    """
    raw = str(record["raw"])
    return b64decode(raw, validate=True) if record.get("raw_encoding") == "base64" else raw.encode()


def _text(raw: bytes) -> str | None:
    """Give the bytes as text, or None if they are no UTF-8 or JSON's escapes would make them far longer."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return (
        text
        if len(raw) <= MAX_RAW_BYTES // 4 or len(json.dumps(text, ensure_ascii=False)) <= 2 * MAX_RAW_BYTES
        else None
    )


class DeadLetterError(ValueError):
    """A line is no dead letter. The text says what is wrong, where, got, wanted, and how to mend it."""


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter as it was read, perhaps mended since it was written."""

    reason: Reason
    detail: str
    partition: str
    """Name of the source partition: ``"events/3"``, ``"events.jsonl.gz"``."""
    offset: int
    raw: bytes
    raw_bytes: int | None
    """Length of the record where ``raw`` is only its beginning, else None."""
    at: float
    record: Mapping[str, Any]
    """All fields of the dead letter."""

    @property
    def topic(self) -> str:
        """Topic of the source partition: its name without the number. Of a file it is the whole name."""
        stem, slash, number = self.partition.rpartition("/")
        return stem if slash and number.isdecimal() else self.partition

    def rejected_again(self, reject: Reject) -> dict[str, Any]:
        """Give the dead letter with the reason for which it would be rejected now."""
        return {**self.record, "reason": reject.reason, "detail": reject.detail}


class Mended(NamedTuple):
    """A record that would be accepted."""

    key: str
    """Its user or item, by which producers key their messages."""
    value: bytes


def dead_letter_from(line: bytes) -> DeadLetter:
    """Read a dead letter. ``raw`` may be text, base64 (``raw_encoding``), or the record itself as an object.

    Raises:
        DeadLetterError: the line is no dead letter.

    >>> line = b'{"reason": "bad_type", "source": {"partition": "e/3", "offset": 7}, "raw": {"a": 1}}'
    >>> dead_letter_from(line).raw
    b'{"a":1}'
    """
    try:
        record = orjson.loads(line)
    except ValueError as err:
        raise _not_a_dead_letter("line", repr(line[:40])[1:], f"one JSON object ({err})") from None
    if not isinstance(record, dict):
        raise _not_a_dead_letter("line", describe(record), "a dead letter")
    reason, source = record.get("reason"), record.get("source")
    if reason not in REASONS:
        raise _not_a_dead_letter("reason", describe(reason), f"one of {', '.join(REASONS)}")
    if not isinstance(source, dict):
        raise _not_a_dead_letter("source", describe(source), "a partition and an offset")
    partition, offset = source.get("partition"), source.get("offset")
    if not isinstance(partition, str) or not isinstance(offset, int) or isinstance(offset, bool):
        raise _not_a_dead_letter(
            "source", f"{describe(partition)} and {describe(offset)}", "a partition and an offset"
        )
    raw_bytes, at = record.get("raw_bytes"), record.get("at")
    return DeadLetter(
        reason,
        str(record.get("detail", "")),
        partition,
        offset,
        _raw(record),
        raw_bytes if isinstance(raw_bytes, int) else None,
        float(at) if isinstance(at, (int, float)) else 0.0,
        record,
    )


def source_id(dead_letter: DeadLetter) -> str:
    """Give an ``event_id`` to a record that has none: the place where it was first read.

    >>> line = b'{"reason": "bad_type", "source": {"partition": "e/3", "offset": 7}, "raw": ""}'
    >>> source_id(dead_letter_from(line))
    'dead-letter:e/3:7'
    """
    return f"dead-letter:{dead_letter.partition}:{dead_letter.offset}"


def mend(dead_letter: DeadLetter, stream: StreamName, *, rules: DecodeRules, now: float) -> Mended | Reject:
    """Give what to send for a dead letter, or why it would be rejected again.

    An event without an ``event_id`` gets `source_id`, so that the same dead letter sent twice counts
    once, as long as the id is among the newest ``dedup`` ids of its user. Else the bytes stay as they are.
    ``now`` is the sender's clock, Unix seconds.

    >>> line = b'{"reason": "bad_type", "source": {"partition": "e/3", "offset": 7}, "raw": {"ts": 1}}'
    >>> mend(dead_letter_from(line), "events", rules=DecodeRules(), now=9.0).reason
    'missing_field'
    >>> mended = line.replace(b'{"ts": 1}', b'{"user_id": "u1", "ts": 1, "action": "request"}')
    >>> mend(dead_letter_from(mended), "events", rules=DecodeRules(), now=9.0).value
    b'{"user_id":"u1","ts":1,"action":"request","event_id":"dead-letter:e/3:7"}'
    """
    if dead_letter.raw_bytes is not None:
        return _cut(dead_letter)
    found = _decoded(dead_letter, dead_letter.raw, stream, rules, now)
    if isinstance(found, Reject):
        return found
    if isinstance(found, Item):
        return Mended(found.item_id, dead_letter.raw)
    if found.event_id is not None:
        return Mended(found.user_id, dead_letter.raw)
    value = _with_id(dead_letter.raw, source_id(dead_letter))
    again = _decoded(dead_letter, value, stream, rules, now)
    return again if isinstance(again, Reject) else Mended(found.user_id, value)


def _decoded(
    dead_letter: DeadLetter, raw: bytes, stream: StreamName, rules: DecodeRules, now: float
) -> Event | Item | Reject:
    batch = RawBatch(Partition(dead_letter.partition, dead_letter.partition), [dead_letter.offset], [raw])
    if stream == "items":
        items, rejects = decode_items(batch, rules=rules, loads=orjson.loads)
        return items[0] if items else rejects[0]
    events, rejects = decode_events(batch, rules=rules, now=now, loads=orjson.loads)
    return events[0] if events else rejects[0]


def _with_id(raw: bytes, event_id: str) -> bytes:
    """Append an ``event_id`` to a JSON object. The last field of a name counts, so a null before it does not.

    >>> _with_id(b'{"user_id": "u1", "event_id": null} ', "x")
    b'{"user_id": "u1", "event_id": null,"event_id":"x"}'
    """
    return raw.rstrip(b" \t\r\n")[:-1] + b',"event_id":' + orjson.dumps(event_id) + b"}"


def _cut(dead_letter: DeadLetter) -> Reject:
    detail = (
        f"raw: got the first {len(dead_letter.raw)} of {dead_letter.raw_bytes} bytes, wanted the whole "
        f"record; read it at {dead_letter.partition}:{dead_letter.offset}, put it mended into raw, and take "
        "raw_bytes out"
    )
    partition = Partition(dead_letter.partition, dead_letter.partition)
    return Reject("too_large", detail, partition, dead_letter.offset, dead_letter.raw)


def _raw(record: dict[str, Any]) -> bytes:
    raw = record.get("raw")
    if isinstance(raw, dict):
        try:
            return orjson.dumps(raw)
        except TypeError as err:
            raise _not_a_dead_letter("raw", describe(raw), f"the record as text ({err})") from None
    if not isinstance(raw, str):
        raise _not_a_dead_letter("raw", describe(raw), "the record as text, or as an object")
    try:
        return raw_of(record)
    except ValueError as err:
        wanted = f"base64, for raw_encoding says so ({err}); take raw_encoding out if it is text now"
        raise _not_a_dead_letter("raw", describe(raw), wanted) from None


def _not_a_dead_letter(where: str, got: str, wanted: str) -> DeadLetterError:
    return DeadLetterError(f"no dead letter: {where}: got {got}, wanted {wanted}; {_MEND}")
