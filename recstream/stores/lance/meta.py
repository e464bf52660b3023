"""The ``meta`` table: one row that says what the store was made with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from recstream.stores.base import StoreError, StoreMeta
from recstream.stores.lance.errors import translated
from recstream.stores.lance.keyed_table import committed, creation_mode
from recstream.stores.meta import no_store

__all__ = ["generation_of", "read_meta", "write_meta"]

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


def generation_of(connection: Any, folder: Path) -> int:
    """When the store there was made, Unix milliseconds: every layout has noted it, and copies keep it.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    row = _row(connection, folder)
    if row is None:
        raise no_store(folder, "holds no recstream store any more")
    return int(row["created_at"] * 1000)


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
