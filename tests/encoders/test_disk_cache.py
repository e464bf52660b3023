"""The LMDB vector cache: its contract, shared use, and every way a file can be bad."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recstream.encoders import lmdb_environment
from recstream.encoders.base import VectorCache
from recstream.encoders.disk_cache import LmdbVectorCache
from recstream.encoders.lmdb_environment import lease
from recstream.testing.encoders import VectorCacheContract, unit_rows

DIM = 64


def texts_of(writer: int, n: int = 200) -> list[str]:
    return [f"text {i} of {writer}" for i in range(n)]


def write_from(folder: str, writer: int) -> None:
    cache = LmdbVectorCache(folder, "e", DIM, max_mb=16)
    for start in range(0, 200, 20):
        cache.put_many(texts_of(writer)[start : start + 20], unit_rows(200, DIM, writer)[start : start + 20])
    cache.close()


def filled(folder: Path, n: int = 200) -> LmdbVectorCache:
    cache = LmdbVectorCache(folder, "e", DIM, max_mb=16)
    cache.put_many(texts_of(0, n), unit_rows(n, DIM))
    return cache


class TestLmdbVectorCache(VectorCacheContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "made" / "on demand"

    def make(self, identity: str, dim: int) -> VectorCache:
        return LmdbVectorCache(self.path, identity, dim, max_mb=16)


def test_processes_share_one_file(tmp_path: Path) -> None:
    mine = filled(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=write_from, args=(str(tmp_path), writer)) for writer in (1, 2)]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
        assert process.exitcode == 0
    for writer in (0, 1, 2):
        found = mine.get_many(texts_of(writer))
        np.testing.assert_array_equal(np.array(found), unit_rows(200, DIM, writer))
    mine.close()


def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    assert cache.get_many(["text 0 of 0"])[0] is not None
    child = os.fork()
    if child == 0:  # no pytest in the child
        found = cache.get_many(["text 1 of 0"])[0] is not None
        cache.put_many(["from the child"], unit_rows(1, DIM))
        os._exit(0 if found else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.get_many(["from the child"])[0] is not None
    cache.close()


def test_caches_of_one_process_share_an_environment(tmp_path: Path) -> None:
    first = filled(tmp_path)
    second = LmdbVectorCache(tmp_path / ".." / tmp_path.name, "e", DIM, max_mb=16)
    assert second.get_many(["text 0 of 0"])[0] is not None
    first.close()
    assert second.get_many(["text 1 of 0"])[0] is not None
    second.close()
    assert not [key for key in lmdb_environment._open if key[1] == str(tmp_path.resolve())]


def test_a_full_map_makes_room_by_dropping_entries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = LmdbVectorCache(tmp_path, "e", DIM, max_mb=1)
    for writer in range(40):  # 8,000 entries of 276 bytes: more than twice the map
        cache.put_many(texts_of(writer), unit_rows(200, DIM, writer))
    kept = [vector is not None for writer in range(40) for vector in cache.get_many(texts_of(writer))]
    assert 1000 < sum(kept) < 4000
    assert sum(kept[-200:]) > 100, "what was written last is mostly there"
    assert (tmp_path / "data.mdb").stat().st_size <= 1 << 20
    assert caplog.records == []
    cache.close()


def test_a_map_too_small_for_anything_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = LmdbVectorCache(tmp_path, "e", 1 << 19, max_mb=1)
    for _ in range(2):
        cache.put_many(["a"], unit_rows(1, 1 << 19))
    assert cache.get_many(["a"]) == [None]
    assert len(caplog.records) == 1
    assert "set a larger size" in caplog.text
    cache.close()


def test_a_larger_map_of_another_process_is_adopted(tmp_path: Path) -> None:
    small = LmdbVectorCache(tmp_path, "e", DIM, max_mb=1)
    assert small.get_many(["text 0 of 0"]) == [None]
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from recstream.encoders.disk_cache import *;"
        "from recstream.testing.encoders import unit_rows;"
        "LmdbVectorCache(sys.argv[1], 'e', 64, max_mb=32).put_many([f'big {i}' for i in range(9000)],"
        "unit_rows(9000, 64))"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code, str(tmp_path), root], check=True)
    assert small.get_many(["big 8999"])[0] is not None
    small.put_many(["mine"], unit_rows(1, DIM))
    assert small.get_many(["mine"])[0] is not None
    small.close()


@pytest.mark.parametrize("damage", ["garbage", "text", "header"])
def test_a_file_of_another_kind_means_misses_and_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    filled(tmp_path).close()
    path = tmp_path / "data.mdb"
    whole = path.read_bytes()
    path.write_bytes(
        {"garbage": os.urandom(len(whole)), "text": b"hello", "header": bytes(8192) + whole[8192:]}[damage]
    )
    cache = LmdbVectorCache(tmp_path, "e", DIM, max_mb=16)
    for _ in range(2):
        assert cache.get_many(["text 0 of 0"]) == [None]
        cache.put_many(["a"], unit_rows(1, DIM))
    assert len(caplog.records) == 1
    assert "Delete the folder" in caplog.text
    cache.close()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_never_kills_the_process(tmp_path: Path, share: float) -> None:
    filled(tmp_path).close()
    path = tmp_path / "data.mdb"
    os.truncate(path, int(path.stat().st_size * share))
    code = (
        "import sys, numpy as np; from recstream.encoders.disk_cache import *\n"
        "from recstream.testing.encoders import unit_rows\n"
        "c = LmdbVectorCache(sys.argv[1], 'e', 64, max_mb=16)\n"
        "texts = [f'text {i} of 0' for i in range(200)]; rows = unit_rows(200, 64)\n"
        "for _ in range(2):\n"
        "    for text, row in zip(texts, rows):\n"
        "        found = c.get_many([text])[0]\n"
        "        assert found is None or (found == row).all()\n"
        "    c.put_many(texts, rows)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)


def test_an_entry_whose_bytes_changed_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path).close()
    path = tmp_path / "data.mdb"
    target = unit_rows(200, DIM)[7].tobytes()
    content = path.read_bytes()
    assert content.count(target) >= 1
    path.write_bytes(content.replace(target, target[:-1] + bytes([target[-1] ^ 1])))
    cache = LmdbVectorCache(tmp_path, "e", DIM, max_mb=16)
    found = cache.get_many(texts_of(0))
    assert [i for i, vector in enumerate(found) if vector is None] == [7]
    cache.put_many(["text 7 of 0"], unit_rows(200, DIM)[7:8])
    assert cache.get_many(["text 7 of 0"])[0] is not None, "putting it again mends it"
    assert len(caplog.records) == 1
    cache.close()


def test_a_folder_that_cannot_be_made_means_misses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = LmdbVectorCache(tmp_path / "file", "e", DIM, max_mb=16)
    cache.put_many(["a"], unit_rows(1, DIM))
    assert cache.get_many(["a"]) == [None]
    assert len(caplog.records) == 1
    cache.close()


def test_a_writer_that_does_not_let_go_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_environment, "LOCK_WAIT_S", 0.05)
    cache = filled(tmp_path)
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "writer.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        cache.put_many(["a"], unit_rows(1, DIM))
        assert cache.get_many(["a", "text 0 of 0"])[0] is None
        holder.kill()
    cache.put_many(["a"], unit_rows(1, DIM))
    assert cache.get_many(["a"])[0] is not None, "and once it is gone writing goes on"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    cache.close()


def test_a_lease_counts_its_users(tmp_path: Path) -> None:
    first, second = lease(tmp_path, 1), lease(tmp_path, 1)
    assert first is second
    first.release()
    assert lease(tmp_path, 1) is first
    first.release()
    first.release()
    assert lease(tmp_path, 1) is not first
    lmdb_environment._open[(os.getpid(), str(tmp_path.resolve()))].release()
