"""A store of one's own: the example of docs/extending.md under the contracts, and the registered ones."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recstream.config import ConfigError, Settings
from recstream.runtime.wiring import Wiring
from recstream.stores import STORES, require_store, store_module
from recstream.stores.base import (
    ItemStore,
    ModelStore,
    StatisticsStore,
    Store,
    StoreError,
    StoreMeta,
    StoreMismatchError,
    UserStore,
)
from recstream.testing.stores import (
    DIM,
    ItemStoreContract,
    ModelStoreContract,
    StatisticsStoreContract,
    UserStoreContract,
    user_row,
)
from tests.support.documents import snippets

MODULE, ROW, SUITE = snippets("extending.md", "A store")
META = StoreMeta(schema=3, encoder="hashing@1", dim=DIM, shards=32, rules="{}")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The example's file is there and its row is in the table."""
    module = ModuleType("recstream.stores.pickled")
    exec(MODULE, module.__dict__)  # noqa: S102 - our own page
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setitem(STORES, "pickled", "")  # taken out again
        exec(ROW, {"STORES": STORES})  # noqa: S102 - our own page
        yield


def new_store() -> Store:
    names: dict[str, Any] = {"__name__": __name__}
    exec(SUITE, names)  # noqa: S102 - our own page
    store: Store = names["new_store"]()
    return store


def opened(backend: str, path: Path, meta: StoreMeta = META, *, create: bool = True) -> Store:
    return store_module(backend).open_store(
        path, meta, create=create, alone=True, compact_every_s=300.0, keep_versions_s=60.0
    )


class TestUsersOfTheExample(UserStoreContract):
    def make(self) -> UserStore:
        return new_store().users


class TestItemsOfTheExample(ItemStoreContract):
    def make(self) -> ItemStore:
        return new_store().items


class TestStatisticsOfTheExample(StatisticsStoreContract):
    def make(self) -> StatisticsStore:
        return new_store().statistics


class TestModelsOfTheExample(ModelStoreContract):
    def make(self) -> ModelStore:
        return new_store().models


@pytest.mark.parametrize("backend", ["lancedb", "pickled"])
def test_a_store_that_lasts_is_there_when_it_is_opened_again(tmp_path: Path, backend: str) -> None:
    path, module = tmp_path / "state", store_module(backend)
    assert module.inspect_store(path) is None
    with pytest.raises(StoreError, match="does not exist"):
        require_store(backend, path)
    opened(backend, path).users.upsert([user_row("u1", 3)])
    assert require_store(backend, path) == META
    assert opened(backend, path, create=False).users.fetch(["u1"])["u1"].version == 3
    assert module.open_users(path, DIM).ids() == ["u1"]
    assert list(module.upgrade_store(path, META.schema, META.rules, accept=False, dry_run=False)) == []
    with pytest.raises(StoreMismatchError, match=r"store\.shards = 32"):
        opened(backend, path, META._replace(shards=4))


@pytest.mark.parametrize("backend", ["lancedb", "pickled"])
def test_a_later_store_has_a_greater_generation_and_a_copy_the_same(tmp_path: Path, backend: str) -> None:
    before = time.time() * 1000
    first = opened(backend, tmp_path / "one").generation
    assert before - 1 <= first <= time.time() * 1000
    time.sleep(0.002)
    assert opened(backend, tmp_path / "two").generation > first
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    for name in ("one", "copy"):
        assert opened(backend, tmp_path / name).generation == first


def test_a_store_in_memory_is_seen_by_nobody_else(tmp_path: Path) -> None:
    opened("memory", tmp_path).users.upsert([user_row("u1")])
    for look in (
        lambda: require_store("memory", tmp_path),
        lambda: opened("memory", tmp_path, create=False),
        lambda: store_module("memory").open_users(tmp_path, DIM),
        lambda: store_module("memory").upgrade_store(tmp_path, 3, "{}", accept=False, dry_run=False),
    ):
        with pytest.raises(StoreError, match="To mend it: check the path"):
            look()


def test_positions_without_the_state_in_memory_that_belongs_to_them_are_refused(tmp_path: Path) -> None:
    (tmp_path / "positions").mkdir()
    with pytest.raises(StoreError, match="delete the folder to begin anew"):
        opened("memory", tmp_path)


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    chosen = {"store.path": str(tmp_path), "store.backend": "memory", "encoder.backend": "hashing"}
    wiring = Wiring(Settings.load(None, {}, chosen))
    assert wiring.database.users.count() == 0
    assert type(wiring.database).__name__ == "MemoryDatabase"
    wiring.close()
    with pytest.raises(ConfigError, match="wanted one process"):
        Settings.load(None, {}, {**chosen, "run.processes": 2})
