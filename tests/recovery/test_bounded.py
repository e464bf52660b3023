"""Bounded (G5): disk by the live data, memory by the user cache, whatever was ever written or read."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.stores.base import StoreMeta
from recstream.stores.lance import LanceDatabase, Upkeep, limits
from recstream.stores.lance import database as database_module
from recstream.stores.lance.maintenance import Maintenance, disk_bytes
from recstream.testing.stores import DIM, unit, user_row
from recstream.users.codec import UserRow
from tests.bench.bench_memory import memory as memory_of
from tests.support.commands import HASHING, command, environment, recstream
from tests.support.live_jobs import live_job
from tests.support.logs import T0, events, item, read_lines, versions_after, write_lines
from tests.support.stored_users import assert_same_users, stored_users
from tests.support.stores import open_lance
from tests.support.topics import Reader, produce, producing

META = StoreMeta(schema=3, encoder="hashing@1", dim=DIM, shards=32, rules="{}")
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
    write(open_lance(folder, META))
    return disk_bytes(folder / f"{table}.lance")


def worn(folder: Path, *, rows: int, a_barrier: int, barriers: int, upkeep: Upkeep) -> float:
    """Replace some rows of the user table at each barrier.

    Gives the most that the disk held, less the slack, over the live data.
    """
    random = np.random.default_rng(1)
    live = live_bytes(folder / "copy", lambda copy: copy.users.upsert(users(range(rows), 0)), "users")
    database = open_lance(folder / "store", META, upkeep=upkeep)
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
    now = 0.0
    database = open_lance(tmp_path, META)
    upkeep = Upkeep(every_s=300.0, keep_s=0.0, index_from=index_from)
    table = database.users._table
    maintenance = Maintenance(table, upkeep, clock=lambda: now)
    database.users.upsert([*users(range(500), 0), user_row("Erase Me", state=b"Known Of Them" * 100)])

    def holding(mark: bytes) -> list[str]:
        files = [path for path in (tmp_path / "users.lance").rglob("*") if path.is_file()]
        return [path.name for path in files if mark in path.read_bytes()]

    def rest() -> None:
        nonlocal now
        for _ in range(4):
            now += upkeep.every_s
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


@pytest.mark.parametrize("refresh", [pytest.param("batch", marks=pytest.mark.slow), "event"])
def test_the_smallest_hot_set_gives_the_rows_and_the_lists_of_one_that_holds_all(
    tmp_path: Path, refresh: str
) -> None:
    """By the real backfill on real tables; users come back after they were let go, some after an erasure."""
    log = events(1_500, users=400, items=40)
    for at in range(400, len(log), 300):
        log[at] = {"user_id": log[at - 1]["user_id"], "ts": log[at]["ts"], "action": "forget"}
    write_lines(tmp_path / "items.jsonl", [item(number) for number in range(40)])
    write_lines(tmp_path / "events.jsonl", log)
    found = []
    for hot_users in (100, 20_000):
        folder = tmp_path / str(hot_users)
        done = recstream(
            *("backfill", "--items", tmp_path / "items.jsonl", "--events", tmp_path / "events.jsonl"),
            *("--refresh", refresh, "--out", folder / "lists.jsonl", "--state", folder / "state", *HASHING),
            *("--set", f"store.hot_users={hot_users}", "--set", "backfill.epoch_s=0.05"),
        )
        assert done.returncode == 0, done.stderr
        lists = [line for line in read_lines(folder / "lists.jsonl")]
        for one in lists:
            for own in ("generated_at", "generation"):
                one.pop(own, None)
        found.append((lists, stored_users(folder / "state")))
    assert found[0][0] == found[1][0]
    assert found[0][1].keys() == found[1][1].keys()
    erased = {one["user_id"] for one in log if one["action"] == "forget"}
    mine, theirs = ({user: row for user, row in rows.items() if user not in erased} for _, rows in found)
    assert len(mine) > 300
    assert_same_users(mine, theirs, tolerance=0.0)


def test_lance_keeps_no_more_in_memory_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many commits there were: it never lets go by itself of what it keeps of each."""
    monkeypatch.setattr(limits, "INDEX_CACHE_BYTES", 256 * 1024)
    monkeypatch.setattr(limits, "METADATA_CACHE_BYTES", 256 * 1024)
    sessions = []
    made = limits.bounded_session

    def noted() -> Any:
        sessions.append(made())
        return sessions[-1]

    monkeypatch.setattr(database_module, "bounded_session", noted)
    database = open_lance(tmp_path, META)
    for barrier in range(100):
        database.users.upsert(users(range(20), barrier))
        database.users.fetch(["u1", "u2"])
    (session,) = sessions
    assert 100_000 < session.size_bytes < 2 * 256 * 1024 * 1.2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_users_and_items_ever_seen(tmp_path: Path) -> None:
    """Of a process that meets ever new users, and unknown items, its last third is as its second."""
    count = 90_000
    write_lines(tmp_path / "items.jsonl", [item(number) for number in range(200)])
    with (tmp_path / "events.jsonl").open("wb") as file:
        for number in range(count):
            known = number % 3 != 0
            event = {"user_id": f"u{number}", "ts": T0 + number / 100, "action": "view"}
            event["item_id"] = f"i{number % 200}" if known else f"never{number}"
            file.write(orjson.dumps(event) + b"\n")
    words: list[str | Path] = [
        "backfill",
        "--items",
        tmp_path / "items.jsonl",
        "--events",
        tmp_path / "events.jsonl",
    ]
    words += [
        "--refresh",
        "batch",
        "--out",
        tmp_path / "lists.jsonl",
        "--state",
        tmp_path / "state",
        *HASHING,
    ]
    words += ["--set", "store.hot_users=500", "--set", "backfill.epoch_s=0.2", "--max-rejects", str(count)]
    held: list[float] = []
    with subprocess.Popen(command(*words), env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            now = memory_of(process.pid)
            if now is not None and (tmp_path / "lists.jsonl").exists():
                held.append(now["RssAnon"])
            time.sleep(0.05)
        errors = process.communicate()[1]
    assert process.returncode == 0, errors
    third = len(held) // 3
    second, last = (statistics.median(held[k * third : (k + 1) * third]) for k in (1, 2))
    assert last < 1.15 * second, f"{[round(value) for value in held[:: max(1, third // 5)]]} MiB"


@pytest.mark.slow
@pytest.mark.kafka
def test_the_live_job_leaves_few_files_however_often_it_commits(
    broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path
) -> None:
    """Many barriers, each of which writes to the journal, and far fewer merges into the table of users."""
    topics = {name: topic(name) for name in ("events", "items", "lists", "dead-letters")}
    produce(broker.bootstrap, topics["items"], [item(number) for number in range(40)])
    settings = {
        "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
        "RECSTREAM_KAFKA__EVENTS_TOPIC": topics["events"],
        "RECSTREAM_KAFKA__ITEMS_TOPIC": topics["items"],
        "RECSTREAM_KAFKA__LISTS_TOPIC": topics["lists"],
        "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": topics["dead-letters"],
        "RECSTREAM_KAFKA__GROUP": topics["events"],
        "RECSTREAM_STORE__PATH": str(tmp_path / "state"),
        "RECSTREAM_STORE__REFRESH_S": "0.5",
        "RECSTREAM_STORE__COMPACT_EVERY_S": "1",
        "RECSTREAM_STORE__KEEP_VERSIONS_S": "1",
        "RECSTREAM_ENCODER__BACKEND": "hashing",
        "RECSTREAM_RUN__EPOCH_S": "0.05",
        "RECSTREAM_RUN__METRICS_PORT": "0",
    }
    table = tmp_path / "state" / "users.lance"
    log = events(3_000, items=40)
    most = 0
    with (
        closing(Reader(broker.bootstrap, topics["lists"])) as lists,
        live_job(tmp_path / "job.log", settings) as job,
    ):
        thread = producing(broker.bootstrap, topics["events"], log, pace_s=0.1)
        while lists.versions() != versions_after(log):
            assert job.process.poll() is None, job.text()
            if table.exists():
                most = max(most, len(list(table.glob("data/*"))))
        thread.join()
        assert job.stop() == 0, job.text()
    summary = orjson.loads((tmp_path / "state" / "summaries" / "0.json").read_bytes())
    assert summary["epochs"] > 60, "a busy machine makes fewer in the time, never as few as there are files"
    assert most < 30, "merges are seconds apart, and upkeep makes few files of theirs"
