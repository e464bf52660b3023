"""Stores: where users, items, statistics and models are kept, in a LanceDB folder or in memory."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:  # the base imports numba, which commands that only print do without
    from recstream.stores.base import StoreMeta, StoreModule

__all__ = ["STORES", "require_store", "store_module"]

STORES: Final[dict[str, str]] = {
    "lancedb": "recstream.stores.lance",
    "memory": "recstream.stores.memory",
}
"""Module by ``store.backend``: imported when it is used, with the functions of a `StoreModule`."""


def store_module(backend: str) -> StoreModule:
    """The module of the stores of that name.

    >>> store_module("memory").inspect_store(Path("state")) is None
    True
    """
    return cast("StoreModule", import_module(STORES[backend]))


def require_store(backend: str, path: Path) -> StoreMeta:
    """What the store at ``path`` was made with. Creates nothing.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    from recstream.stores.meta import no_store

    found = store_module(backend).inspect_store(path)
    if found is None:
        raise no_store(path, "holds no recstream store" if path.exists() else "does not exist")
    return found
