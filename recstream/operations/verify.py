"""Verification of a store: a replay of the log must give every user the same state (guarantee G8)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Final, NamedTuple

from recstream.config import Settings
from recstream.items.catalogue import Catalogue
from recstream.runtime.locks import job_lock
from recstream.runtime.replay import Replayed, Stage, replay
from recstream.runtime.signals import Stop
from recstream.runtime.wiring import Wiring
from recstream.stores.base import UserStore
from recstream.users.codec import UserRow, user_state_of
from recstream.users.state_diff import differences

__all__ = ["NAMES", "Comparison", "Difference", "compare_users", "replay_and_compare"]

NAMES: Final = ("the replay", "the store")
"""Names of the two sides in descriptions of differences."""
_CHUNK: Final = 1000
"""Users fetched at once."""


class Difference(NamedTuple):
    """A user whose state differs between the two stores."""

    user_id: str
    what: list[str]
    """One line for each part of the state that differs."""


@dataclass
class Comparison:
    """Result of comparing two stores user by user."""

    equal: int = 0
    only_here: int = 0
    """Users found only in the replay."""
    only_there: int = 0
    """Users found only in the store."""
    different: int = 0
    """Users of both whose states differ."""
    first: list[Difference] = field(default_factory=list)
    """The first users that are not equal, in order of user id."""

    @property
    def users(self) -> int:
        """Number of users compared."""
        return self.equal + self.only_here + self.only_there + self.different

    @property
    def same(self) -> bool:
        """Whether every user is in both stores and equal."""
        return self.equal == self.users


def replay_and_compare(
    settings: Settings, store: Path, stop: Stop, on_stage: Stage
) -> tuple[Replayed, Comparison | None]:
    """Replay as `recstream.runtime.replay.replay` does, then compare every user with those of ``store``.

    The comparison is None when the replay was interrupted. The store is locked until the end and not changed.
    Texts come from its cache, unless ``cache.path`` names another, so that they are not encoded again.

    Raises:
        StoreBusyError: A job is running on one of the stores.
        StoreError: There is no store, or it was made with other settings.
        ConnectorError, EncoderError: as for a replay.
    """
    there = settings.model_copy(update={"store": settings.store.model_copy(update={"path": str(store)})})
    cache = settings.cache.model_copy(update={"path": str(there.cache_dir)})
    here = settings.model_copy(update={"cache": cache})
    with _users(there):
        pass  # faults of the store are raised before the replay, and before a lock makes its folder
    with job_lock(store, "backfill --verify"):
        done = replay(here, stop, on_stage)
        if done.interrupted:
            return done, None
        on_stage("comparison", None)
        with (
            job_lock(here.store_dir, "backfill --verify"),
            _users(here) as mine,
            _users(there) as theirs,
        ):
            return done, compare_users(mine, theirs)


def compare_users(here: UserStore, there: UserStore, *, first: int = 10) -> Comparison:
    """Compare every user of two stores. Neither may be written to meanwhile.

    At most ``first`` differences are described.
    """
    found = Comparison()
    ids = (user_id for user_id, _ in groupby(heapq.merge(here.ids(), there.ids())))
    while chunk := list(islice(ids, _CHUNK)):
        mine, theirs = here.fetch(chunk), there.fetch(chunk)
        names = Catalogue(0)  # only for handles, and only for this chunk, so that it stays small
        for user_id in chunk:
            what = _between(mine.get(user_id), theirs.get(user_id), names, found)
            if what and len(found.first) < first:
                found.first.append(Difference(user_id, what))
    return found


def _between(one: UserRow | None, other: UserRow | None, names: Catalogue, found: Comparison) -> list[str]:
    """Differences between two rows of a user, which are counted in ``found``."""
    if other is None:
        found.only_here += 1
        return [f"only in {NAMES[0]}"]
    if one is None:
        found.only_there += 1
        return [f"only in {NAMES[1]}"]
    mine, theirs = user_state_of(one, names), user_state_of(other, names)
    what = differences(mine, theirs, names.ids, names.ids, names=NAMES)
    if what:
        found.different += 1
    else:
        found.equal += 1
    return what


@contextmanager
def _users(settings: Settings) -> Iterator[UserStore]:
    """Users of a store, which must exist."""
    wiring = Wiring(settings, maintains=False, create=False)
    try:
        yield wiring.database.users
    finally:
        wiring.close()
