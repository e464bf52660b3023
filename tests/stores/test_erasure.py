"""Of who was erased nothing stays on the disk: no row, no older version, no file, within a minute."""

from __future__ import annotations

import os
import time
from pathlib import Path

import lancedb
import pytest

from recstream.stores.base import StoreMeta
from recstream.stores.lance import LanceDatabase, Upkeep
from recstream.testing.stores import DIM, model_row, user_row
from tests.support.stores import open_lance

META = StoreMeta(schema=3, encoder="hashing@1", dim=DIM, shards=32, rules="{}")
ERASED, STATE, SESSION = "Erase Me", b"Known Of Them" * 100, b"Session Of Them" * 100


def store_with_somebody(folder: Path, *, index_from: int = 10_000, others: int = 50) -> LanceDatabase:
    """A store with a user whose row, and whose sessions among others', were written in several versions."""
    database = open_lance(folder, META, upkeep=Upkeep(every_s=300.0, keep_s=60.0, index_from=index_from))
    for version in (1, 2):
        database.users.upsert([user_row(f"u{k}", version) for k in range(others)])
        database.users.upsert([user_row(ERASED, version, state=STATE)])
        database.models.upsert([model_row("sessions/3", version, state=SESSION)])
    return database


def erase(database: LanceDatabase) -> None:
    """As a barrier does it: the sessions without theirs first."""
    database.models.upsert([model_row("sessions/3", 9, state=b"of others")])
    database.users.delete([ERASED])


def holding(folder: Path) -> set[str]:
    """Files that say anything of them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    marks = (ERASED.encode(), b"Known Of Them", b"Session Of Them")
    return {path.name for path in files if any(mark in path.read_bytes() for mark in marks)}


def versions_with_them(folder: Path) -> list[int]:
    """Versions of the table of users that still give their row."""
    table = lancedb.connect(str(folder)).open_table("users")
    found = []
    for version in [one["version"] for one in table.list_versions()]:
        table.checkout(version)
        if table.count_rows(f"user_id = '{ERASED}'"):
            found.append(version)
    return found


@pytest.mark.parametrize("index_from", [10, 10_000], ids=["with an index", "without an index"])
def test_a_purge_leaves_nothing_of_who_was_erased_and_all_of_others(tmp_path: Path, index_from: int) -> None:
    database = store_with_somebody(tmp_path, index_from=index_from)
    if index_from == 10:
        database.users._maintenance.run()
    erase(database)
    assert versions_with_them(tmp_path)
    assert database.purge()
    assert versions_with_them(tmp_path) == []
    assert holding(tmp_path) == set()
    assert database.users.ids() == sorted(f"u{k}" for k in range(50))
    assert database.models.fetch()["sessions/3"].state == b"of others"


def test_who_came_back_in_the_same_epoch_leaves_nothing_of_before(tmp_path: Path) -> None:
    database = store_with_somebody(tmp_path)
    erase(database)
    database.users.upsert([user_row(ERASED, 1, state=b"anew")])
    assert database.purge()
    assert database.users.fetch([ERASED])[ERASED].state == b"anew"
    assert versions_with_them(tmp_path) == [database.users.version()]
    assert not any(
        b"Known Of Them" in path.read_bytes() for path in tmp_path.rglob("*.lance") if path.is_file()
    )


def test_where_nobody_was_erased_a_purge_does_nothing(tmp_path: Path) -> None:
    database = store_with_somebody(tmp_path)
    before = database.users.version()
    assert database.purge()
    assert database.users.version() == before


def age(folder: Path, seconds: float) -> None:
    """The note of an erasure is so old."""
    then = time.time() - seconds
    os.utime(folder / "erased", (then, then))


def test_the_upkeep_of_a_job_removes_them_within_a_minute_and_not_at_each_barrier(tmp_path: Path) -> None:
    database = store_with_somebody(tmp_path)
    erase(database)
    database.maintain()
    assert versions_with_them(tmp_path), "erasures of some seconds are worked off together"
    age(tmp_path, 25.0)
    database.users.delete(["u1"])  # a later one does not put it off
    database.maintain()
    assert holding(tmp_path) == set()
    before = database.users.version()
    database.maintain()
    assert database.users.version() == before


@pytest.mark.parametrize("left", ["erased", "erasing"])
def test_an_erasure_that_a_killed_job_left_is_finished_by_the_next(tmp_path: Path, left: str) -> None:
    """Killed before the removal began, or in the midst of it."""
    erase(store_with_somebody(tmp_path))
    age(tmp_path, 25.0)
    (tmp_path / "erased").rename(tmp_path / left)
    database = open_lance(tmp_path, META)
    database.maintain()
    assert holding(tmp_path) == set()


def test_somebody_erased_while_others_are_removed_is_left_to_the_next_removal(tmp_path: Path) -> None:
    database = store_with_somebody(tmp_path)
    database.users.delete(["u1"])
    database._erasures.take()
    erase(database)
    database._erasures.drop()
    assert database.purge()
    assert holding(tmp_path) == set()


def test_a_clock_that_was_set_back_does_not_keep_them(tmp_path: Path) -> None:
    database = store_with_somebody(tmp_path)
    erase(database)
    age(tmp_path, -3600.0)
    database.maintain()
    assert holding(tmp_path) == set()
