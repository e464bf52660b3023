"""A stream that is mostly refused stops the flow: exit code 4, nothing of the batch kept, no restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.records.dead_letter import raw_of
from tests.support.commands import HASHING, recstream
from tests.support.live_jobs import live_job
from tests.support.logs import events, item, read_lines, versions_after, write_lines
from tests.support.stored_users import stored_users
from tests.support.topics import Reader, produce

BAD = [b"bad %d" % number for number in range(1200)]
OFF = ("--set", "events.fuse_share=1", "--set", "events.fuse_run=0")


def test_a_backfill_stops_and_the_same_command_goes_on_with_the_fuse_off(tmp_path: Path) -> None:
    log = events(300, items=40)
    write_lines(tmp_path / "items.jsonl", [item(number) for number in range(40)])
    write_lines(tmp_path / "events.jsonl", [*log, *BAD, *events(20, items=40, seed=9)])
    args = ("backfill", "--items", "items.jsonl", "--events", "events.jsonl", "--state", "state", *HASHING)
    done = recstream(*args, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    told = " ".join(done.stderr.split())
    assert "error: events: " in told
    assert "of the last 1,000 records were rejected" in told
    assert "events.jsonl:" in told
    assert "got 'bad " in told
    assert "events rejected so far: recstream deadletter list state/dead-letter.jsonl" in told
    assert "items rejected" not in told, "all of them are sound"
    listed = recstream("deadletter", "list", "state/dead-letter.jsonl", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    again = recstream(*args, *OFF, "--max-rejects", "5000", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    letters = read_lines(tmp_path / "state" / "dead-letter.jsonl")
    assert [raw_of(letter) for letter in letters] == BAD, "each once, in order, none lost by the stop"
    users = stored_users(tmp_path / "state")
    assert {user: row.version for user, row in users.items()} == versions_after(
        [*log, *events(20, items=40, seed=9)]
    )


def test_a_catalogue_of_rubbish_is_not_loaded(tmp_path: Path) -> None:
    write_lines(tmp_path / "items.jsonl", BAD)
    done = recstream("catalogue", "load", "items.jsonl", "--store", "state", *HASHING, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "error: items: 1,000 of the last 1,000 records were rejected" in " ".join(done.stderr.split())


def test_the_rejects_of_a_load_that_stopped_are_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "items.jsonl", [*BAD[:20], *(item(number) for number in range(600)), *BAD])
    done = recstream("catalogue", "load", "items.jsonl", "--store", "state", *HASHING, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "items rejected so far: recstream deadletter list state/dead-letter-items.jsonl" in done.stderr
    listed = recstream("deadletter", "list", "state/dead-letter-items.jsonl", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "not_json" in listed.stdout


def test_a_run_can_be_the_limit(tmp_path: Path) -> None:
    write_lines(tmp_path / "events.jsonl", [*events(10), *BAD[:6]])
    args = ["backfill", "--events", "events.jsonl", "--state", "state", *HASHING]
    args += ["--set", "events.fuse_share=1", "--set"]
    done = recstream(*args, "events.fuse_run=6", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "6 records in a row were rejected" in done.stderr
    assert recstream(*args, "events.fuse_run=17", cwd=tmp_path).returncode == 3


def test_a_log_without_its_catalogue_stops_too(tmp_path: Path) -> None:
    write_lines(tmp_path / "events.jsonl", events(1500, items=40))
    args = ("backfill", "--events", "events.jsonl", "--state", "state", *HASHING)
    done = recstream(*args, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    first = done.stderr.partition("error: ")[2].splitlines()[0]
    assert "as unknown_item, such as events.jsonl:" in first
    assert "load the items first (`recstream catalogue load`, --items of a backfill)" in first


def test_the_rejects_of_a_temporary_store_are_not_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "events.jsonl", events(10, items=40))
    made = recstream("backfill", "--events", "events.jsonl", "--state", "state", *HASHING, cwd=tmp_path)
    assert made.returncode == 3, made.stderr
    write_lines(tmp_path / "events.jsonl", [*events(10), *BAD])
    verify = ("backfill", "--events", "events.jsonl", "--verify", "state", *HASHING)
    done = recstream(*verify, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "rejected so far" not in done.stderr
    kept = recstream(*verify, "--set", "backfill.dead_letter=letters.jsonl", cwd=tmp_path)
    assert kept.returncode == 4, kept.stderr
    assert "events rejected so far: recstream deadletter list letters.jsonl" in kept.stderr


@pytest.mark.kafka
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_live_job_ends_by_itself_and_is_not_started_again(
    broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path, processes: int
) -> None:
    names = {name: topic(name) for name in ("events", "items", "lists")}
    letters = topic("dead_letter")
    settings = {f"RECSTREAM_KAFKA__{name.upper()}_TOPIC": made for name, made in names.items()}
    settings |= {
        "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": letters,
        "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
        "RECSTREAM_STORE__PATH": str(tmp_path / "state"),
        "RECSTREAM_ENCODER__BACKEND": "hashing",
        "RECSTREAM_RUN__EPOCH_S": "0.2",
        "RECSTREAM_RUN__METRICS_PORT": "0",
        "RECSTREAM_RUN__RESTARTS": "5",
    }
    produce(broker.bootstrap, names["items"], [item(number) for number in range(40)])
    produce(broker.bootstrap, names["events"], BAD)
    with live_job(tmp_path / "job.log", settings, "--processes", str(processes)) as job:
        assert job.process.wait(60) == 4, job.text()
        assert "restart=" not in job.text()
        assert "events: 1,000 of the last 1,000 records were rejected" in " ".join(job.text().split())
        assert "not started again" in " ".join(job.text().split())
    reader = Reader(broker.bootstrap, letters)
    assert not reader.poll(), "nothing of the batch that blew the fuse was written"
    reader.close()
