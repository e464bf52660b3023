"""A replay beside a store: is every user what the log says (guarantee G8)?"""

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

__all__ = ["NAMES", "Comparison", "Difference", "compare_users", "verify"]

NAMES: Final = ("the replay", "the store")
"""What the two sides of a comparison are called."""
_CHUNK: Final = 1000
"""Users fetched at once."""


class Difference(NamedTuple):
    """A user whose two states are not the same."""

    user_id: str
    what: list[str]
    """A line for each part that differs."""


@dataclass
class Comparison:
    """What came of comparing two stores, user by user."""

    equal: int = 0
    only_here: int = 0
    """Users that only the replay has."""
    only_there: int = 0
    """Users that only the store has."""
    different: int = 0
    """Users of both whose states are not the same."""
    first: list[Difference] = field(default_factory=list)
    """The first of those that are not equal, in order of user id."""

    @property
    def users(self) -> int:
        """Users compared."""
        return self.equal + self.only_here + self.only_there + self.different

    @property
    def same(self) -> bool:
        """Whether every user is in both, and equal."""
        return self.equal == self.users


def verify(
    settings: Settings, store: Path, stop: Stop, on_stage: Stage
) -> tuple[Replayed, Comparison | None]:
    """Replay as `recstream.runtime.replay.replay` does, then compare every user with those of ``store``.

    Nothing is compared (None) when the replay was interrupted. The store is held until the end, and stays
    as it is; texts come from its cache (unless ``cache.path`` names another), so that they are not encoded
    again.

    Raises:
        StoreBusyError: a job is running on one of the stores.
        StoreError: there is no store, or it was made with other settings.
        ConnectorError, EncoderError: as for a replay.
    """
    there = settings.model_copy(update={"store": settings.store.model_copy(update={"path": str(store)})})
    cache = settings.cache.model_copy(update={"path": str(there.cache_dir)})
    here = settings.model_copy(update={"cache": cache})
    with _users(there):
        pass  # what is wrong with it is said before the replay, and before a lock makes its folder
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
    """Compare every user of two stores, a thousand at a time; nobody may write to them meanwhile.

    ``first`` limits how many of those that are not equal are named.
    """
    found = Comparison()
    ids = (user_id for user_id, _ in groupby(heapq.merge(here.ids(), there.ids())))
    while chunk := list(islice(ids, _CHUNK)):
        mine, theirs = here.fetch(chunk), there.fetch(chunk)
        names = Catalogue(0)  # for handles alone, and for this chunk alone, so that it stays small
        for user_id in chunk:
            what = _between(mine.get(user_id), theirs.get(user_id), names, found)
            if what and len(found.first) < first:
                found.first.append(Difference(user_id, what))
    return found


def _between(one: UserRow | None, other: UserRow | None, names: Catalogue, found: Comparison) -> list[str]:
    """What differs between two rows of a user, counted in ``found``."""
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
    """The users of a store that must exist."""
    wiring = Wiring(settings, maintains=False, create=False)
    try:
        yield wiring.database.users
    finally:
        wiring.close()
