"""Rejects: bad data as a value, with a reason from a closed list."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

from recstream.core.source import Partition

__all__ = ["REASONS", "Reason", "Reject", "reject_record"]

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


def reject_record(reject: Reject, *, at: float) -> dict[str, object]:
    r"""Give the record of the dead-letter output (DESIGN section 2), ready for any JSON serialiser.

    ``at`` is when it was rejected, Unix seconds. Bytes of ``raw`` that are no UTF-8 appear as ``\xNN``.

    >>> bad = Reject("not_json", "...", Partition("events/0", "x"), 7, b"{\xff")
    >>> reject_record(bad, at=5.0)["raw"], reject_record(bad, at=5.0)["source"]
    ('{\\xff', {'partition': 'events/0', 'offset': 7})
    """
    return {
        "reason": reject.reason,
        "detail": reject.detail,
        "source": {"partition": reject.partition.name, "offset": reject.offset},
        "raw": reject.raw.decode("utf-8", "backslashreplace"),
        "at": at,
    }
