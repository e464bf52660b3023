"""The LanceDB store as a whole: opening, conflicts between processes, crashes, disk use."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from recstream.records.actions import actions_with
from recstream.stores.base import StoreError, StoreMeta, StoreMismatchError
from recstream.stores.lance import LanceDatabase, Upkeep
from recstream.stores.lance.errors import write_again
from recstream.stores.lance.maintenance import disk_bytes
from recstream.stores.lance.tables import LanceUserStore
from recstream.testing.stores import DIM, item_row, unit, user_row
from recstream.users.counting_rules import counting_rules
from tests.support.stores import open_lance

RULES = counting_rules(actions_with({"wishlist": 2.5}), (1, 5), 30)
META = StoreMeta(schema=3, encoder="hashing@1", dim=DIM, shards=32, rules=RULES)
EAGER = Upkeep(every_s=0, keep_s=0.2, index_from=500, look_s=0, rest=0)
ROOT = Path(__file__).parents[2]
ROWS_A_CALL = 20


def files_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def start(job: str, *words: object) -> subprocess.Popen[bytes]:
    """One of the functions at the end of this file, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, __file__, job, *map(str, words)], env=env)


# Opening and checking


def test_a_store_opened_again_holds_what_was_written(tmp_path: Path) -> None:
    open_lance(tmp_path / "a" / "b", META).users.upsert([user_row("u")])
    again = open_lance(str(tmp_path / "a" / "b"), META, create=False)
    assert again.users.fetch(["u"])["u"].version == 1
    assert again.meta == META


@pytest.mark.parametrize(
    ("field", "value", "mend"),
    [
        ("encoder", "minilm@2", "catalogue load"),
        ("dim", DIM + 1, "catalogue load"),
        ("shards", 64, "set store.shards = 32"),
    ],
)
def test_a_differing_store_is_refused_with_both_values_and_a_mend(
    tmp_path: Path, field: str, value: Any, mend: str
) -> None:
    open_lance(tmp_path, META)
    before = files_below(tmp_path)
    with pytest.raises(StoreMismatchError) as caught:
        open_lance(tmp_path, META._replace(**{field: value}))
    text = str(caught.value)
    for part in (str(tmp_path), field, repr(getattr(META, field)), repr(value), mend):
        assert part in text
    assert files_below(tmp_path) == before


def test_a_store_of_an_older_layout_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    path = tmp_path / "a store"
    open_lance(path, META)
    with pytest.raises(StoreMismatchError, match="has layout 3, this release works on 4") as caught:
        open_lance(path, META._replace(schema=4))
    assert f"`recstream upgrade --state '{path}'`" in caught.value.mend


def test_a_store_of_a_newer_layout_is_refused_whatever_else_differs(tmp_path: Path) -> None:
    open_lance(tmp_path, META)
    with pytest.raises(StoreMismatchError, match=r"layout 3.*up to 2.*install the newer recstream") as caught:
        open_lance(tmp_path, META._replace(schema=2, shards=7))
    assert "shards" not in str(caught.value)


def rules_with(weights: dict[str, float], *, scale: tuple[float, float] = (1, 5), days: float = 30) -> str:
    return counting_rules(actions_with(weights), scale, days)


@pytest.mark.parametrize(
    ("rules", "said", "back"),
    [
        (
            rules_with({"wishlist": 2}),
            "events.actions.wishlist was 2.5, is 2.0",
            "events.actions.wishlist = 2.5",
        ),
        (
            rules_with({"wishlist": -2.5}),
            "events.actions.wishlist was [2.5, 'item', True], is [-2.5, 'item', False]",
            "events.actions.wishlist = 2.5",
        ),
        (
            rules_with({}),
            "events.actions.wishlist was 2.5, is no action any more",
            "events.actions.wishlist = 2.5",
        ),
        (
            rules_with({"wishlist": 2.5}, scale=(0, 5)),
            "events.rating_min was 1.0, is 0.0",
            "events.rating_min = 1.0",
        ),
        (
            rules_with({"wishlist": 2.5}, days=7.5),
            "profile.half_life_days was 30.0, is 7.5",
            "profile.half_life_days = 30.0",
        ),
    ],
    ids=["weight", "sign", "removed", "scale", "half-life"],
)
def test_a_changed_rule_of_counting_is_refused_with_both_values_and_every_way_out(
    tmp_path: Path, rules: str, said: str, back: str
) -> None:
    open_lance(tmp_path, META)
    with pytest.raises(StoreMismatchError) as caught:
        open_lance(tmp_path, META._replace(rules=rules))
    assert said in caught.value.problem
    for way in (f"set back {back}", "recstream backfill", f"upgrade --state {tmp_path} --accept-rules"):
        assert way in caught.value.mend
    assert LanceDatabase.inspect(tmp_path) == META


