"""A store on disk: opened, checked against the configuration, and handed out as its stores."""

from __future__ import annotations

import logging
import math
import threading
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from recstream.stores.base import StoreError, StoreMeta
from recstream.stores.lance.arrow import item_schema, model_schema, statistics_schema, user_schema
from recstream.stores.lance.erasure import ErasureNote
from recstream.stores.lance.errors import translated
from recstream.stores.lance.journal import Journal, not_merged, recover
from recstream.stores.lance.journalled_users import JournalledUserStore, UnmergedUserStore, merge_batches
from recstream.stores.lance.keyed_table import KeyedTable, committed
from recstream.stores.lance.limits import be_frugal, bounded_session
from recstream.stores.lance.locks import folder_lock
from recstream.stores.lance.maintenance import Maintenance, Upkeep
from recstream.stores.lance.meta import generation_of, read_meta, write_meta
from recstream.stores.lance.tables import (
    LanceItemStore,
    LanceModelStore,
    LanceStatisticsStore,
    LanceUserStore,
)
from recstream.stores.meta import check_fit, no_store

__all__ = ["LanceDatabase", "connect"]

log = logging.getLogger(__name__)

_JOURNAL: Final = "users.journal"
"""Folder of the rows that are not in the table of users yet."""
_DYING_S: Final = 10.0
"""Seconds that a killed process may take to be gone."""


