"""What flow and recovery tests share: a synthetic world, the command line as a process, stored rows."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from recstream.config import Settings
from recstream.runtime.wiring import Wiring
from recstream.users.codec import UserRow
from tests.support import warm

Record = dict[str, Any]
T0 = 1_700_000_000
WORDS = ("space", "love", "war", "sea", "zebra", "jazz", "tax", "garden", "ghost", "train")
HASHING = ("--set", "encoder.backend=hashing")


def item(number: int, *, seed: int = 0) -> Record:
    """An item record that depends on its number alone."""
    rng = random.Random(f"{seed} {number}")
    words = rng.sample(WORDS, 3)
    return {
        "item_id": f"i{number}",
        "title": f"{words[0].title()} {words[1]} {number}",
        "text": f"About {words[2]} and {words[0]}",
        "categories": [words[0]],
    }


def events(
    count: int, *, users: int = 20, items: int = 40, seed: int = 0, first: int = 0, ids: bool = False
) -> list[Record]:
    """A log in order of time, with ties, in which some users search, comment and rate."""
    rng = random.Random(f"events {seed}")
    made = []
    ts = T0 + first * 10
    for number in range(first, first + count):
        ts += rng.choice((0, 0, 5, 30, 4000))
        record: Record = {"user_id": f"u{rng.randrange(users)}", "ts": ts}
        action = rng.choice(("view", "view", "like", "dislike", "rate", "search", "comment", "hide"))
        record["action"] = action
        if action != "search":
            record["item_id"] = f"i{rng.randrange(items)}"
        if action == "rate":
            record["rating"] = rng.randrange(1, 6)
        if action in ("search", "comment"):
            record["text"] = " ".join(rng.sample(WORDS, 2)) + f" {number}"
        record["event_id"] = f"e{number}"
        if not ids:
            del record["event_id"]
            record["ts"] += number / 1024  # no two events are the same event
        made.append(record)
    return made


def write_lines(path: Path, records: Iterable[Record | bytes]) -> Path:
    """A JSONL file of these records; bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for record in records:
            file.write((record if isinstance(record, bytes) else orjson.dumps(record)) + b"\n")
    return path


def read_lines(path: Path) -> list[Record]:
    """The records of a JSONL file, whose every line must be whole."""
    content = path.read_bytes()
    assert not content or content.endswith(b"\n"), "the last line is torn"
    return [orjson.loads(line) for line in content.splitlines()]


def command(*args: str | Path) -> list[str]:
    """The console script of the environment that runs the tests."""
    return [str(Path(sys.executable).parent / "recstream"), *map(str, args)]


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment with no settings of recstream's but the given ones."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RECSTREAM_")}
    return {**plain, "COLUMNS": "200", **(settings or {})}


