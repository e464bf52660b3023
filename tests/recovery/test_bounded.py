"""Bounded (guarantee G5): disk by the live data, memory by the hot set, whatever was ever written or seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from recstream.io.lance import LanceDatabase, Upkeep
from recstream.io.lance.maintenance import Maintenance, disk_bytes
from recstream.ports import UserRow
from recstream.testing.store_contracts import unit, user_row
from tests.io.test_lance_database import META

STATE = 4_000
NOISE = np.random.default_rng(0).bytes(10 * STATE)


def users(numbers: Sequence[int], version: int) -> list[UserRow]:
    """Rows that do not compress."""
    return [
        user_row(f"u{n}", version, vector=unit(n), state=NOISE[(n + version) % (9 * STATE) :][:STATE])
        for n in numbers
    ]


class Disk:
    """A table's disk use, looked at all the time: a compaction's peak is inside of it."""

    def __init__(self, files: Path) -> None:
        self._files = files
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0
        self.looks = 0

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.most = max(self.most, disk_bytes(self._files))
            self.looks += 1

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def live_bytes(folder: Path, write: Callable[[LanceDatabase], None], table: str) -> int:
    """What the rows take when they are written once into a new store."""
    write(LanceDatabase.open(folder, META))
    return disk_bytes(folder / f"{table}.lance")


def worn(folder: Path, *, rows: int, a_barrier: int, barriers: int, upkeep: Upkeep) -> float:
    """Replace some rows of the user table at each barrier.

    Gives the most that the disk held, less the slack, over the live data.
    """
    random = np.random.default_rng(1)
    live = live_bytes(folder / "copy", lambda copy: copy.users.upsert(users(range(rows), 0)), "users")
    database = LanceDatabase.open(folder / "store", META, upkeep=upkeep)
    with Disk(folder / "store" / "users.lance") as disk:
        database.users.upsert(users(range(rows), 0))
        for barrier in range(1, barriers + 1):
            database.users.upsert(users(random.choice(rows, a_barrier, replace=False).tolist(), barrier))
            database.maintain()
    assert database.users.count() == rows
    assert disk.looks > barriers
    return (disk.most - upkeep.slack_bytes) / live


@pytest.mark.parametrize(
    "barriers", [150, pytest.param(3_000, marks=pytest.mark.slow)], ids=["short", "thousands of barriers"]
)
@pytest.mark.parametrize("share", [0.01, 0.1], ids=["a hundredth", "a tenth"])
def test_the_disk_holds_at_most_three_times_the_live_data(
    tmp_path: Path, barriers: int, share: float
) -> None:
    """At any moment, however many users change at each barrier, and though old versions should stay long."""
    rows, slack = 1_000, 400_000
    upkeep = Upkeep(every_s=5, keep_s=60, look_s=0.01, slack_bytes=slack, index_from=100, fragments=64)
    assert worn(tmp_path, rows=rows, a_barrier=int(share * rows), barriers=barriers, upkeep=upkeep) <= 3.0


@pytest.mark.parametrize("index_from", [10, 10_000], ids=["with an index", "without an index"])
def test_the_bytes_of_an_erased_user_leave_the_disk_of_a_store_at_rest(
    tmp_path: Path, index_from: int
) -> None:
    """Id and state, from all files, though nothing else is ever written and all is compact."""
    moment = 0.0
    database = LanceDatabase.open(tmp_path, META)
    upkeep = Upkeep(every_s=300.0, keep_s=0.0, index_from=index_from)
    table = database.users._table
    maintenance = Maintenance(table, upkeep, clock=lambda: moment)
    database.users.upsert([*users(range(500), 0), user_row("Erase Me", state=b"Known Of Them" * 100)])

    def holding(mark: bytes) -> list[str]:
        files = [path for path in (tmp_path / "users.lance").rglob("*") if path.is_file()]
        return [path.name for path in files if mark in path.read_bytes()]

    def rest() -> None:
        nonlocal moment
        for _ in range(4):
            moment += upkeep.every_s
            maintenance.run_when_due()

    rest()
    assert holding(b"Erase Me")
    assert holding(b"Known Of Them")
    database.users.delete(["Erase Me"])
    rest()
    assert holding(b"Erase Me") == []
    assert holding(b"Known Of Them") == []
    assert database.users.count() == 500
    before = table.version()
    rest()
    assert table.version() == before, "at rest again"