class LanceDatabase:
    """One folder with the tables ``meta``, ``users``, ``items``, ``statistics`` and ``models``.

    Threads may share it, and several processes may open one folder as long as each row has one
    writer. Open it after ``spawn``, never before ``fork``.
    """

    def __init__(
        self,
        path: Path,
        meta: StoreMeta,
        *,
        generation: int,
        users: LanceUserStore,
        items: LanceItemStore,
        statistics: LanceStatisticsStore,
        models: LanceModelStore,
    ) -> None:
        self.path = path
        self.meta = meta
        self.generation = generation
        self.users = users
        self.items = items
        self.statistics = statistics
        self.models = models
        self._erasures = ErasureNote(path)
        self._upkeep = threading.RLock()

    @classmethod
    def open(
        cls,
        path: Path,
        meta: StoreMeta,
        *,
        create: bool,
        alone: bool,
        upkeep: Upkeep,
    ) -> LanceDatabase:
        """Open the store in that folder, or make it when ``create`` is true.

        ``alone``: no other job may be writing it, so one that seems to is waited for a
        moment: it is dying. With neither, the caller only looks: nothing is written, and its users are
        those of the last barrier of a job that runs.

        Raises:
            StoreMismatchError: it holds a store of another layout, or one made with another encoder, dim
                or number of shards, or whose events were counted by other rules. Actions that were added
                are no difference; with ``create``, they are noted.
            StoreError: the folder cannot be used.
        """
        folder = path.absolute()
        if create:
            _check_folder(folder, create=True)
        else:
            cls.require(folder)
        with translated(str(folder), "opening the store"), folder_lock(folder):
            connection = connect(folder)
            stored = read_meta(connection, folder)
            if stored is None:
                _refuse_foreign(folder)
                write_meta(connection, folder, meta)  # first: what exists without it is not ours
            else:
                check_fit(folder, stored, meta)
                if create and stored.rules != meta.rules:
                    write_meta(connection, folder, meta)
            generation = generation_of(connection, folder)

            def table(name: str, key: str, schema: Any) -> KeyedTable:
                return KeyedTable.open(connection, folder, name, schema, key=key, create=create)

            users = table("users", "user_id", user_schema(meta.dim))
            items = table("items", "item_id", item_schema(meta.dim))
            statistics = table("statistics", "item_id", statistics_schema())
            models = table("models", "name", model_schema())
            tidied, note = Maintenance(users, upkeep), ErasureNote(folder)
            if create or alone:
                stored_users = LanceUserStore(users, meta.dim, tidied, note)
                _recover(folder, stored_users, wait_s=_DYING_S if alone else 0.0)
            else:
                stored_users = UnmergedUserStore(users, meta.dim, tidied, note, not_merged(folder / _JOURNAL))
        return cls(
            folder,
            meta,
            generation=generation,
            users=stored_users,
            items=LanceItemStore(items, meta.dim, Maintenance(items, upkeep)),
            statistics=LanceStatisticsStore(statistics, Maintenance(statistics, upkeep)),
            models=LanceModelStore(models, Maintenance(models, upkeep)),
        )

    @cached_property
    def journalled_users(self) -> JournalledUserStore:
        """The users, for the process that writes them at every barrier."""
        return JournalledUserStore(self.users, Journal(self.path / _JOURNAL))

    @staticmethod
    def users_alone(path: Path, dim: int) -> LanceUserStore:
        """The users of a store of this layout or of layout 2, whose users are the same. Creates nothing.

        Raises:
            StoreError: there are none, or they cannot be read.
        """
        folder = LanceDatabase.require(path)
        connection = connect(folder)
        users = KeyedTable.open(connection, folder, "users", user_schema(dim), key="user_id", create=False)
        maintenance = Maintenance(users, Upkeep(every_s=math.inf, keep_s=math.inf))
        store = LanceUserStore(users, dim, maintenance, ErasureNote(folder))
        with translated(str(folder), "opening the store"), folder_lock(folder):
            _recover(folder, store, wait_s=0.0)
        return store

    @staticmethod
    def inspect(path: Path) -> StoreMeta | None:
        """What the store there was made with; None when there is none. Creates nothing.

        Raises:
            StoreError: it is not a folder, or it cannot be read.
        """
        folder = path.absolute()
        if not folder.exists():
            return None
        _check_folder(folder, create=False)
        with translated(str(folder), "reading the store's meta table"):
            if not committed(folder, "meta"):
                return None
            return read_meta(connect(folder), folder)

    @staticmethod
    def require(path: Path) -> Path:
        """The folder of the store there. Creates nothing.

        Raises:
            StoreError: there is no store.
        """
        folder = path.absolute()
        _check_folder(folder, create=False)
        if not committed(folder, "meta"):
            raise no_store(folder, "holds no recstream store")
        return folder

    def maintain(self) -> None:
        """Tidy the tables that are due, from one process of a job only; nothing while a thread is at it."""
        if not self._upkeep.acquire(blocking=False):
            return
        try:
            if self._erasures.is_due:
                self.purge()
            self.users.maintain()
            self.items.maintain()
            self.statistics.maintain()
            self.models.maintain()
        finally:
            self._upkeep.release()

    def purge(self) -> bool:
        """Return when no bytes of the users erased so far are on the disk; False where some have to stay.

        Their rows are in older versions of the table of users, their sessions in those of models. How long a
        file of over a million rows keeps them is told by `Maintenance.purge`.
        """
        with self._upkeep:
            if not self._erasures.is_written:
                return True
            self._erasures.take()
            is_gone = self.users.purge()
            is_gone = self.models.purge() and is_gone
            self._erasures.drop()
            return is_gone


def _recover(folder: Path, users: LanceUserStore, *, wait_s: float) -> None:
    """Merge the journals of processes that died, of each user the row written last."""
    batches = recover(folder / _JOURNAL, partial(merge_batches, users), wait_s=wait_s)
    if batches:
        log.info("merged the journal of a process that died: store=%s batches=%d", folder, batches)


def connect(folder: Path) -> Any:
    """Connect to a store's folder; what lance holds for it in memory is bounded."""
    import lancedb

    be_frugal()
    return lancedb.connect(str(folder), session=bounded_session())


def _check_folder(folder: Path, *, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise StoreError(str(folder), "is a file, not a folder", "point store.path to a folder")
    if not folder.exists():
        if not create:
            raise no_store(folder, "does not exist")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            mend = "point store.path to a folder that can be written, or give this user the right to"
            raise StoreError(str(folder), f"cannot be created ({error.strerror})", mend) from error


def _refuse_foreign(folder: Path) -> None:
    foreign = sorted(name for name in ("users", "items", "statistics", "models") if committed(folder, name))
    if foreign:
        problem = f"has tables ({', '.join(foreign)}) but no meta table: they are not recstream's"
        raise StoreError(str(folder), problem, "choose an empty folder as store.path")
