"""The store contracts, on the fakes and on LanceDB (maintaining at every chance)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from recstream.stores.base import ItemStore, ModelStore, StatisticsStore, StoreMeta, UserStore
from recstream.stores.lance import LanceDatabase, Upkeep
from recstream.stores.memory import MemoryItemStore, MemoryModelStore, MemoryStatisticsStore, MemoryUserStore
from recstream.testing.stores import (
    DIM,
    ItemStoreContract,
    ModelStoreContract,
    StatisticsStoreContract,
    UserStoreContract,
)
from tests.support.stores import open_lance

EAGER = Upkeep(every_s=0, keep_s=0, index_from=1, look_s=0, rest=0)
META = StoreMeta(schema=3, encoder="hashing@1", dim=DIM, shards=32, rules="{}")


class OnDisk:
    folders: itertools.count[int]
    root: Path

    @pytest.fixture(autouse=True)
    def fresh_root(self, tmp_path: Path) -> None:
        self.root, self.folders = tmp_path, itertools.count()

    def database(self) -> LanceDatabase:
        return open_lance(self.root / str(next(self.folders)), META, upkeep=EAGER)


class TestMemoryUserStore(UserStoreContract):
    def make(self) -> UserStore:
        return MemoryUserStore(DIM)


class TestLanceUserStore(OnDisk, UserStoreContract):
    def make(self) -> UserStore:
        return self.database().users


class TestJournalledUserStore(OnDisk, UserStoreContract):
    def make(self) -> UserStore:
        return self.database().journalled_users


class TestUnmergedUserStore(OnDisk, UserStoreContract):
    def make(self) -> UserStore:
        number = next(self.folders)
        open_lance(self.root / str(number), META)
        return open_lance(self.root / str(number), META, create=False, upkeep=EAGER).users


class TestMemoryItemStore(ItemStoreContract):
    def make(self) -> ItemStore:
        return MemoryItemStore(DIM)


class TestLanceItemStore(OnDisk, ItemStoreContract):
    def make(self) -> ItemStore:
        return self.database().items


class TestMemoryStatisticsStore(StatisticsStoreContract):
    def make(self) -> StatisticsStore:
        return MemoryStatisticsStore()


class TestLanceStatisticsStore(OnDisk, StatisticsStoreContract):
    def make(self) -> StatisticsStore:
        return self.database().statistics


class TestMemoryModelStore(ModelStoreContract):
    def make(self) -> ModelStore:
        return MemoryModelStore()


class TestLanceModelStore(OnDisk, ModelStoreContract):
    def make(self) -> ModelStore:
        return self.database().models
