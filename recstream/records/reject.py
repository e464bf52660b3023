"""Rejects: records that are not applied, each with a reason from a closed list."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

from recstream.records.transport import Partition

__all__ = ["REASONS", "Reason", "Reject"]

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
"""Why a record was not applied. A new reason is a change of the published contract."""

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


class Reject(NamedTuple):
    """One record that was not applied. It goes to the dead-letter output, so that nothing is lost.

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
