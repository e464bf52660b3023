"""Rejects: bad data as a value, with a reason from a closed list."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from recstream.records.transport import Partition

__all__ = ["REASONS", "Reason", "Reject", "raw_of", "reject_record"]

Reason = Literal[
    "not_json",
    "not_an_object",
    "missing_field",
    "bad_type",
    "bad_value",
    "unknown_action",
    "bad_timestamp",
    "in_the_future",
    "empty_text",
    "too_large",
    "unknown_item",
    "bad_vector",
    "too_many_waiting",
    "unencodable",
]
"""Why a record was not applied. Closed: a new reason is a change of the published contract."""

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


class Reject(NamedTuple):
    """One record that was not applied; it goes to the dead-letter output, nothing is lost.

    >>> Reject("missing_field", "...", Partition("events/0", "x"), 7, b"{}").reason
    'missing_field'
    """

    reason: Reason
    detail: str
    """What is wrong, where, got, wanted, and how to mend it, in one line."""
    partition: Partition
    offset: int
    raw: bytes
    """The record as it was read."""


RAW_MOST: Final = 262_144
"""Longest ``raw`` in a dead letter, bytes: base64 of it fits a topic's usual limit of 1 MB."""


def reject_record(reject: Reject, *, at: float) -> dict[str, object]:
    r"""Give the record of the dead-letter output (DESIGN section 2), ready for any JSON writer.

    ``at`` is when it was rejected, Unix seconds. ``raw`` is the record as text or, where it is no UTF-8,
    as base64 with ``"raw_encoding": "base64"`` beside it, so that the very bytes can be had again.
    Of a record beyond `RAW_MOST` the beginning is kept, with ``raw_bytes``, its whole length, beside it:
    the rest is still at ``source``.

    >>> bad = Reject("not_json", "...", Partition("events/0", "x"), 7, b"\xff")
    >>> reject_record(bad._replace(raw=b"hey"), at=5.0)["raw"]
    'hey'
    >>> record = reject_record(bad, at=5.0)
    >>> record["raw"], record["raw_encoding"], record["source"]
    ('/w==', 'base64', {'partition': 'events/0', 'offset': 7})
    >>> long = reject_record(bad._replace(raw=b"x" * 300_000), at=5.0)
    >>> long["raw_bytes"], len(str(long["raw"]))
    (300000, 262144)
    """
    record: dict[str, object] = {
        "reason": reject.reason,
        # a detail that quotes half of a surrogate pair would stop every JSON writer
        "detail": reject.detail.encode("utf-8", "backslashreplace").decode(),
        "source": {"partition": reject.partition.name, "offset": reject.offset},
    }
    kept = reject.raw[:RAW_MOST]
    text = _text(kept)
    if text is None:
        record["raw"] = b64encode(kept).decode()
        record["raw_encoding"] = "base64"
    else:
        record["raw"] = text
    if len(reject.raw) > RAW_MOST:
        record["raw_bytes"] = len(reject.raw)
    record["at"] = at
    return record


def raw_of(record: Mapping[str, object]) -> bytes:
    r"""Give the bytes that were refused, to mend and send them again.

    Raises:
        ValueError: it says that it is base64 and is not.

    >>> raw_of({"raw": "/w==", "raw_encoding": "base64"})
    b'\xff'
    """
    raw = str(record["raw"])
    return b64decode(raw, validate=True) if record.get("raw_encoding") == "base64" else raw.encode()


def _text(raw: bytes) -> str | None:
    """The bytes as text, unless they are none, or JSON's escapes would blow them up."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return (
        text
        if len(raw) <= RAW_MOST // 4 or len(json.dumps(text, ensure_ascii=False)) <= 2 * RAW_MOST
        else None
    )