def recstream(
    *args: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return warm.run(command(*args), environment(env), cwd or Path.cwd(), timeout_s=120)


class LiveJob:
    """``recstream run`` as a process, its log in a file."""

    def __init__(self, log: Path, settings: Mapping[str, str], *args: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command("run", *args), env=environment(settings), stdout=out, stderr=out
            )

    def children(self) -> list[int]:
        """Process ids of the dataflow processes."""
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [
            int(line.split()[0]) for line in found.stdout.splitlines() if "recstream.runtime.process" in line
        ]

    def kill(self) -> None:
        """``kill -9`` of the supervisor."""
        self.process.kill()
        self.process.wait()

    def stop(self, within_s: float = 15.0) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no stop within {within_s} s; its log:\n{self.text()}") from None

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")


@contextmanager
def live_job(log: Path, settings: Mapping[str, str], *args: str) -> Iterator[LiveJob]:
    """A job that is gone afterwards, with its children."""
    job = LiveJob(log, settings, *args)
    try:
        yield job
    finally:
        if job.process.poll() is None:
            job.process.terminate()
            try:
                job.process.wait(15)
            except subprocess.TimeoutExpired:
                job.kill()


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(fact: Callable[[], bool], what: Callable[[], str] | str, *, seconds: float = 60.0) -> None:
    """Wait for a fact, or fail and say what was waited for."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)


def produce(bootstrap: str, topic: str, records: Iterable[Record | bytes], *, pace_s: float = 0.0) -> None:
    """Send records, keyed by their user or item; ``pace_s`` is slept after every ten."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})
    for number, record in enumerate(records):
        key = None
        if isinstance(record, dict):
            key = str(record.get("user_id", record.get("item_id", ""))).encode()
        value = record if isinstance(record, bytes) else orjson.dumps(record)
        producer.produce(topic, value, key=key)
        if pace_s and number % 10 == 9:
            assert producer.flush(10) == 0
            time.sleep(pace_s)
    assert producer.flush(20) == 0


def producing(bootstrap: str, topic: str, records: Sequence[Record], *, pace_s: float) -> threading.Thread:
    """The same in a thread."""
    thread = threading.Thread(target=produce, args=(bootstrap, topic, records), kwargs={"pace_s": pace_s})
    thread.start()
    return thread


class Reader:
    """An ordinary consumer of a topic from its beginning; keeps all it read."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"reader-{topic}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        known = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in known])
        self.messages: list[Any] = []

    def poll(self) -> list[Any]:
        """Read what is there; gives all messages so far."""
        while True:
            batch = self._consumer.consume(500, timeout=0.1)
            for message in batch:
                assert message.error() is None, message.error()
            self.messages += batch
            if not batch:
                return self.messages

    def records(self) -> list[Record]:
        """All values so far, tombstones left out."""
        return [orjson.loads(message.value()) for message in self.poll() if message.value() is not None]

    def versions(self) -> dict[str, int]:
        """Greatest version of a list so far, by user."""
        newest: dict[str, int] = {}
        for record in self.records():
            newest[record["user_id"]] = max(record["version"], newest.get(record["user_id"], 0))
        return newest

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def versions_after(log: Iterable[Record]) -> dict[str, int]:
    """The version of every user after a log of events that all apply."""
    counts: dict[str, int] = {}
    for record in log:
        if record["action"] != "request":
            counts[record["user_id"]] = counts.get(record["user_id"], 0) + 1
    return counts


def stored_users(store: Path, encoder: str = "hashing") -> dict[str, UserRow]:
    """All user rows of a store."""
    settings = Settings.load(None, {}, {"store.path": str(store), "encoder.backend": encoder})
    wiring = Wiring(settings, alone=False)
    try:
        users = wiring.database.users
        return users.fetch(users.ids())
    finally:
        wiring.close()


def assert_same_users(
    some: Mapping[str, UserRow], others: Mapping[str, UserRow], *, tolerance: float = 1e-9
) -> None:
    """Every user row equal: exactly, but for sums of floating point numbers, which have a tolerance."""
    assert sorted(some) == sorted(others)
    for user_id, row in some.items():
        other = others[user_id]
        assert (row.version, row.shard, row.events) == (other.version, other.shard, other.events), user_id
        assert row.updated_at == other.updated_at, user_id
        np.testing.assert_allclose(row.vector, other.vector, atol=max(tolerance, 1e-6), rtol=0)
        mine, theirs = _state(row), _state(other)
        for one, two in zip(mine[:2], theirs[:2], strict=True):
            assert (one is None) == (two is None), user_id
            if one is not None:
                _assert_same_sum(one, two, tolerance)
        # The last two are kept until their epoch has surely committed: they tell of a run, not of the user.
        assert mine[2:-2] == theirs[2:-2], user_id


def _state(row: UserRow) -> list[Any]:
    state: list[Any] = msgspec.msgpack.decode(row.state[1:])
    return state


def _assert_same_sum(one: Any, two: Any, tolerance: float) -> None:
    assert one[2] == two[2], "reference times differ"
    np.testing.assert_allclose(one[1], two[1], rtol=tolerance)
    mine, theirs = (np.frombuffer(total[0], np.float64) for total in (one, two))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * max(1.0, float(np.abs(mine).max())))
