"""Titles of items in a store, for who prints lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from recstream.config import Settings
from recstream.stores import require_store, store_module
from recstream.stores.base import ItemStore

__all__ = ["StoredTitles"]

_MOST: Final = 100_000
"""Titles remembered; with more of them, all are looked up again."""


class StoredTitles:
    """Titles by item id, looked up in the store of the settings, whatever encoder it was made with.

    Nothing is written, and a job may be running.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        chosen = settings.store
        meta = require_store(chosen.backend, settings.store_dir)
        self._items: ItemStore = (
            store_module(chosen.backend)
            .open_store(
                settings.store_dir,
                meta,
                create=False,
                alone=False,
                compact_every_s=chosen.compact_every_s,
                keep_versions_s=chosen.keep_versions_s,
            )
            .items
        )
        self._known: dict[str, str] = {}

    def of(self, item_ids: Iterable[str]) -> Mapping[str, str]:
        """Titles of these items, as far as they are stored; perhaps of more."""
        absent = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._known]
        if absent:
            if len(self._known) > _MOST:
                self._known.clear()
                return self.of(item_ids)
            self._known |= self._items.titles(absent)
        return self._known
