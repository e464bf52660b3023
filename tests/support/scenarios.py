"""One log in many forms: topics of any number of partitions, replays and live jobs, and their users."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson
from confluent_kafka import Producer

from recstream.config import Settings
from recstream.connectors.kafka.admin import ensure_topics
from recstream.items.catalogue import Catalogue
from recstream.metrics.accounting import Accounting, accounting, merge_summaries
from recstream.operations.verify import Comparison, compare_users
from recstream.runtime.replay import replay
from recstream.runtime.signals import Stop
from recstream.runtime.wiring import Wiring
from recstream.stores.base import UserStore
from recstream.stores.lance import LanceDatabase
from recstream.users.codec import user_state_of
from recstream.users.state import UserState
from tests.support.live_jobs import LiveJob, live_job, wait_until
from tests.support.logs import Record, item, versions_after, write_lines
from tests.support.topics import produce

__all__ = ["PlacedRecord", "Scenario", "ScenarioJob", "distinct", "rich_log", "spread"]

_numbers = itertools.count()


class PlacedRecord(NamedTuple):
    """A record with the partition it is sent to."""

    partition: int
    record: Record
    ms: int = 0
    """The message's own timestamp; 0: when it is sent."""


def spread(log: Iterable[Record], partitions: int, *, seed: int = 0) -> list[PlacedRecord]:
    """The log over so many partitions, the events of a user too."""
    rng = random.Random(f"spread {seed}")
    return [PlacedRecord(rng.randrange(partitions), record) for record in log]


