"""Rows written down beside their table: none is lost with the process, none half-written counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.stores.base import StoreError, StoreMeta
from recstream.stores.lance.arrow import users_table
from recstream.stores.lance.journal import Journal, recover
from recstream.stores.lance.journalled_users import JournalledUserStore
from recstream.stores.memory import MemoryUserStore
from recstream.testing.stores import DIM, user_row
from tests.support.stores import UPKEEP, open_lance

META = StoreMeta(schema=3, encoder="hashing@1", dim=DIM, shards=32, rules="{}")


def rows(*numbers: int) -> Any:
    return pa.table({"n": list(numbers)})


def left_in(folder: Path) -> list[list[int]]:
    """What a process that finds the folder takes up."""
    found: list[Any] = []
    assert recover(folder, found.extend) == len(found)
    return [batch["n"].to_pylist() for batch in found]


def die_with(folder: Path, code: str) -> None:
    """Run code in a process that then kills itself."""
    script = f"import os, signal\nfrom pathlib import Path\nfolder = Path({str(folder)!r})\n{code}\n"
    script += "os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


WRITES = """
import pyarrow as pa
from recstream.stores.lance.journal import Journal
journal = Journal(folder)
"""


def test_batches_survive_their_writer_in_order(tmp_path: Path) -> None:
    code = "for k in range(3):\n    journal.append(pa.table({'n': [k, k + 10]}))\n    journal.turn()"
    die_with(tmp_path, WRITES + code)
    assert left_in(tmp_path) == [[0, 10], [1, 11], [2, 12]]
    assert left_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_wrote_down_is_left_to_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(rows(1))
    assert left_in(tmp_path) == []
    assert journal.turn() == 1
    journal.append(rows(2))
    journal.drop(1)
    assert len(list(tmp_path.iterdir())) == 1


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=4), st.data())
def test_a_batch_that_was_cut_short_does_not_count(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal, ends = Journal(folder), []
    for batch in batches:
        journal.append(pa.table({"n": pa.array(batch, pa.int64())}))
        (path,) = folder.iterdir()
        ends.append(path.stat().st_size)
    raw = path.read_bytes()
    journal.drop(1)
    cut = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:cut])
    assert left_in(folder) == batches[: sum(end <= cut for end in ends)]


def test_a_damaged_batch_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    die_with(tmp_path, WRITES + "journal.append(pa.table({'n': [1]}))")
    (path,) = tmp_path.iterdir()
    raw = bytearray(path.read_bytes())
    raw[-20] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=rf"{path.name}.*damaged.*delete the file"):
        left_in(tmp_path)
    assert path.exists()


def test_a_failed_append_leaves_room_for_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(rows(1))
    write = journal._write

    def half(head: bytes, body: Any) -> None:
        write(head, memoryview(body)[:50])
        raise OSError(28, "No space left on device")

    journal._write = half  # type: ignore[method-assign]  # a full disk
    with pytest.raises(StoreError, match="free disk space"):
        journal.append(rows(2))
    journal._write = write  # type: ignore[method-assign]
    journal.append(rows(3))
    (path,) = tmp_path.iterdir()
    raw = path.read_bytes()
    journal.drop(1)
    path.write_bytes(raw)
    assert left_in(tmp_path) == [[1], [3]]


def test_files_are_taken_in_their_order_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, raws = Journal(tmp_path), {}
    for hours, number in ((10, 1), (5, 2)):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: hours * 3600 * 10**9)
        journal.append(rows(number))
        journal.turn()
    raws = {path: path.read_bytes() for path in tmp_path.iterdir()}
    journal.drop(3)
    for path, raw in raws.items():
        path.write_bytes(raw)
    assert left_in(tmp_path) == [[1], [2]]


def test_a_tail_of_zeros_is_what_a_power_cut_leaves(tmp_path: Path) -> None:
    die_with(tmp_path, WRITES + "journal.append(pa.table({'n': [1]}))")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + bytes(100))
    assert left_in(tmp_path) == [[1]]


def test_a_writer_that_is_dying_is_waited_for(tmp_path: Path) -> None:
    script = f"from pathlib import Path\nfolder = Path({str(tmp_path)!r})\n{WRITES}"
    script += "journal.append(pa.table({'n': [1]}))\nprint('ready', flush=True)\nimport time\ntime.sleep(60)"
    outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen(
        [sys.executable, "-c", outer, script], stdout=subprocess.PIPE, start_new_session=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        assert left_in(tmp_path) == []
        threading.Timer(0.3, os.killpg, (writer.pid, signal.SIGKILL)).start()
        found: list[Any] = []
        recover(tmp_path, found.extend, wait_s=20.0)
    assert [batch["n"].to_pylist() for batch in found] == [[1]]


def test_a_file_that_is_dropped_while_it_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(rows(1))
    (path,) = tmp_path.iterdir()
    opened = Path.open

    def drop_then(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = opened(self, *args, **kwargs)
        journal.drop(1)
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", drop_then)
        assert left_in(tmp_path) == []
    assert not path.exists()


def test_a_file_that_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    new = tmp_path / "1-1-1.new"
    new.touch()
    left_in(tmp_path)
    assert new.exists()
    os.utime(new, (time.time() - 100.0,) * 2)
    left_in(tmp_path)
    assert not new.exists()


STORES = f"""
from recstream.stores.base import StoreMeta
from recstream.testing.stores import DIM, user_row
from tests.support.stores import open_lance
store = open_lance(folder, StoreMeta(3, "hashing@1", {DIM}, 32, "{{}}")).journalled_users
"""


def test_users_written_down_by_one_that_died_are_in_the_store_of_whoever_opens_it(tmp_path: Path) -> None:
    code = """
