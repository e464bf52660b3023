"""Dead letters: the published record of a reject, for a file and a topic alike."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from recstream.core.rejects import Reject

__all__ = ["raw_of", "reject_record"]


def reject_record(reject: Reject, at: float) -> bytes:
    """Make the JSON of one reject, on one line; ``at`` is the time of the refusal in Unix seconds.

    ``raw`` is the record as text, or, where it is not valid UTF-8, as base64 with a field
    ``"raw_encoding": "base64"`` beside it: :func:`raw_of` gives back the same bytes either way.

    >>> from recstream.core.source import Partition
    >>> where = Partition("events/0", "events/0@1")
    >>> bad = Reject("not_json", "got 'hey', wanted an object", where, 7, b"hey")
    >>> print(reject_record(bad, 1.5).decode()[:68])
    {"reason":"not_json","detail":"got 'hey', wanted an object","source"
    """
    record: dict[str, Any] = {
        "reason": reject.reason,
        # a detail may quote half of a surrogate pair, which no JSON writer accepts
        "detail": reject.detail.encode("utf-8", "backslashreplace").decode(),
        "source": {"partition": reject.partition.name, "offset": reject.offset},
    }
    try:
        record["raw"] = reject.raw.decode()
    except UnicodeDecodeError:
        record["raw"] = base64.b64encode(reject.raw).decode()
        record["raw_encoding"] = "base64"
    return orjson.dumps(record | {"at": at})


def raw_of(record: bytes) -> bytes:
    r"""Give the bytes that were refused, to mend and send them again.

    >>> raw_of(b'{"raw": "/w==", "raw_encoding": "base64"}')
    b'\xff'
    """
    fields = orjson.loads(record)
    raw: str = fields["raw"]
    return base64.b64decode(raw) if fields.get("raw_encoding") == "base64" else raw.encode()