def test_an_action_that_was_added_is_noted_and_can_then_not_be_changed_silently(tmp_path: Path) -> None:
    open_lance(tmp_path, META)
    more = META._replace(rules=rules_with({"wishlist": 2.5, "gift": 4}))
    open_lance(tmp_path, more, create=False)
    assert LanceDatabase.inspect(tmp_path) == META, "a look notes nothing"
    open_lance(tmp_path, more)
    assert LanceDatabase.inspect(tmp_path) == more
    with pytest.raises(StoreMismatchError, match=r"events.actions.gift was 4.0, is 3.0"):
        open_lance(tmp_path, META._replace(rules=rules_with({"wishlist": 2.5, "gift": 3})))


def test_every_difference_is_reported_at_once(tmp_path: Path) -> None:
    open_lance(tmp_path, META)
    with pytest.raises(StoreMismatchError) as caught:
        open_lance(tmp_path, StoreMeta(4, "other", 99, 1, RULES))
    for said in ("has layout 3", "made with encoder ", "made with shards "):
        assert said in caught.value.problem


def test_a_store_error_survives_pickling() -> None:
    error = StoreError("/p", "is broken", "mend it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert (type(again), str(again), again.mend) == (StoreError, str(error), "mend it")


def test_inspect_gives_what_is_stored_and_creates_nothing(tmp_path: Path) -> None:
    assert LanceDatabase.inspect(tmp_path / "none") is None
    assert LanceDatabase.inspect(tmp_path) is None
    assert files_below(tmp_path) == set()
    open_lance(tmp_path, META)
    before = files_below(tmp_path)
    assert LanceDatabase.inspect(tmp_path) == META
    assert files_below(tmp_path) == before


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreError, match=r"file.*To mend it: .*store.path"):
            open_lance(path, META)
    with pytest.raises(StoreError, match="not a folder"):
        LanceDatabase.inspect(tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_named() -> None:
    """``/proc`` refuses even root."""
    with pytest.raises(StoreError, match=r"/proc/recstream: cannot be created .*To mend it"):
        open_lance("/proc/recstream", META)
    with pytest.raises(StoreError, match=r"store /proc: opening the store failed.*To mend it"):
        open_lance("/proc", META)


def test_without_create_a_missing_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "there", tmp_path / "none"):
        with pytest.raises(StoreError, match="check the path"):
            open_lance(path, META, create=False)
    assert files_below(tmp_path) == {tmp_path / "there"}


