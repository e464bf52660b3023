"""The topics, settings and store of one job on a real broker, and what it must leave there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from recstream.metrics.accounting import merge_summaries
from recstream.users.codec import UserRow
from tests.support.apache_kafka import ApacheKafka
from tests.support.commands import HASHING, recstream
from tests.support.live_jobs import LiveJob, wait_until
from tests.support.logs import Record, item, versions_after
from tests.support.stored_users import assert_same_users, stored_users
from tests.support.topics import Reader, produce

ITEMS = 40
_numbers = itertools.count()


@dataclass
class Deployment:
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
            "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": self.topics["dead-letters"],
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
        assert not Reader(self.bootstrap, self.topics["dead-letters"]).poll()

    def summary(self, processes: int = 1) -> dict[str, Any]:
        """What the last run says that it did."""
        paths = [self.state / "summaries" / f"{number}.json" for number in range(processes)]
        return merge_summaries([orjson.loads(path.read_bytes()) for path in paths])


@contextmanager
def deployment_on(kafka: ApacheKafka, folder: Path) -> Iterator[Deployment]:
    """New topics with items in them, and a reader of the lists."""
    number = next(_numbers)
    topics = {name: f"{name}-{number}" for name in ("events", "items", "lists", "dead-letters")}
    kafka.create(*topics.values(), partitions=3)
    produce(kafka.bootstrap, topics["items"], [item(number) for number in range(ITEMS)])
    reader = Reader(kafka.bootstrap, topics["lists"])
    try:
        yield Deployment(kafka.bootstrap, folder, topics, reader)
    finally:
        reader.close()
