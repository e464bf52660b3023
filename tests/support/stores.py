"""Stores on disk for tests."""

from __future__ import annotations

from pathlib import Path

from recstream.stores.base import StoreMeta
from recstream.stores.lance import LanceDatabase, Upkeep

__all__ = ["UPKEEP", "open_lance"]

UPKEEP = Upkeep(every_s=300.0, keep_s=60.0)


def open_lance(
    path: Path | str,
    meta: StoreMeta,
    *,
    create: bool = True,
    alone: bool | None = None,
    upkeep: Upkeep = UPKEEP,
) -> LanceDatabase:
    """A LanceDB store, made when ``create`` is true; ``alone`` (None: as ``create``)."""
    waits = create if alone is None else alone
    return LanceDatabase.open(Path(path), meta, create=create, alone=waits, upkeep=upkeep)