def send(bootstrap: str, topic: str, placed: Iterable[PlacedRecord]) -> None:
    """Send each record to its partition."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})
    for partition, record, ms in placed:
        producer.produce(topic, orjson.dumps(record), partition=partition, timestamp=ms)
    assert producer.flush(20) == 0


def rich_log(
    count: int, *, users: int = 8, items: int = 40, seed: int = 0, with_id: float = 0.6, twice: float = 0.1
) -> list[Record]:
    """Every kind of event that teaches, in order of time with ties.

    A share of them has an id, and of these a share is there twice.
    """
    rng = random.Random(f"rich {seed}")
    words = ("space", "love", "war", "sea", "zebra", "jazz")
    actions = (
        "view",
        "like",
        "purchase",
        "dislike",
        "skip",
        "rate",
        "search",
        "comment",
        "hide",
        "impression",
    )
    log: list[Record] = []
    ts = 1_700_000_000.0
    for number in range(count):
        ts += rng.choice((0.0, 0.0, 5.0, 30.0, 4000.0))
        action = rng.choice(actions)
        record: Record = {"user_id": f"u{rng.randrange(users)}", "ts": ts, "action": action}
        if action != "search":
            record["item_id"] = f"i{rng.randrange(items)}"
        if action in ("search", "comment"):
            record["text"] = f"{rng.choice(words)} {rng.choice(words)}"
        if action == "rate":
            record["rating"] = rng.randrange(1, 6)
        if rng.random() < with_id:
            record["event_id"] = f"e{seed}-{number}"
        else:
            record["ts"] += number / 1024  # no two events are the same event
        log.append(record)
        if "event_id" in record and rng.random() < twice:
            log.append(record)
    return log


def distinct(log: Iterable[Record]) -> list[Record]:
    """The events that count: of those with an id, each once."""
    found: list[Record] = []
    counted: set[str] = set()
    for record in log:
        event_id = record.get("event_id")
        if event_id is None or event_id not in counted:
            found.append(record)
        if event_id is not None:
            counted.add(event_id)
    return found


@dataclass
class Scenario:
    """A broker, a folder, and what a test makes of them; items ``i0`` to ``i39``, in a topic and a file."""

    bootstrap: str
    folder: Path
    items: int = 40

    def __post_init__(self) -> None:
        self.catalogue = [item(number) for number in range(self.items)]
        self.items_file = write_lines(self.folder / "items.jsonl", self.catalogue)
        self.items_topic = self.topic("items")
        produce(self.bootstrap, self.items_topic, self.catalogue)

    def topic(self, stem: str, *, partitions: int = 1) -> str:
        """A topic that nobody else has."""
        name = f"{stem}-scenario-{os.getpid()}-{next(_numbers)}"
        assert ensure_topics(self.bootstrap, {name: partitions}) == [name]
        return name

    def events(self, placed: Iterable[PlacedRecord] = (), *, partitions: int = 1) -> str:
        """A topic with these events."""
        name = self.topic("events", partitions=partitions)
        send(self.bootstrap, name, placed)
        return name

    def send(self, topic: str, placed: Iterable[PlacedRecord]) -> None:
        """More events."""
        send(self.bootstrap, topic, placed)

    def file(self, name: str, log: Sequence[Record]) -> Path:
        """A file with these events."""
        return write_lines(self.folder / name, log)

    def store(self, name: str) -> Path:
        """The folder of a store."""
        return self.folder / name

    def settings(self, name: str, **more: object) -> Settings:
        """Settings of a replay into a store; ``section__field=value`` changes one."""
        values: dict[str, object] = {
            "store.path": str(self.store(name)),
            "encoder.backend": "hashing",
            "cache.enabled": False,
            "kafka.bootstrap": self.bootstrap,
            "backfill.refresh": "end",
            "backfill.epoch_s": 0.2,
        }
        values.update({key.replace("__", ".", 1): value for key, value in more.items()})
        return Settings.load(None, {}, values)

    def replay(self, name: str, source: Path | str, **more: object) -> Accounting:
        """Replay a file, or a topic, into a store, as ``recstream backfill`` does; items first."""
        where = str(source) if isinstance(source, Path) else f"kafka:{source}"
        options = {"backfill__events": where, "backfill__items": str(self.items_file), **more}
        done = replay(self.settings(name, **options), Stop(), lambda stage, share: None)
        assert done.account.balanced, str(done.account)
        return done.account

    @contextmanager
    def live(
        self, name: str, events: str, *, processes: int = 1, items: str | None = None, **more: str
    ) -> Iterator[ScenarioJob]:
        """``recstream run`` on a topic and a store; ``section__field="value"`` changes a setting."""
        environ = {
            "RECSTREAM_KAFKA__BOOTSTRAP": self.bootstrap,
            "RECSTREAM_KAFKA__EVENTS_TOPIC": events,
            "RECSTREAM_KAFKA__ITEMS_TOPIC": self.items_topic if items is None else items,
            "RECSTREAM_KAFKA__LISTS_TOPIC": self.topic("lists"),
            "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": self.topic("dead-letters"),
            "RECSTREAM_KAFKA__GROUP": events,
            "RECSTREAM_STORE__PATH": str(self.store(name)),
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_CACHE__ENABLED": "false",
            "RECSTREAM_RUN__EPOCH_S": "0.2",
            "RECSTREAM_RUN__METRICS_PORT": "0",
            **{f"RECSTREAM_{key}".upper(): value for key, value in more.items()},
        }
        args = ("--processes", str(processes), "--new-store")  # tests make stores on purpose
        with live_job(self.folder / f"{name}.log", environ, *args) as job:
            yield ScenarioJob(self, name, processes, job, environ["RECSTREAM_KAFKA__LISTS_TOPIC"])

    def compare(self, one: str, other: str) -> Comparison:
        """The users of two stores."""
        with self._users(one) as mine, self._users(other) as theirs:
            return compare_users(mine, theirs)

    def user_states(self, name: str) -> dict[str, UserState]:
        """All users; of a store that a job is writing to, as of now."""
        if LanceDatabase.inspect(self.store(name)) is None:
            return {}
        with self._users(name) as users:
            rows = users.fetch(users.ids())
        names = Catalogue(0)
        return {user_id: user_state_of(row, names) for user_id, row in rows.items()}

    def versions(self, name: str) -> dict[str, int]:
        """Events applied, by user."""
        return {user_id: user_state.version for user_id, user_state in self.user_states(name).items()}

    @contextmanager
    def _users(self, name: str) -> Iterator[UserStore]:
        wiring = Wiring(self.settings(name), maintains=False, create=False)
        try:
            yield wiring.database.users
        finally:
            wiring.close()


@dataclass
class ScenarioJob:
    """A job that is running."""

    scenario: Scenario
    name: str
    processes: int
    job: LiveJob
    lists: str
    """The topic of its lists."""

    def until(self, log: Iterable[Record]) -> None:
        """Wait until these events, and no others, are in the store."""
        wanted = versions_after(distinct(log))
        wait_until(lambda: self.scenario.versions(self.name) == wanted, self.job.text)

    def until_read(self, log: Iterable[Record]) -> int:
        """Wait until these events count or wait for their items; gives how many wait."""
        wanted = len(distinct(log))

        def is_read() -> bool:
            user_states = self.scenario.user_states(self.name).values()
            return sum(one.version + len(one.waiting) for one in user_states) == wanted

        wait_until(is_read, self.job.text)
        return sum(len(one.waiting) for one in self.scenario.user_states(self.name).values())

    def stop(self) -> Accounting:
        """Stop it cleanly; gives where the events went that it read."""
        assert self.job.stop() == 0, self.job.text()
        folder = self.scenario.store(self.name) / "summaries"
        summaries = [
            orjson.loads((folder / f"{number}.json").read_bytes()) for number in range(self.processes)
        ]
        account = accounting(merge_summaries(summaries))
        assert account.balanced, str(account)
        return account
