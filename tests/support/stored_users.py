"""User rows of a store, and whether those of two stores are equal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from recstream.config import Settings
from recstream.runtime.wiring import Wiring
from recstream.users.codec import UserRow

_OF_A_RUN: Final = (12, 13)
"""Places of the outbox and of the refusals in a row's state: they are kept until their epoch has surely
committed, and tell of a run, not of the user."""


def stored_users(store: Path, encoder: str = "hashing") -> dict[str, UserRow]:
    """All user rows of a store."""
    settings = Settings.load(None, {}, {"store.path": str(store), "encoder.backend": encoder})
    wiring = Wiring(settings, alone=False)
    try:
        users = wiring.database.users
        return users.fetch(users.ids())
    finally:
        wiring.close()


def assert_same_users(
    some: Mapping[str, UserRow], others: Mapping[str, UserRow], *, tolerance: float = 1e-9
) -> None:
    """Every user row equal: exactly, but for sums of floating point numbers, which have a tolerance."""
    assert sorted(some) == sorted(others)
    for user_id, row in some.items():
        other = others[user_id]
        assert (row.version, row.shard, row.events) == (other.version, other.shard, other.events), user_id
        assert row.updated_at == other.updated_at, user_id
        np.testing.assert_allclose(row.vector, other.vector, atol=max(tolerance, 1e-6), rtol=0)
        mine, theirs = _state(row), _state(other)
        for one, two in zip(mine[:2], theirs[:2], strict=True):
            assert (one is None) == (two is None), user_id
            if one is not None:
                _assert_same_sum(one, two, tolerance)
        for at, (one, two) in enumerate(zip(mine[2:], theirs[2:], strict=True), 2):
            assert one == two or at in _OF_A_RUN, f"user {user_id!r}, field {at} of the state: {one} != {two}"


def _state(row: UserRow) -> list[Any]:
    state: list[Any] = msgspec.msgpack.decode(row.state[1:])
    return state


def _assert_same_sum(one: Any, two: Any, tolerance: float) -> None:
    assert one[2] == two[2], "reference times differ"
    np.testing.assert_allclose(one[1], two[1], rtol=tolerance)
    mine, theirs = (np.frombuffer(total[0], np.float64) for total in (one, two))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * max(1.0, float(np.abs(mine).max())))
