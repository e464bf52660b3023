"""Run the job over one log while its records are sent, and kill it again and again.

A second job, the reference, reads the same topics into a store and topics of its own and is never killed.
What it leaves is what the killed one has to leave (`tests.recovery.crash_violations`). The moments of the
kills, and the log, come from a seed. A failure names it: run the test again with ``CRASH_SEED=<seed>`` in the
environment for the same log, the same kills in the same order, and the same moments as far as the machine
allows.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from recstream.config import Settings
from recstream.runtime.positions import positions_dir
from recstream.runtime.process import ADDRESSES, PROCESS_ID, summary_path
from recstream.runtime.supervisor import _die_with_parent, _free_ports
from recstream.runtime.wiring import Wiring
from tests.recovery.crash_log import GAP_S, ITEMS, LATENESS_S, MAX_WAITING, CrashLog, SentRecord
from tests.recovery.fault_injection import MUTATION, ORDERS
from tests.support.commands import environment
from tests.support.live_jobs import LiveJob, wait_until
from tests.support.logs import item

__all__ = ["CrashRun", "JobTopics", "Kill", "Listener", "seed_of"]

PARTITIONS = 4
_PATIENCE_S = 120.0
"""How long a point may take to be passed, and a started job to answer."""
_QUIET_S = 1.0
"""Lateness of the last start: after it and the gap everybody has gone quiet."""
_LOST_S = 20.0
"""Sessions that were not announced so long after everybody went quiet will never be."""
_SILENCE_S = 2.5
"""Nothing has left for so long: nothing more will."""


def seed_of(default: int) -> int:
    """The seed of a test, or the one that ``CRASH_SEED`` gives."""
    return int(os.environ.get("CRASH_SEED", default))


class Kill(NamedTuple):
    """One ``kill -9``."""

    at: str
    """A point of the fault injection; ``random`` (a process, at any moment of a cohort); ``starting`` (at any
    moment of its start); ``supervisor``, or ``child`` (whom the supervisor starts again).
    """
    nth: int = 1
    process: int | None = None
    """Which of them; None is the first to pass the point, or one by chance."""
    then: str = "direct"
    """How the job is started after it: ``direct`` or ``supervised``."""


class Listener:
    """Reads topics from their beginning and keeps all there is."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        ours = {"group.id": f"listener-{topics[0]}", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
        self._consumer = Consumer({"bootstrap.servers": bootstrap, **ours})
        known = self._consumer.list_topics(timeout=10).topics
        parts = [TopicPartition(name, number, 0) for name in topics for number in known[name].partitions]
        self._consumer.assign(parts)
        self._messages: dict[str, list[Any]] = {name: [] for name in topics}
        self.last_message_at = dict.fromkeys(topics, time.monotonic())
        """When the last message of a topic came."""

    def of(self, topic: str) -> list[Any]:
        """All messages of a topic so far."""
        while batch := self._consumer.consume(500, timeout=0.05):
            for message in batch:
                assert message.error() is None, message.error()
                self._messages[message.topic()].append(message)
                self.last_message_at[message.topic()] = time.monotonic()
        return self._messages[topic]

    def read_before(self, topic: str) -> list[Any]:
        """What `of` gave last."""
        return self._messages[topic]

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