@pytest.mark.parametrize("table", ["meta", "users"])
def test_a_corrupt_table_is_named(tmp_path: Path, table: str) -> None:
    open_lance(tmp_path, META)
    for manifest in (tmp_path / f"{table}.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"garbage")
    with pytest.raises(StoreError, match=r"failed: .*To mend it"):
        open_lance(tmp_path, META)
    if table == "meta":
        with pytest.raises(StoreError, match="To mend it"):
            LanceDatabase.inspect(tmp_path)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    open_lance(tmp_path, META)
    columns: dict[str, Any] = {"user_id": pa.string(), "shard": pa.string(), "extra": pa.int64()}
    other = pa.schema(columns)
    lancedb.connect(str(tmp_path)).create_table("users", schema=other, mode="overwrite")
    with pytest.raises(StoreError) as caught:
        open_lance(tmp_path, META)
    text = str(caught.value)
    for part in ("users: the table has other columns", "shard is string, wanted int32", "extra is int64",
                 "state is absent", "replay"):  # fmt: skip
        assert part in text


def test_foreign_tables_are_not_taken_over(tmp_path: Path) -> None:
    lancedb.connect(str(tmp_path)).create_table("users", schema=pa.schema({"x": pa.int64()}))
    with pytest.raises(StoreError, match="no meta table"):
        open_lance(tmp_path, META)


def test_a_creation_that_was_killed_is_completed(tmp_path: Path) -> None:
    open_lance(tmp_path, META)
    for name in ("users", "statistics"):
        for manifest in (tmp_path / f"{name}.lance" / "_versions").glob("*"):
            manifest.unlink()
    open_lance(tmp_path, META).users.upsert([user_row("u")])
    assert open_lance(tmp_path, META).users.count() == 1


def test_a_key_stored_twice_is_reported(tmp_path: Path) -> None:
    store = open_lance(tmp_path, META).users
    store.upsert([user_row("u")])
    table = lancedb.connect(str(tmp_path)).open_table("users")
    table.add(table.to_arrow())
    with pytest.raises(StoreError, match=r'"u" is stored twice.*only one job'):
        store.fetch(["u"])


# Threads and processes


def write_calls(path: str, writer: int, calls: int) -> None:
    store = open_lance(path, META).users
    for call in range(calls):
        mine = keys(writer, call)
        store.upsert([user_row(key, call) for key in mine])
        assert {row.version for row in store.fetch(mine).values()} == {call}


def keys(writer: int, call: int) -> list[str]:
    """Half of them new with each call, half written by the call before."""
    return [f"w{writer}-{call * ROWS_A_CALL // 2 + k}" for k in range(ROWS_A_CALL)]


def expected(writers: Sequence[int], calls: int) -> dict[str, int]:
    return {key: call for writer in writers for call in range(calls) for key in keys(writer, call)}


def stored(store: LanceUserStore, path: Path) -> dict[str, int]:
    """Everything in the table, read past the store; no key twice."""
    rows = lancedb.connect(str(path)).open_table("users").to_arrow()
    ids = rows["user_id"].to_pylist()
    assert len(set(ids)) == len(ids) == store.count()
    return dict(zip(ids, rows["version"].to_pylist(), strict=True))


def test_processes_write_disjoint_keys_while_one_maintains(tmp_path: Path) -> None:
    """No row lost, none doubled, no conflict seen, and another process's writes are visible."""
    path, calls = tmp_path / "store", 25
    jobs = [start("write_calls", path, writer, calls) for writer in (1, 2)]
    database = open_lance(path, META, upkeep=EAGER)
    versions = {database.users.version()}
    call = 0
    while any(job.poll() is None for job in jobs):
        if call < calls:
            database.users.upsert([user_row(key, call) for key in keys(0, call)])
            call += 1
        database.maintain()
        versions.add(database.users.version())
        time.sleep(0.05)
    assert [job.wait() for job in jobs] == [0, 0]
    for late in range(call, calls):
        database.users.upsert([user_row(key, late) for key in keys(0, late)])
    assert len(versions) > 2
    assert stored(database.users, path) == expected([0, 1, 2], calls)


def test_threads_share_a_folder(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(writer: int) -> None:
        try:
            write_calls(str(tmp_path), writer, 10)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stored(open_lance(tmp_path, META).users, tmp_path) == expected(range(3), 10)


def test_readers_read_on_while_versions_vanish(tmp_path: Path) -> None:
    """A clean-up may remove the version a read has just chosen; the read is then done again."""
    upkeep = Upkeep(every_s=0, keep_s=0, look_s=0, rest=0)
    database = open_lance(tmp_path, META, upkeep=upkeep)
    reader = open_lance(tmp_path, META)
    database.users.upsert([user_row(f"u{number}") for number in range(200)])
    database.items.upsert([item_row("i")])
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                assert len(reader.users.fetch([f"u{number}" for number in range(200)])) == 200
                assert len(reader.items.changed_since(-1)) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(30):
        database.users.upsert([user_row(f"u{number}", version) for number in range(0, 200, 3)])
        database.items.upsert([item_row("i", version)])
        database.maintain()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_only_lost_commits_are_tried_again() -> None:
    tries: list[int] = []

    def lose(times: int, message: str) -> str:
        tries.append(1)
        if len(tries) <= times:
            raise RuntimeError(message)
        return "done"

    assert write_again(lambda: lose(2, "lance error: Retryable commit conflict for version 7")) == "done"
    assert len(tries) == 3
    tries.clear()
    with pytest.raises(RuntimeError, match="No space"):
        write_again(lambda: lose(9, "No space left on device"))
    assert len(tries) == 1


# Crashes


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.07, 0.13])
def test_a_kill_inside_an_upsert_leaves_all_rows_or_none(tmp_path: Path, delay: float) -> None:
    """All rows are of one call; writing goes on, and maintenance removes what the dead left behind."""
    database = open_lance(tmp_path, META, upkeep=EAGER)
    job = start("write_for_ever", tmp_path, 20_000)
    while database.users.count() == 0:
        assert job.poll() is None
        time.sleep(0.005)
    time.sleep(delay)
    job.kill()
    job.wait()
    rows = database.users.fetch([f"u{number}" for number in range(50)])
    assert len(rows) == 50
    assert len({row.version for row in rows.values()}) == 1
    database.users.upsert([user_row("u0", 10**6)])
    assert database.users.fetch(["u0"])["u0"].version == 10**6
    time.sleep(EAGER.keep_s + 0.05)
    for _ in range(2):
        database.maintain()
        time.sleep(EAGER.keep_s + 0.05)
    database.maintain()
    assert disk_bytes(tmp_path / "users.lance") < 1.5 * 50 * 20_000


