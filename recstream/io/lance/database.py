"""A store on disk: opened, checked against the configuration, and handed out as three stores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from recstream.io.lance.arrow import SCHEMA_KEY, item_schema, statistics_schema, user_schema
from recstream.io.lance.errors import StoreError, translated
from recstream.io.lance.items import LanceItemStore
from recstream.io.lance.locks import folder_lock
from recstream.io.lance.maintenance import Maintenance, Upkeep
from recstream.io.lance.memory import bounded_session, few_arenas
from recstream.io.lance.statistics import LanceStatisticsStore
from recstream.io.lance.table import KeyedTable, committed, creation_mode
from recstream.io.lance.users import LanceUserStore
from recstream.ports import StoreMeta

__all__ = ["LanceDatabase"]

_COLUMNS: dict[str, Any] = {
    "schema": pa.int64(),
    "encoder": pa.string(),
    "dim": pa.int64(),
    "shards": pa.int64(),
    "created_at": pa.float64(),
}


class LanceDatabase:
    """One folder with the tables ``meta``, ``users``, ``items`` and ``statistics``.

    Threads may share it, and several processes may open one folder as long as each row has one
    writer. Open it after ``spawn``, never before ``fork``.
    """

    def __init__(
        self,
        path: Path,
        meta: StoreMeta,
        *,
        users: LanceUserStore,
        items: LanceItemStore,
        statistics: LanceStatisticsStore,
    ) -> None:
        self.path = path
        self.meta = meta
        self.users = users
        self.items = items
        self.statistics = statistics

    @classmethod
    def open(
        cls, path: str | Path, meta: StoreMeta, *, create: bool = True, upkeep: Upkeep | None = None
    ) -> LanceDatabase:
        """Open the store in that folder, or make it when ``create`` is true.

        Raises:
            StoreError: the folder cannot be used, or holds a store made with another schema,
                encoder, dim or number of shards.
        """
        folder = _local(path)
        upkeep = Upkeep() if upkeep is None else upkeep
        _check_folder(folder, create=create)
        with translated(str(folder), "opening the store"), folder_lock(folder):
            connection = _connect(folder)
            stored = _read_meta(connection, folder)
            if stored is None:
                _refuse_foreign(folder, create=create)
                _write_meta(connection, folder, meta)  # first: what exists without it is not ours
            else:
                _check_meta(folder, stored, meta)

            def table(name: str, key: str, schema: Any) -> KeyedTable:
                return KeyedTable.open(connection, folder, name, schema, key=key, create=create)

            users = table("users", "user_id", user_schema(meta.dim, meta.schema))
            items = table("items", "item_id", item_schema(meta.dim, meta.schema))
            statistics = table("statistics", "item_id", statistics_schema(meta.schema))
        return cls(
            folder,
            meta,
            users=LanceUserStore(users, meta.dim, Maintenance(users, upkeep)),
            items=LanceItemStore(items, meta.dim, Maintenance(items, upkeep)),
            statistics=LanceStatisticsStore(statistics, Maintenance(statistics, upkeep)),
        )

    @staticmethod
    def inspect(path: str | Path) -> StoreMeta | None:
        """What the store there was made with; None when there is none. Creates nothing.

        Raises:
            StoreError: it is not a folder, or it cannot be read.
        """
        folder = _local(path)
        if not folder.exists():
            return None
        _check_folder(folder, create=False)
        with translated(str(folder), "reading the store's meta table"):
            if not committed(folder, "meta"):
                return None
            return _read_meta(_connect(folder), folder)

    def maintain(self) -> None:
        """Tidy the tables that are due. From one process of a job only."""
        self.users.maintain()
        self.items.maintain()
        self.statistics.maintain()


def _local(path: str | Path) -> Path:
    if "://" in str(path):
        raise StoreError(str(path), "is not a local folder", "set store.path to a folder on a local disk")
    return Path(path).expanduser().absolute()


def _connect(folder: Path) -> Any:
    import lancedb

    few_arenas()
    return lancedb.connect(str(folder), session=bounded_session())


def _check_folder(folder: Path, *, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise StoreError(str(folder), "is a file, not a folder", "point store.path to a folder")
    if not folder.exists():
        if not create:
            mend = "start the job once, which creates it, or correct store.path"
            raise StoreError(str(folder), "does not exist", mend)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            mend = "point store.path to a folder that can be written, or give this user the right to"
            raise StoreError(str(folder), f"cannot be created ({error.strerror})", mend) from error


def _read_meta(connection: Any, folder: Path) -> StoreMeta | None:
    if not committed(folder, "meta"):
        return None
    with translated(str(folder), "reading the meta table"):
        rows = connection.open_table("meta").to_arrow()
    if len(rows) != 1 or any(name not in rows.column_names for name in StoreMeta._fields):
        mend = "restore it from a copy, or replay into another store.path"
        problem = f"its meta table has {len(rows)} rows of {', '.join(rows.column_names)}"
        raise StoreError(str(folder), problem, mend)
    row = rows.to_pylist()[0]
    return StoreMeta(*(row[name] for name in StoreMeta._fields))


def _write_meta(connection: Any, folder: Path, meta: StoreMeta) -> None:
    row = pa.Table.from_pylist([{**meta._asdict(), "created_at": time.time()}], schema=pa.schema(_COLUMNS))
    row = row.replace_schema_metadata({SCHEMA_KEY: str(meta.schema).encode()})
    connection.create_table("meta", row, mode=creation_mode(folder, "meta"))


def _refuse_foreign(folder: Path, *, create: bool) -> None:
    if not create:
        mend = "start the job once, which creates it, or correct store.path"
        raise StoreError(str(folder), "holds no recstream store", mend)
    foreign = sorted(name for name in ("users", "items", "statistics") if committed(folder, name))
    if foreign:
        problem = f"has tables ({', '.join(foreign)}) but no meta table: they are not recstream's"
        raise StoreError(str(folder), problem, "choose an empty folder as store.path")


def _check_meta(folder: Path, stored: StoreMeta, wanted: StoreMeta) -> None:
    mends = {
        "schema": "run the recstream release that made it, or replay into another store.path",
        "encoder": (
            "set the encoder back, or re-encode: choose another store.path, run `recstream catalogue load` "
            "and replay the events"
        ),
        "dim": "set the encoder back, or re-encode into another store.path with `recstream catalogue load`",
        "shards": f"set store.shards back to {stored.shards}, or replay into another store.path",
    }
    different = [name for name in StoreMeta._fields if getattr(stored, name) != getattr(wanted, name)]
    if different:
        problem = "; ".join(
            f"was made with {name} {getattr(stored, name)!r}, "
            f"the configuration says {getattr(wanted, name)!r}"
            for name in different
        )
        mend = "; ".join(mends[name] for name in different if name != "dim" or "encoder" not in different)
        raise StoreError(str(folder), problem, mend)