@dataclass(frozen=True)
class JobTopics:
    """Where one of the two jobs writes: its store, its topics and its log."""

    state: Path
    lists: str
    dead_letters: str
    sessions: str
    log: Path
    """Output of its processes."""

    def text(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""


class Processes:
    """The processes of a job, started as the supervisor starts them, but by hand."""

    def __init__(self, module: str, ran: JobTopics, settings: Mapping[str, str], orders: Path | None) -> None:
        count = int(settings["RECSTREAM_RUN__PROCESSES"])
        self.log = ran.log
        self._orders = [None if orders is None else orders / f"{number}.txt" for number in range(count)]
        addresses = ";".join(f"127.0.0.1:{port}" for port in _free_ports(count)) if count > 1 else ""
        positions_dir(ran.state, "recommend")
        self._processes = []
        for number, path in enumerate(self._orders):
            summary_path(ran.state, number).unlink(missing_ok=True)
            more = {PROCESS_ID: str(number), ADDRESSES: addresses}
            if path is not None:
                path.unlink(missing_ok=True)
                more[ORDERS] = str(path)
            with ran.log.open("ab") as out:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", module],
                        env=environment({**settings, **more}),
                        stdout=out,
                        stderr=out,
                        preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no locks
                    )
                )

    def order(self, number: int | None, point: str, nth: int, delay_ms: float) -> None:
        """Tell a process, or all of them, where to die."""
        for path in self._orders if number is None else [self._orders[number]]:
            assert path is not None
            draft = path.with_suffix(".new")
            draft.write_text(f"{point} {nth} {delay_ms}")
            draft.replace(path)

    def kill(self, number: int) -> None:
        """``kill -9`` of one."""
        self._processes[number].kill()

    def killed(self) -> bool:
        """Whether one was killed.

        Raises:
            AssertionError: one ended by itself.
        """
        codes = [process.poll() for process in self._processes]
        if -signal.SIGKILL in codes:
            return True
        if any(code is not None for code in codes):
            raise AssertionError(f"the job ended by itself, exit codes {codes}:\n{self._text()}")
        return False

    def end(self) -> None:
        """Kill those that are left: in a cluster none goes on without the others."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def stop(self, within_s: float = 20.0) -> list[int]:
        """SIGTERM; gives the exit codes."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        try:
            return [process.wait(within_s) for process in self._processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no stop within {within_s} s:\n{self._text()}") from None

    def _text(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]


@dataclass
class CrashRun:
    """One log, a job that is killed while it reads it, and the reference job."""

    bootstrap: str
    topic: Callable[..., str]
    folder: Path
    seed: int
    processes: int = 1
    wait_s: float = 20.0
    """How long events wait for items: longer than it takes to start the job."""
    mutation: str | None = None
    """A mechanism that the killed job lacks."""
    sent: list[SentRecord] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    """What was done to the job."""
    codes: list[int] = field(default_factory=list)
    """Exit codes of both jobs at their clean stop."""

    has_missing_items: bool = False
    goes_quiet: bool = True

    def __post_init__(self) -> None:
        self.rng = random.Random(f"crash {self.seed}")
        self.crash_log = CrashLog(self.seed)
        self.events = self.topic("events", partitions=PARTITIONS)
        self.items = self.topic("items")
        self.killed = self._ran("killed")
        self.reference = self._ran("reference")
        outputs = [
            name
            for ran in (self.killed, self.reference)
            for name in (ran.lists, ran.dead_letters, ran.sessions)
        ]
        self.listener = Listener(self.bootstrap, [self.events, self.items, *outputs])
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 2})
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._beats = 0
        self._markers = 0
        self._last_without_item = time.monotonic()
        self._life: Processes | LiveJob | None = None
        self._orders = self.folder / "orders"
        self._orders.mkdir()

    def run(self, kills: Sequence[Kill], *, missing_items_until: int = 0, goes_quiet: bool = True) -> None:
        """Kill the job as listed, once a cohort; then let both jobs finish and stop.

        In the first ``missing_items_until`` cohorts some events wait for items that never come. With
        ``goes_quiet`` there is one more kill at the end, and time for all open sessions to be closed.
        """
        self.has_missing_items, self.goes_quiet = missing_items_until > 0, goes_quiet
        with ExitStack() as stack:
            stack.callback(self.close)
            self._send([SentRecord("items", f"i{k}", orjson.dumps(item(k)), "other") for k in range(ITEMS)])
            self._start("direct")
            self._start_reference()
            self._wait_for_marker([self.killed, self.reference])
            for ran in (self.killed, self.reference):
                wait_until(lambda ran=ran: _stored_items(ran.state) >= ITEMS, ran.text)  # type: ignore[misc]
            for number, kill in enumerate(kills):
                self._one_kill(number, kill, items_missing=number < missing_items_until)
            self._wait_for_marker([self.killed, self.reference])
            if self.has_missing_items:
                wait_until(
                    lambda: time.monotonic() > self._last_without_item + self.wait_s,
                    "the last to be given up",
                )
            self._wait_for_silence()
            if goes_quiet:
                self._go_quiet()
            assert isinstance(self._life, Processes), "the last kill leaves the job to the driver"
            self.codes += [*self._reference_life.stop(), *self._life.stop()]
            self._wait_for_silence(0.5)
            self._note("all is out, both are stopped")

    def close(self) -> None:
        """End what runs."""
        self._end()
        self._reference_life.end()
        self.listener.close()
        del self._producer  # or it would look for the broker long after

    def report(self) -> str:
        """What to know of a failure."""
        return (
            f"CRASH_SEED={self.seed} processes={self.processes} mutation={self.mutation}\n"
            + "\n".join(self.history)
            + f"\nThe log of the killed job ends:\n{self.killed.text()}"
        )

    def _one_kill(self, number: int, kill: Kill, *, items_missing: bool) -> None:
        cohort = self.crash_log.cohort(number, items_missing=items_missing)
        if items_missing:
            self._last_without_item = time.monotonic() + 3.0

        def send() -> None:
            self._send(cohort.now, pace_s=0.15)
            time.sleep(1.5)  # some epochs, so that who waits is in the store
            self._send(cohort.later)

        process = self.rng.randrange(self.processes) if kill.process is None else kill.process
        if kill.at == "starting":
            self._after(self.rng.uniform(0.3, 3.5), kill, process)
            self._restart(kill)
            return
        sending = threading.Thread(target=send)
        sending.start()
        try:
            if kill.at in ("random", "child", "supervisor"):
                self._after(self.rng.uniform(0.05, 2.0), kill, process)
            else:
                self._at_a_point(kill)
            self._restart(kill)
        finally:
            sending.join()
        self._wait_for_marker([self.killed])

    def _at_a_point(self, kill: Kill) -> None:
        assert isinstance(self._life, Processes), f"{kill} needs a job that was started direct"
        delay_ms = round(self.rng.uniform(0.0, 15.0), 2)
        self._note(f"{kill} delay_ms={delay_ms}")
        self._life.order(kill.process, kill.at, kill.nth, delay_ms)
        self._await_death(kill)

    def _after(self, delay_s: float, kill: Kill, process: int) -> None:
        self._note(f"{kill} process={process} after {delay_s:.2f} s")
        time.sleep(delay_s)
        life = self._life
        if isinstance(life, Processes):
            life.kill(process)
        elif isinstance(life, LiveJob) and kill.at == "child":
            children = life.children()
            assert children, life.text()
            os.kill(children[process], signal.SIGKILL)
            wait_until(lambda: bool({*life.children()} - {*children}), life.text)
        elif isinstance(life, LiveJob):
            life.kill()

    def _await_death(self, kill: Kill) -> None:
        life = self._life
        assert isinstance(life, Processes)
        deadline = time.monotonic() + _PATIENCE_S
        while not life.killed():
            self._beat()
            time.sleep(0.1)
            if time.monotonic() > deadline:
                raise AssertionError(f"{kill}: not passed within {_PATIENCE_S} s\n{self.report()}")

    def _restart(self, kill: Kill) -> None:
        if kill.at == "child":
            return  # the supervisor has done it
        self._end()
        self._start(kill.then)

    def _start(self, how: str, lateness_s: float = LATENESS_S) -> None:
        if how == "supervised":
            self.killed.log.touch()
            settings = self._settings(self.killed, self.processes, lateness_s)
            self._life = LiveJob(self.killed.log, settings)
        else:
            settings = self._settings(self.killed, self.processes, lateness_s)
            if self.mutation is not None:
                settings[MUTATION] = self.mutation
            self._life = Processes("tests.recovery.fault_injection", self.killed, settings, self._orders)

    def _start_reference(self, lateness_s: float = LATENESS_S) -> None:
        settings = self._settings(self.reference, 1, lateness_s)
        self._reference_life = Processes("recstream.runtime.process", self.reference, settings, None)

    def _end(self) -> None:
        life, self._life = self._life, None
        if isinstance(life, Processes):
            life.end()
        elif isinstance(life, LiveJob):
            if life.process.poll() is None:
                life.kill()
            wait_until(lambda: not life.children(), "the end of the supervisor's children")

    def _note(self, what: str) -> None:
        self.history.append(f"{time.monotonic() - self._begin:5.1f} s  {what}")

    def _go_quiet(self) -> None:
        """Once more kill the one, stop the other, and start both so that everybody soon has gone quiet."""
        self._note("the last kill, with nothing in flight")
        self._end()
        self._start("direct", _QUIET_S)
        self.codes += self._reference_life.stop()
        self._start_reference(_QUIET_S)
        self._wait_for_marker([self.killed, self.reference])
        begin = time.monotonic()

        def all_closed() -> bool:
            waited_s = time.monotonic() - begin
            closed, wanted = (
                {message.value() for message in self.listener.of(ran.sessions)}
                for ran in (self.killed, self.reference)
            )
            return waited_s > GAP_S + _QUIET_S and (wanted <= closed or waited_s > _LOST_S)

        wait_until(all_closed, "everybody to go quiet")
        self._wait_for_silence()

    def _wait_for_silence(self, seconds: float = _SILENCE_S) -> None:
        names = [
            name
            for ran in (self.killed, self.reference)
            for name in (ran.lists, ran.dead_letters, ran.sessions)
        ]
        begin = time.monotonic()

        def silent() -> bool:
            self.listener.of(self.events)
            since = max(begin, *(self.listener.last_message_at[name] for name in names))
            return time.monotonic() > since + seconds

        wait_until(silent, "silence on the outputs")

    def _wait_for_marker(self, jobs: Sequence[JobTopics]) -> None:
        """Send an event to every partition, and wait until these jobs have answered them."""
        self._markers += 1
        users = _one_each("marker", self._markers)
        self._send([self.crash_log.beat(user) for user in users])

        def answered() -> bool:
            if isinstance(self._life, Processes):
                assert not self._life.killed(), self.report()
            for ran in jobs:
                seen = {message.key() for message in self.listener.of(ran.lists)}
                if not all(user.encode() in seen for user in users):
                    return False
            return True

        wait_until(answered, self.report, seconds=_PATIENCE_S)
        self._note("up, and all that was sent is read")

    def _beat(self) -> None:
        self._beats += 1
        self._send([self.crash_log.beat(f"beat{self._beats // 20}")])

    def _send(self, sent: Sequence[SentRecord], *, pace_s: float = 0.0) -> None:
        names = {"events": self.events, "items": self.items}
        for number, one in enumerate(sent):
            with self._lock:
                self._producer.produce(names[one.topic], one.value, key=one.key.encode())
                self.sent.append(one)
            if pace_s and number % 6 == 5:
                self._producer.flush(10)
                time.sleep(pace_s)
        assert self._producer.flush(20) == 0

    def _ran(self, name: str) -> JobTopics:
        folder = self.folder / name
        folder.mkdir()
        lists, dead_letters, sessions = (
            self.topic(f"{name}-{stem}") for stem in ("lists", "dead_letters", "sessions")
        )
        return JobTopics(folder / "state", lists, dead_letters, sessions, folder / "job.log")

    def _settings(self, ran: JobTopics, processes: int, lateness_s: float) -> dict[str, str]:
        return {
            "RECSTREAM_KAFKA__BOOTSTRAP": self.bootstrap,
            "RECSTREAM_KAFKA__EVENTS_TOPIC": self.events,
            "RECSTREAM_KAFKA__ITEMS_TOPIC": self.items,
            "RECSTREAM_KAFKA__LISTS_TOPIC": ran.lists,
            "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": ran.dead_letters,
            "RECSTREAM_KAFKA__SESSIONS_TOPIC": ran.sessions,
            "RECSTREAM_KAFKA__GROUP": ran.lists,
            "RECSTREAM_KAFKA__POLL_MAX": "40",
            "RECSTREAM_STORE__PATH": str(ran.state),
            "RECSTREAM_STORE__REFRESH_S": "0.3",
            "RECSTREAM_STORE__COMPACT_EVERY_S": "0.5",
            "RECSTREAM_STORE__KEEP_VERSIONS_S": "1",
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_EVENTS__WAIT_FOR_ITEM_S": str(self.wait_s),
            "RECSTREAM_EVENTS__MAX_WAITING": str(MAX_WAITING),
            "RECSTREAM_EVENTS__RECENT": "512",
            "RECSTREAM_PROFILE__SESSION_GAP_S": str(GAP_S),
            "RECSTREAM_PROFILE__LATENESS_S": str(lateness_s),
            "RECSTREAM_RUN__EPOCH_S": "0.25",
            "RECSTREAM_RUN__METRICS_PORT": "0",
            "RECSTREAM_RUN__LOG_LEVEL": "warning",
            "RECSTREAM_RUN__PROCESSES": str(processes),
        }


def _one_each(stem: str, number: int) -> list[str]:
    """Users of which each partition has one: librdkafka spreads keys by their CRC."""
    found: dict[int, str] = {}
    for k in range(1000):
        user = f"{stem}{number}-{k}"
        found.setdefault(crc32(user.encode()) % PARTITIONS, user)
    return [found[part] for part in range(PARTITIONS)]


def _stored_items(state: Path) -> int:
    settings = Settings.load(None, {}, {"store.path": str(state), "encoder.backend": "hashing"})
    wiring = Wiring(settings, create=False)
    try:
        return wiring.database.items.count()
    finally:
        wiring.close()
