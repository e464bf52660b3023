"""What a store was made with, and whether that fits what is wanted of it now."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from recstream.stores.base import StoreError, StoreMeta, StoreMismatchError
from recstream.users.counting_rules import changes

__all__ = ["Misfit", "check_fit", "misfit", "misfits", "no_store"]


class Misfit(NamedTuple):
    """One thing that keeps a store from being used."""

    name: str
    """``schema``, ``encoder``, ``dim``, ``shards`` or ``rules``."""
    problem: str
    mend: str


def misfits(folder: Path, stored: StoreMeta, wanted: StoreMeta) -> Iterator[Misfit]:
    """Everything in which a store is not what the configuration and this release want."""
    upgrade = f"recstream upgrade --state {shlex.quote(str(folder))}"
    again = "choose another store.path, run `recstream catalogue load` and replay the events"
    if stored.schema > wanted.schema:
        problem = f"has layout {stored.schema}, this release knows them up to {wanted.schema}"
        yield Misfit("schema", problem, "install the newer recstream that wrote it")
        return  # what the rest of it means is not known here
    if stored.schema < wanted.schema:
        problem = f"has layout {stored.schema}, this release works on {wanted.schema}"
        yield Misfit("schema", problem, f"stop what runs on it, then run `{upgrade}`")
    mends = {
        "encoder": f"set the section encoder back, or re-encode: {again}",
        "dim": f"set the section encoder back, or re-encode: {again}",
        "shards": f"set store.shards = {stored.shards}, or {again}",
    }
    for name, mend in mends.items():
        was, now = getattr(stored, name), getattr(wanted, name)
        if was != now and not (name == "dim" and stored.encoder != wanted.encoder):
            yield Misfit(name, f"was made with {name} {was!r}, the configuration says {now!r}", mend)
    if stored.schema == wanted.schema:
        yield from _changed_rules(stored, wanted, upgrade)


def _changed_rules(stored: StoreMeta, wanted: StoreMeta, upgrade: str) -> Iterator[Misfit]:
    changed = [one for one in changes(stored.rules, wanted.rules) if not one.is_new_action]
    if changed:
        mend = (
            f"set back {', '.join(one.setting_back for one in changed)}; or replay the log into a new store "
            f"(`recstream backfill`); or accept it from here on with `{upgrade} --accept-rules`, after which "
            "old events keep the weight they were counted with"
        )
        problem = f"its events were counted by other rules: {'; '.join(map(str, changed))}"
        yield Misfit("rules", problem, mend)


def check_fit(folder: Path, stored: StoreMeta, wanted: StoreMeta) -> None:
    """Refuse a store that does not fit.

    Raises:
        StoreMismatchError: naming everything that differs, with both values and the mends.
    """
    found = list(misfits(folder, stored, wanted))
    if found:
        raise misfit(folder, found)


def misfit(folder: Path, found: Sequence[Misfit]) -> StoreMismatchError:
    """What to raise for a store that does not fit: all that was found, and all the mends."""
    problems, mends = ("; ".join(parts) for parts in zip(*(one[1:] for one in found), strict=True))
    return StoreMismatchError(str(folder), problems, mends)


def no_store(folder: Path, problem: str) -> StoreError:
    """What to raise where a store has to be and is not."""
    mend = "check the path; `recstream run`, `backfill` and `catalogue load` make a store where there is none"
    return StoreError(str(folder), problem, mend)
