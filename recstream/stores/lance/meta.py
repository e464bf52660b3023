"""What a store was made with, as it is kept, and whether that fits what is wanted of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from recstream.stores.base import StoreMeta
from recstream.stores.lance.errors import StoreError, StoreMismatchError, translated
from recstream.stores.lance.table import committed, creation_mode
from recstream.users.counting_rules import changes

__all__ = ["Misfit", "check_fit", "misfit", "misfits", "no_store", "read_meta", "write_meta"]

_COLUMNS: dict[str, Any] = {
    "schema": pa.int64(),
    "encoder": pa.string(),
    "dim": pa.int64(),
    "shards": pa.int64(),
    "rules": pa.string(),
    "created_at": pa.float64(),
}
_SINCE_2 = {"rules": ""}
"""Columns that layout 1 did not have, and what stands for them."""


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


def read_meta(connection: Any, folder: Path) -> StoreMeta | None:
    """What the store there was made with; None when there is none.

    Raises:
        StoreError: the meta table cannot be read, or is none of ours.
    """
    row = _row(connection, folder)
    return None if row is None else StoreMeta(*(row[name] for name in StoreMeta._fields))


def write_meta(connection: Any, folder: Path, meta: StoreMeta) -> None:
    """Note what the store is made with, in one commit. When it was made stays."""
    before = _row(connection, folder)
    made = time.time() if before is None else before["created_at"]
    row = pa.Table.from_pylist([{**meta._asdict(), "created_at": made}], schema=pa.schema(_COLUMNS))
    connection.create_table("meta", row, mode=creation_mode(folder, "meta"))


def _row(connection: Any, folder: Path) -> dict[str, Any] | None:
    if not committed(folder, "meta"):
        return None
    with translated(str(folder), "reading the meta table"):
        rows = connection.open_table("meta").to_arrow()
    known = {*rows.column_names, *_SINCE_2}
    if len(rows) != 1 or any(name not in known for name in _COLUMNS):
        mend = "restore it from a copy, or replay into another store.path"
        problem = f"its meta table has {len(rows)} rows of {', '.join(rows.column_names)}"
        raise StoreError(str(folder), problem, mend)
    row: dict[str, Any] = {**_SINCE_2, **rows.to_pylist()[0]}
    return row
