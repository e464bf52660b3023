"""The stores over one LanceDB folder, and the functions of a registered store."""

from __future__ import annotations

from pathlib import Path

from recstream.stores.base import StoreMeta
from recstream.stores.lance.database import LanceDatabase
from recstream.stores.lance.maintenance import Upkeep
from recstream.stores.lance.migrations import upgrade_store

__all__ = ["LanceDatabase", "Upkeep", "inspect_store", "open_store", "open_users", "upgrade_store"]

inspect_store = LanceDatabase.inspect
open_users = LanceDatabase.users_alone


def open_store(
    path: Path,
    meta: StoreMeta,
    *,
    create: bool,
    alone: bool,
    compact_every_s: float,
    keep_versions_s: float,
) -> LanceDatabase:
    """`LanceDatabase.open` with the settings of section ``store``."""
    upkeep = Upkeep(every_s=compact_every_s, keep_s=keep_versions_s)
    return LanceDatabase.open(path, meta, create=create, alone=alone, upkeep=upkeep)
