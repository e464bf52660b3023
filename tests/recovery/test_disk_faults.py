"""Disks fill up or are read-only, caches break: the job names the mend, and the next start loses nothing."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recstream.connectors.files.formats import FileFault
from recstream.connectors.files.sink import JsonLinesSink
from recstream.encoders.disk_cache import LmdbVectorCache
from recstream.records.transport import Message
from tests.recovery.small_disk import SmallDisk
from tests.support.commands import HASHING, recstream
from tests.support.deployments import ITEMS, Deployment
from tests.support.live_jobs import LiveJob, live_job, wait_until
from tests.support.logs import events, item, read_lines, versions_after, write_lines
from tests.support.stored_users import assert_same_users, stored_users
from tests.support.topics import produce

pytestmark = pytest.mark.kafka


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk to be moved to where it is to hurt."""
    made = SmallDisk(tmp_path / "state", 64 * 1024)
    yield made
    made.close()


def ended(job: LiveJob) -> int:
    """Exit code of a job that ends by itself."""
    wait_until(lambda: job.process.poll() is not None, job.text)
    return int(job.process.returncode)


def one_line(job: LiveJob) -> str:
    return " ".join(job.text().split())


def test_a_full_disk_ends_the_job_and_with_room_it_goes_on(deployment: Deployment, disk: SmallDisk) -> None:
    log = events(200, items=ITEMS)
    chosen = {**deployment.settings(), "RECSTREAM_RUN__RESTARTS": "0"}
    with live_job(deployment.log, chosen) as job:
        deployment.up(log[:50], job)
        disk.fill()
        produce(deployment.bootstrap, deployment.topics["events"], log[50:180])
        assert ended(job) == 1
    assert "free disk space" in one_line(job)
    assert "Traceback" not in job.text()
    disk.resize(128 * 1024)
    with live_job(deployment.log, chosen) as job:
        produce(deployment.bootstrap, deployment.topics["events"], log[180:])
        wait_until(deployment.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    deployment.assert_as_without_trouble(log)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("users.lance", "writing"),
        ("positions", "cannot be kept: database or disk is full; free disk space"),
    ],
)
def test_whatever_part_of_the_store_is_full_it_is_named(
    deployment: Deployment, tmp_path: Path, folder: str, said: str
) -> None:
    log = events(200, items=ITEMS)
    chosen = {**deployment.settings(), "RECSTREAM_RUN__RESTARTS": "1"}
    disk = SmallDisk(deployment.state / folder, 8 * 1024)
    try:
        with live_job(deployment.log, chosen) as job:
            deployment.up(log[:50], job)
            disk.fill()
            produce(deployment.bootstrap, deployment.topics["events"], log[50:180])
            assert ended(job) == 1
        assert said in one_line(job)
        assert "free disk space" in one_line(job)
        disk.make_room()
        with live_job(deployment.log, chosen) as job:
            produce(deployment.bootstrap, deployment.topics["events"], log[180:])
            wait_until(deployment.delivered(log), job.text)
            assert job.stop() == 0, job.text()
        deployment.assert_as_without_trouble(log)
    finally:
        disk.close()


def test_a_store_that_cannot_be_written_is_named_at_the_start(tmp_path: Path, disk: SmallDisk) -> None:
    disk.read_only(on=True)
    done = recstream("run", "--store", disk.path, *HASHING)
    assert done.returncode == 1
    assert "cannot be written (Read-only file system)" in " ".join(done.stderr.split())
    assert "give this user the right to write there" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_file_of_output_on_a_full_disk_is_an_error_that_says_to_make_room(disk: SmallDisk) -> None:
    part = JsonLinesSink(disk.path / "lists.jsonl").build_part("out", "lists.jsonl", None)
    disk.fill()
    with pytest.raises(FileFault, match=r"No space left on device.*free disk space; the same command"):
        part.write_batch([Message(b"u1", b"x" * 8192, ())])
    disk.make_room()
    part.close()


