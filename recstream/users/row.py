"""One user as stored."""

from __future__ import annotations

from typing import Final, NamedTuple

from recstream.records.arrays import Vector

__all__ = ["OPEN_SESSION", "UNCONFIRMED", "WAITING", "UserRow"]

WAITING: Final = 1
"""In `UserRow.unfinished`: events wait for their items."""
UNCONFIRMED: Final = 2
"""In `UserRow.unfinished`: output of an epoch that may not have committed."""
OPEN_SESSION: Final = 4
"""In `UserRow.unfinished`: a session that was not announced as closed."""


class UserRow(NamedTuple):
    """One user as stored."""

    user_id: str
    shard: int
    version: int
    events: int
    """Applied events."""
    updated_at: float
    """Event time of the newest applied event, Unix seconds."""
    vector: Vector
    """Unit long-term taste, zeros when there is none; searchable by any reader of the table."""
    state: bytes
    """The whole profile, encoded (its first byte is the codec's version)."""
    unfinished: int = 0
    """Why to come back to the user after a restart: a sum of `WAITING`, `UNCONFIRMED`, `OPEN_SESSION`."""