store.upsert([user_row("a", version=1), user_row("b", version=1)])
store.settle()
store.upsert([user_row("a", version=2)])
store.upsert([user_row("a", version=3), user_row("c", version=1)])
"""
    die_with(tmp_path, STORES + code)
    users = open_lance(tmp_path, META).users
    assert {name: row.version for name, row in users.fetch(["a", "b", "c"]).items()} == {
        "a": 3,
        "b": 1,
        "c": 1,
    }
    assert not list((tmp_path / "users.journal").iterdir())


def journalled(folder: Path) -> JournalledUserStore:
    return open_lance(folder, META, upkeep=UPKEEP).journalled_users


def test_other_readers_see_it_once_settled(tmp_path: Path) -> None:
    store, reader = journalled(tmp_path), open_lance(tmp_path, META).users
    store.upsert([user_row("a")])
    assert not reader.fetch(["a"])
    store.settle()
    assert reader.fetch(["a"])


def test_who_only_looks_sees_what_was_written_down_and_disturbs_nothing(tmp_path: Path) -> None:
    """The rows of a process that lives, and those of one that died."""
    die_with(tmp_path, STORES + 'store.upsert([user_row("dead", version=7)])')
    left = next((tmp_path / "users.journal").iterdir()).read_bytes()
    store = open_lance(tmp_path, META, alone=False).journalled_users
    store.upsert([user_row("a", version=1), user_row("b", version=1)])
    store.settle()
    (tmp_path / "users.journal" / "00000000000000000001-1-1.journal").write_bytes(left)
    store.upsert([user_row("a", version=2)])
    store.upsert([user_row("a", version=3), user_row("c", version=1)])
    before = {path: path.read_bytes() for path in (tmp_path / "users.journal").iterdir()}
    table = store._store.version()
    looks = open_lance(tmp_path, META, create=False)
    wanted = {"a": 3, "b": 1, "c": 1, "dead": 7}
    for users in (looks.users, looks.journalled_users):
        assert {name: row.version for name, row in users.fetch([*wanted, "nobody"]).items()} == wanted
    assert looks.users.ids() == sorted(wanted)
    assert {path: path.read_bytes() for path in (tmp_path / "users.journal").iterdir()} == before
    assert store._store.version() == table
    store.upsert([user_row("a", version=4)])
    store.settle()
    assert open_lance(tmp_path, META, create=False).users.fetch(["a"])["a"].version == 4


def test_who_looks_while_a_batch_is_being_written_sees_those_before_it(tmp_path: Path) -> None:
    store = journalled(tmp_path)
    store.upsert([user_row("a", version=1)])
    store.upsert([user_row("a", version=2)])
    (file,) = (tmp_path / "users.journal").iterdir()
    whole = file.read_bytes()
    for cut in (1, 20, len(whole) // 2 - 1):
        file.write_bytes(whole[:-cut])
        assert open_lance(tmp_path, META, create=False).users.fetch(["a"])["a"].version == 1


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=12),
    st.integers(0, 12),
    st.integers(0, 8),
)
def test_a_table_and_what_is_newer_answer_as_if_all_were_in_the_table(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int]], merged: int, n: int
) -> None:
    folder, plain = tmp_path_factory.mktemp("store"), MemoryUserStore(DIM)
    table, journal = open_lance(folder, META, alone=False).users, Journal(folder / "users.journal")
    for version, (user, unfinished) in enumerate(drawn):
        row = user_row(f"u{user}", version=version, updated_at=float(version), unfinished=unfinished)
        plain.upsert([row])
        if version < merged:
            table.upsert([row])
        else:
            journal.append(users_table([row], table.schema))
    looks = open_lance(folder, META, create=False).users
    names = [f"u{k}" for k in range(8)]
    found, wanted = looks.fetch(names), plain.fetch(names)
    assert {k: (v.version, v.unfinished) for k, v in found.items()} == {
        k: (v.version, v.unfinished) for k, v in wanted.items()
    }
    assert (looks.count(), looks.ids()) == (plain.count(), plain.ids())
    assert looks.unfinished(range(32)) == plain.unfinished(range(32))
    assert [row.user_id for row in looks.newest(n)] == [row.user_id for row in plain.newest(n)]
    vector = np.ones(DIM, np.float32)
    assert [k for k, _ in looks.near(vector, 9)] == [k for k, _ in plain.near(vector, 9)]


def test_settled_it_leaves_no_file(tmp_path: Path) -> None:
    store = journalled(tmp_path)
    for version in (1, 2):
        store.upsert([user_row("a", version=version)])
        assert list((tmp_path / "users.journal").iterdir())
        store.settle()
        assert not list((tmp_path / "users.journal").iterdir())


def test_nothing_of_somebody_erased_stays_written_down(tmp_path: Path) -> None:
    store = journalled(tmp_path)
    store.upsert([user_row("Erase Me", state=b"Known Of Them"), user_row("b")])
    store.delete(["Erase Me"])
    written = [path.read_bytes() for path in (tmp_path / "users.journal").iterdir()]
    assert not any(b"Erase Me" in raw or b"Known Of Them" in raw for raw in written)
    assert store.ids() == ["b"]


def test_many_rows_go_to_the_table_and_are_newer_than_what_was_written_down(tmp_path: Path) -> None:
    store = journalled(tmp_path)
    store.upsert([user_row("u1", version=1)])
    store.upsert([user_row(f"u{k}", version=2) for k in range(3000)])
    assert open_lance(tmp_path, META).users.fetch(["u1"])["u1"].version == 2
    assert store.fetch(["u1"])["u1"].version == 2


def test_a_merge_that_fails_stops_the_next_write(tmp_path: Path) -> None:
    store = journalled(tmp_path)

    def fail(_: Any) -> None:
        raise StoreError("here", "no room", "make some")

    store._store.put = fail  # type: ignore[method-assign, assignment]  # a full disk
    store.upsert([user_row("a")])
    with pytest.raises(StoreError, match="no room"):
        store.settle()
    with pytest.raises(StoreError, match="no room"):
        store.is_settled()
    with pytest.raises(StoreError, match="no room"):
        store.upsert([user_row("b")])
    assert store.fetch(["a"]), "what is written down is still there"