@pytest.mark.slow
@pytest.mark.parametrize("full", ["out", "dead_letter"])
def test_a_backfill_whose_output_is_full_says_so_and_the_same_command_ends_it(
    tmp_path: Path, full: str
) -> None:
    log = events(300, items=ITEMS)
    bad = [b'{"user_id": "' + b"x" * 2000 + b'"}' for _ in range(200)]
    given = (
        *("--items", write_lines(tmp_path / "items.jsonl", [item(number) for number in range(ITEMS)])),
        *("--events", write_lines(tmp_path / "events.jsonl", [*log, *bad])),
        *("--set", "backfill.epoch_s=0.05", "--set", "backfill.max_rejects=1000"),
        *("--set", "events.fuse_run=0", "--set", "events.fuse_share=1", *HASHING),
    )

    def command(where: Path, state: Path) -> tuple[str | Path, ...]:
        places = {
            name: str((where if name == full else state) / f"{name}.jsonl") for name in ("out", "dead_letter")
        }
        sets = ("--set", f"backfill.dead_letter={places['dead_letter']}")
        return ("backfill", *given, "--state", state, "--out", places["out"], *sets)

    small = SmallDisk(tmp_path / "small", 64)
    try:
        done = recstream(*command(small.path, tmp_path / "state"))
        assert done.returncode == 1, done.stderr
        assert f"cannot write: {small.path / full}.jsonl: got No space left on device" in " ".join(
            done.stderr.split()
        )
        assert "free disk space; the same command then goes on where it was" in " ".join(done.stderr.split())
        small.resize(64 * 1024)
        done = recstream(*command(small.path, tmp_path / "state"))
        assert done.returncode == 0, done.stderr
        assert recstream(*command(tmp_path, tmp_path / "plain")).returncode == 0
        for name in ("out", "dead_letter"):
            one = (small.path if name == full else tmp_path / "state") / f"{name}.jsonl"
            other = (tmp_path if name == full else tmp_path / "plain") / f"{name}.jsonl"
            if name == "out":
                last = [
                    {line["user_id"]: line["version"] for line in read_lines(path)} for path in (one, other)
                ]
                assert last[0] == last[1] == versions_after(log)
            else:
                sources = [
                    sorted(line["source"]["offset"] for line in read_lines(path)) for path in (one, other)
                ]
                assert sources[0] == sources[1] == list(range(300, 500))
        assert_same_users(stored_users(tmp_path / "state"), stored_users(tmp_path / "plain"))
    finally:
        small.close()


def vectors(count: int) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    texts = [f"text {number}" for number in range(count)]
    return texts, np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)


@pytest.mark.parametrize("when", ["before it is made", "before it is opened again", "while it is open"])
def test_a_cache_on_a_full_disk_makes_misses_and_never_stops_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """LMDB's lock file is mapped: a page of it that the disk has no room for would be a SIGBUS."""
    texts, rows = vectors(20)
    disk = SmallDisk(tmp_path / "cache", 400)
    try:
        cache = LmdbVectorCache(disk.path, "test", 8, max_mb=64)
        if when != "before it is made":
            cache.put_many(texts[:1], rows[:1])
        if when == "before it is opened again":
            cache.close()
            cache = LmdbVectorCache(disk.path, "test", 8, max_mb=64)
        disk.fill()
        with caplog.at_level(logging.WARNING):
            many, more = vectors(4000)
            cache.put_many(many, more)
        assert len(cache.get_many(texts)) == 20
        assert len(caplog.records) == 1, caplog.text
        cache.close()
    finally:
        disk.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["full", "full from the start", "garbage at the start", "garbage", "locked", "gone"]
)
def test_whatever_happens_to_the_cache_the_job_goes_on(
    deployment: Deployment, tmp_path: Path, fault: str
) -> None:
    log = events(200, items=ITEMS)
    folder = deployment.state / "cache"
    disk = SmallDisk(folder, 400 if "full" in fault else 64 * 1024)
    gate = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT)
    try:
        if fault == "full from the start":
            disk.fill()
        if fault == "garbage at the start":
            (folder / "data.mdb").write_bytes(os.urandom(64 * 1024))
        with live_job(deployment.log, deployment.settings()) as job:
            deployment.up(log[:50], job)
            if fault == "full":
                disk.fill()
            elif fault == "garbage":
                with (folder / "data.mdb").open("r+b") as file:
                    file.write(os.urandom((folder / "data.mdb").stat().st_size))
            elif fault == "locked":
                fcntl.flock(gate, fcntl.LOCK_EX)
            elif fault == "gone":
                (folder / "data.mdb").unlink()
                (folder / "lock.mdb").unlink()
            produce(deployment.bootstrap, deployment.topics["events"], log[50:])
            wait_until(deployment.delivered(log), job.text)
            assert job.stop() == 0, job.text()
        assert "a process died" not in job.text()
        if fault != "gone":
            assert job.text().count("vector cache folder=") == 1, job.text()
        deployment.assert_as_without_trouble(log)
    finally:
        os.close(gate)
        disk.close()
