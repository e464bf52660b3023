"""Killed or stopped, the job goes on where it was: the same rows, every last list, nothing twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.metrics.accounting import accounting, merge_summaries
from recstream.users.codec import UserRow
from tests.support.live import (
    HASHING,
    LiveJob,
    Reader,
    Record,
    alive,
    assert_same_users,
    events,
    item,
    live_job,
    produce,
    producing,
    recstream,
    stored_users,
    versions_after,
    wait_until,
)

pytestmark = pytest.mark.kafka
ITEMS = 40


@dataclass
class World:
    """Topics with items in them, and a store."""

    bootstrap: str
    folder: Path
    topics: dict[str, str]
    lists: Reader

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    def settings(self) -> dict[str, str]:
        return {
            "RECSTREAM_KAFKA__BOOTSTRAP": self.bootstrap,
            "RECSTREAM_KAFKA__EVENTS_TOPIC": self.topics["events"],
            "RECSTREAM_KAFKA__ITEMS_TOPIC": self.topics["items"],
            "RECSTREAM_KAFKA__LISTS_TOPIC": self.topics["lists"],
            "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": self.topics["letters"],
            "RECSTREAM_KAFKA__GROUP": self.topics["events"],
            "RECSTREAM_STORE__PATH": str(self.state),
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_RUN__EPOCH_S": "0.2",
            "RECSTREAM_RUN__METRICS_PORT": "0",
        }

    def delivered(self, log: list[Record]) -> Callable[[], bool]:
        """Whether a list of the last version of every user of a log has come."""
        wanted = versions_after(log)
        return lambda: self.lists.versions() == wanted

    def reference(self) -> dict[str, UserRow]:
        """The rows that a run without any trouble gives: a replay of the same topics (guarantee G8)."""
        done = recstream(
            *("backfill", "--events", "kafka:" + self.topics["events"]),
            *("--items", "kafka:" + self.topics["items"], "--state", self.folder / "reference"),
            *("--set", f"kafka.bootstrap={self.bootstrap}", *HASHING),
        )
        assert done.returncode == 0, done.stderr
        return stored_users(self.folder / "reference")

    def up(self, log: list[Record], job: LiveJob) -> None:
        """Send these events and wait until the job has answered them, so that it is known to run."""
        produce(self.bootstrap, self.topics["events"], log)
        wait_until(self.delivered(log), job.text)

    def assert_as_without_trouble(self, log: list[Record]) -> None:
        rows = stored_users(self.state)
        assert {user: row.version for user, row in rows.items()} == versions_after(log)
        assert_same_users(rows, self.reference(), tolerance=1e-6)
        assert not Reader(self.bootstrap, self.topics["letters"]).poll()

    def summary(self, processes: int = 1) -> dict[str, Any]:
        """What the last run says that it did."""
        paths = [self.state / "summaries" / f"{number}.json" for number in range(processes)]
        return merge_summaries([orjson.loads(path.read_bytes()) for path in paths])


@pytest.fixture
def world(broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path) -> Iterator[World]:
    topics = {
        name: topic(name, partitions=4 if name == "events" else 1) for name in ("events", "lists", "items")
    }
    topics["letters"] = topic("letters")
    produce(broker.bootstrap, topics["items"], [item(number) for number in range(ITEMS)])
    made = World(broker.bootstrap, tmp_path, topics, Reader(broker.bootstrap, topics["lists"]))
    yield made
    made.lists.close()


@pytest.mark.slow
def test_a_killed_dataflow_is_started_again_and_loses_nothing(world: World) -> None:
    log = events(400, items=ITEMS)
    with live_job(world.log, world.settings()) as job:
        world.up(log[:20], job)
        thread = producing(world.bootstrap, world.topics["events"], log[20:], pace_s=0.15)
        for share in (0.2, 0.6):
            wait_until(lambda share=share: sum(world.lists.versions().values()) > share * 400, job.text)  # type: ignore[misc]
            (child,) = job.children()
            os.kill(child, signal.SIGKILL)
            wait_until(lambda child=child: job.children() not in ([], [child]), job.text)  # type: ignore[misc]
        thread.join()
        wait_until(world.delivered(log), job.text)
        assert job.stop() == 0, job.text()
        assert "a process died" in job.text()
    world.assert_as_without_trouble(log)


@pytest.mark.slow
def test_a_killed_supervisor_leaves_no_orphan_and_a_new_one_goes_on(world: World) -> None:
    log = events(300, items=ITEMS, seed=1)
    with live_job(world.log, world.settings()) as job:
        world.up(log[:20], job)
        thread = producing(world.bootstrap, world.topics["events"], log[20:], pace_s=0.3)
        wait_until(lambda: sum(world.lists.versions().values()) > 100, job.text)
        (child,) = job.children()
        job.kill()
        wait_until(lambda: not alive(child), "the end of the orphan", seconds=5)
    with live_job(world.log, world.settings()) as job:
        thread.join()
        wait_until(world.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    account = accounting(world.summary())
    assert account.balanced
    assert account.applied + account.absorbed == account.read < len(log)
    world.assert_as_without_trouble(log)


def test_after_a_clean_stop_nothing_is_replayed(world: World) -> None:
    log = events(200, items=ITEMS, seed=2)
    produce(world.bootstrap, world.topics["events"], log[:150])
    with live_job(world.log, world.settings()) as job:
        wait_until(world.delivered(log[:150]), job.text)
        assert job.stop() == 0, job.text()
        assert accounting(world.summary()) == (150, 150, 0, 0, 0, 0, True)
    before = len(world.lists.poll())
    with live_job(world.log, world.settings()) as job:
        produce(world.bootstrap, world.topics["events"], log[150:])
        wait_until(world.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    assert accounting(world.summary()) == (50, 50, 0, 0, 0, 0, True)
    again = [orjson.loads(message.value()) for message in world.lists.messages[before:]]
    assert {one["user_id"] for one in again} == {one["user_id"] for one in log[150:]}
    world.assert_as_without_trouble(log)


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one_and_one_goes_on_from_two(world: World) -> None:
    log = events(400, items=ITEMS, seed=3)
    produce(world.bootstrap, world.topics["events"], log[:100])
    with live_job(world.log, world.settings(), "--processes", "2") as job:
        produce(world.bootstrap, world.topics["events"], log[100:250], pace_s=0.1)
        wait_until(world.delivered(log[:250]), job.text)
        assert len(job.children()) == 2
        assert job.stop() == 0, job.text()
    assert accounting(world.summary(2)) == (250, 250, 0, 0, 0, 0, True)
    rows = stored_users(world.state)
    assert {user: row.version for user, row in rows.items()} == versions_after(log[:250])
    with live_job(world.log, world.settings()) as job:
        produce(world.bootstrap, world.topics["events"], log[250:])
        wait_until(world.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    assert accounting(world.summary()) == (150, 150, 0, 0, 0, 0, True)
    world.assert_as_without_trouble(log)


@pytest.mark.slow
@pytest.mark.parametrize("known_to_run", [True, False])
def test_one_dead_process_of_two_restarts_both_and_loses_nothing(world: World, *, known_to_run: bool) -> None:
    log = events(300, items=ITEMS, seed=4)
    sent = 20 if known_to_run else 0  # else events come before their items, and wait for them over the kill
    with live_job(world.log, world.settings(), "--processes", "2") as job:
        if known_to_run:
            world.up(log[:sent], job)
        thread = producing(world.bootstrap, world.topics["events"], log[sent:], pace_s=0.15)
        wait_until(lambda: sum(world.lists.versions().values()) > 60, job.text)
        first = job.children()
        os.kill(first[1], signal.SIGKILL)
        wait_until(lambda: len(job.children()) == 2 and not {*job.children()} & {*first}, job.text)
        thread.join()
        wait_until(world.delivered(log), job.text)
        assert job.stop() == 0, job.text()
        assert not any(alive(pid) for pid in first)
    world.assert_as_without_trouble(log)
