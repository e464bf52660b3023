"""Dead letters read back: which record each holds, whether it would be accepted now, and what to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

from recstream.records.actions import DecodeRules
from recstream.records.checks import describe
from recstream.records.decode import decode_events, decode_items
from recstream.records.event import Event
from recstream.records.item import Item
from recstream.records.reject import REASONS, Reason, Reject, raw_of
from recstream.records.transport import Partition, RawBatch

__all__ = ["DeadLetter", "DeadLetterError", "Mended", "StreamName", "dead_letter_from", "mend", "source_id"]

StreamName = Literal["events", "items"]

_MEND: Final = "send it as `recstream deadletter list --json` gives it, with raw mended"


class DeadLetterError(ValueError):
    """A line is no dead letter: what is wrong, where, got, wanted, and how to mend it."""


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter, perhaps mended since."""

    reason: Reason
    detail: str
    partition: str
    """Name of the source partition: ``"events/3"``, ``"events.jsonl.gz"``."""
    offset: int
    raw: bytes
    whole: int | None
    """Length of the record when ``raw`` is its beginning only, else None."""
    at: float
    record: Mapping[str, Any]
    """The letter as it was read."""

    @property
    def topic(self) -> str:
        """Topic of the source partition: its name without the number; of a file its whole name."""
        stem, slash, number = self.partition.rpartition("/")
        return stem if slash and number.isdecimal() else self.partition

    def refused_again(self, reject: Reject) -> dict[str, Any]:
        """The letter with the reason for which it would be rejected now."""
        return {**self.record, "reason": reject.reason, "detail": reject.detail}


class Mended(NamedTuple):
    """A record that would be accepted."""

    key: str
    """Its user or item, by which producers key their messages."""
    value: bytes


def dead_letter_from(line: bytes) -> DeadLetter:
    """Read a letter. ``raw`` may be text, base64 (``raw_encoding``), or the record itself as an object.

    Raises:
        DeadLetterError: it is none.

    >>> line = b'{"reason": "bad_type", "source": {"partition": "e/3", "offset": 7}, "raw": {"a": 1}}'
    >>> dead_letter_from(line).raw
    b'{"a":1}'
    """
    try:
        record = orjson.loads(line)
    except ValueError as err:
        raise _no_letter("line", repr(line[:40])[1:], f"one JSON object ({err})") from None
    if not isinstance(record, dict):
        raise _no_letter("line", describe(record), "a dead letter")
    reason, source = record.get("reason"), record.get("source")
    if reason not in REASONS:
        raise _no_letter("reason", describe(reason), f"one of {', '.join(REASONS)}")
    if not isinstance(source, dict):
        raise _no_letter("source", describe(source), "a partition and an offset")
    partition, offset = source.get("partition"), source.get("offset")
    if not isinstance(partition, str) or not isinstance(offset, int) or isinstance(offset, bool):
        raise _no_letter(
            "source", f"{describe(partition)} and {describe(offset)}", "a partition and an offset"
        )
    whole, at = record.get("raw_bytes"), record.get("at")
    return DeadLetter(
        reason,
        str(record.get("detail", "")),
        partition,
        offset,
        _raw(record),
        whole if isinstance(whole, int) else None,
        float(at) if isinstance(at, (int, float)) else 0.0,
        record,
    )


def source_id(letter: DeadLetter) -> str:
    """The ``event_id`` of a record that has none: where it was first read.

    >>> line = b'{"reason": "bad_type", "source": {"partition": "e/3", "offset": 7}, "raw": ""}'
    >>> source_id(dead_letter_from(line))
    'dead-letter:e/3:7'
    """
    return f"dead-letter:{letter.partition}:{letter.offset}"


def mend(letter: DeadLetter, stream: StreamName, *, rules: DecodeRules, now: float) -> Mended | Reject:
    """Give what to send for a letter, or why it would be rejected again.

    An event without an ``event_id`` gets `source_id`, so that the same letter sent twice counts once,
    within the newest ``dedup`` ids of its user: after so many newer ones it is not recognised. Else the bytes
    stay as they are. ``now`` is the sender's clock, Unix seconds.

    >>> line = b'{"reason": "bad_type", "source": {"partition": "e/3", "offset": 7}, "raw": {"ts": 1}}'
    >>> mend(dead_letter_from(line), "events", rules=DecodeRules(), now=9.0).reason
    'missing_field'
    >>> mended = line.replace(b'{"ts": 1}', b'{"user_id": "u1", "ts": 1, "action": "request"}')
    >>> mend(dead_letter_from(mended), "events", rules=DecodeRules(), now=9.0).value
    b'{"user_id":"u1","ts":1,"action":"request","event_id":"dead-letter:e/3:7"}'
    """
    if letter.whole is not None:
        return _cut(letter)
    found = _decoded(letter, letter.raw, stream, rules, now)
    if isinstance(found, Reject):
        return found
    if isinstance(found, Item):
        return Mended(found.item_id, letter.raw)
    if found.event_id is not None:
        return Mended(found.user_id, letter.raw)
    value = _with_id(letter.raw, source_id(letter))
    again = _decoded(letter, value, stream, rules, now)
    return again if isinstance(again, Reject) else Mended(found.user_id, value)


def _decoded(
    letter: DeadLetter, raw: bytes, stream: StreamName, rules: DecodeRules, now: float
) -> Event | Item | Reject:
    batch = RawBatch(Partition(letter.partition, letter.partition), [letter.offset], [raw])
    if stream == "items":
        items, rejects = decode_items(batch, rules=rules, loads=orjson.loads)
        return items[0] if items else rejects[0]
    events, rejects = decode_events(batch, rules=rules, now=now, loads=orjson.loads)
    return events[0] if events else rejects[0]


def _with_id(raw: bytes, event_id: str) -> bytes:
    """The object with one field more, at its end: there it counts, whatever a null before it says.

    >>> _with_id(b'{"user_id": "u1", "event_id": null} ', "x")
    b'{"user_id": "u1", "event_id": null,"event_id":"x"}'
    """
    return raw.rstrip(b" \t\r\n")[:-1] + b',"event_id":' + orjson.dumps(event_id) + b"}"


def _cut(letter: DeadLetter) -> Reject:
    detail = (
        f"raw: got the first {len(letter.raw)} of {letter.whole} bytes, wanted the whole record; read it at "
        f"{letter.partition}:{letter.offset}, put it mended into raw, and take raw_bytes out"
    )
    return Reject(
        "too_large", detail, Partition(letter.partition, letter.partition), letter.offset, letter.raw
    )


def _raw(record: dict[str, Any]) -> bytes:
    raw = record.get("raw")
    if isinstance(raw, dict):
        try:
            return orjson.dumps(raw)
        except TypeError as err:
            raise _no_letter("raw", describe(raw), f"the record as text ({err})") from None
    if not isinstance(raw, str):
        raise _no_letter("raw", describe(raw), "the record as text, or as an object")
    try:
        return raw_of(record)
    except ValueError as err:
        wanted = f"base64, for raw_encoding says so ({err}); take raw_encoding out if it is text now"
        raise _no_letter("raw", describe(raw), wanted) from None


def _no_letter(where: str, got: str, wanted: str) -> DeadLetterError:
    return DeadLetterError(f"no dead letter: {where}: got {got}, wanted {wanted}; {_MEND}")