# Maintenance


def test_disk_use_stays_bounded_over_many_small_upserts(tmp_path: Path) -> None:
    """Within three times the live data; without maintenance it would be seven times."""
    live_rows, state = 2_000, 2_000
    upkeep = Upkeep(every_s=0.5, keep_s=0.1, look_s=0.05, slack_bytes=0, index_from=100, rest=0)
    database = open_lance(tmp_path, META, upkeep=upkeep)
    random = np.random.default_rng(0)
    noise = random.bytes(state + 1_000)

    def rows(numbers: Sequence[int], version: int) -> None:
        database.users.upsert(
            [user_row(f"u{n}", version, vector=unit(n), state=noise[n : n + state]) for n in numbers]
        )

    rows(range(live_rows), 0)
    live, most = live_rows * (state + 4 * DIM + 60), 0
    for version in range(1, 250):
        rows([int(n) for n in random.choice(live_rows, 20, replace=False)], version)
        database.maintain()
        most = max(most, disk_bytes(tmp_path / "users.lance"))
    assert most < 3 * live
    assert database.users.count() == live_rows
    for _ in range(3):  # rows the index knows and rows it does not are only merged by the second run
        time.sleep(0.6)
        database.maintain()
    assert disk_bytes(tmp_path / "users.lance") < 1.3 * live


def test_a_table_that_grew_gets_an_index_and_small_ones_do_not(tmp_path: Path) -> None:
    database = open_lance(tmp_path, META, upkeep=EAGER)
    users = lancedb.connect(str(tmp_path)).open_table("users")
    for first in (0, 400):
        database.users.upsert([user_row(f"u{number}") for number in range(first, first + 400)])
        database.users.maintain()
        users.checkout_latest()
        assert len(list(users.list_indices())) == (first + 400 >= EAGER.index_from)
    database.users.upsert([user_row(f"u{number}", 9) for number in range(300, 1000)])
    found = database.users.fetch([f"u{number}" for number in range(1100)])
    assert {row.version for row in found.values()} == {1, 9}
    assert len(found) == 1000


def test_maintenance_waits_for_its_time(tmp_path: Path) -> None:
    database = open_lance(tmp_path, META)
    database.users.upsert([user_row("u")])
    before = database.users.version()
    for _ in range(5):
        database.maintain()
    assert database.users.version() == before


def test_negative_upkeep_is_refused() -> None:
    with pytest.raises(ValueError, match="every_s, keep_s must not be negative"):
        Upkeep(every_s=-1, keep_s=-1)


def test_ids_survive_as_json(tmp_path: Path) -> None:
    """An id that came through JSON escapes is found under the very same string."""
    store = open_lance(tmp_path, META).users
    user_id = json.loads(r'"\u0000\ud83d\ude00\\\"' "'" r'"')
    store.upsert([user_row(user_id)])
    assert list(store.fetch([user_id])) == [user_id]


def write_for_ever(path: str, big: int) -> None:
    store = open_lance(path, META).users
    version = 0
    while True:
        version += 1
        store.upsert([user_row(f"u{number}", version, state=b"x" * big) for number in range(50)])


if __name__ == "__main__":
    _, _job, _path, *_words = sys.argv
    if _job == "write_calls":
        write_calls(_path, int(_words[0]), int(_words[1]))
    else:
        write_for_ever(_path, int(_words[0]))
