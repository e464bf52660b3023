"""A clean stop: asked to end at any moment the job ends by itself with code 0, and nothing is read again."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import orjson
import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.metrics.accounting import Accounting, accounting, merge_summaries
from tests.support.commands import command, environment
from tests.support.live_jobs import LiveJob, alive, wait_until
from tests.support.logs import Record, events, versions_after
from tests.support.scenarios import Scenario
from tests.support.servers import embedding_server
from tests.support.topics import Reader, produce

pytestmark = pytest.mark.kafka
STOP_TIMEOUT_S = 30.0
"""Of the job, and longest wait of a test: a machine may be busy. What it took is printed."""


class TerminalJob(LiveJob):
    """``recstream run`` as started by hand: in the foreground of a terminal of its own."""

    def __init__(self, log: Path, settings: Mapping[str, str], *args: str) -> None:
        self.log = log
        self.keyboard, screen = pty.openpty()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command("run", *args),
                env=environment(settings),
                stdin=screen,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call
            )
        os.close(screen)

    def sigterm(self) -> None:
        """As ``kill`` or a container's engine does."""
        self.process.send_signal(signal.SIGTERM)

    def ctrl_c(self) -> None:
        """The terminal sends SIGINT to every process in its foreground."""
        os.write(self.keyboard, b"\x03")

    def ended(self, what: str) -> int:
        """Wait for its end; gives the exit code."""
        begin = time.monotonic()
        try:
            code = self.process.wait(STOP_TIMEOUT_S + 10)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{what}: no end within {STOP_TIMEOUT_S + 10} s:\n{self.text()}") from None
        print(f"{what}: ended with {code} after {time.monotonic() - begin:.2f} s")
        return code


ASK: dict[str, Callable[[TerminalJob], None]] = {
    "SIGTERM": TerminalJob.sigterm,
    "Ctrl-C": TerminalJob.ctrl_c,
}


class Stage(Scenario):
    """One topic of events, one store, and what left in all runs."""

    def set(self, partitions: int = 6, **more: str) -> None:
        """Choose settings: ``section__field="value"``."""
        self.events_topic = self.events(partitions=partitions)
        self.lists_topic = self.topic("lists")
        self.lists = Reader(self.bootstrap, self.lists_topic)
        self.environ = {
            "RECSTREAM_KAFKA__BOOTSTRAP": self.bootstrap,
            "RECSTREAM_KAFKA__EVENTS_TOPIC": self.events_topic,
            "RECSTREAM_KAFKA__ITEMS_TOPIC": self.items_topic,
            "RECSTREAM_KAFKA__LISTS_TOPIC": self.lists_topic,
            "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": self.topic("dead-letters"),
            "RECSTREAM_KAFKA__GROUP": self.events_topic,
            "RECSTREAM_STORE__PATH": str(self.store("live")),
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_CACHE__ENABLED": "false",
            "RECSTREAM_RUN__EPOCH_S": "0.5",
            "RECSTREAM_RUN__STOP_TIMEOUT_S": str(STOP_TIMEOUT_S),
            "RECSTREAM_RUN__METRICS_PORT": "0",
            **{f"RECSTREAM_{key}".upper(): value for key, value in more.items()},
        }

    @contextmanager
    def job(self, processes: int = 1, *words: str) -> Iterator[TerminalJob]:
        """A job that is gone afterwards."""
        job = TerminalJob(self.folder / "job.log", self.environ, "--processes", str(processes), *words)
        try:
            yield job
        finally:
            if job.process.poll() is None:
                job.kill()
            os.close(job.keyboard)

    def account(self, processes: int = 1) -> Accounting:
        """Where the events of the last run went."""
        paths = [self.store("live") / "summaries" / f"{number}.json" for number in range(processes)]
        account = accounting(merge_summaries([orjson.loads(path.read_bytes()) for path in paths]))
        assert account.balanced, str(account)
        return account

    def until_lists(self, job: LiveJob) -> None:
        """Wait until another list comes: it is in the midst of its work."""
        before = len(self.lists.poll())
        wait_until(lambda: len(self.lists.poll()) > before, job.text)

    def until_delivered(self, log: Sequence[Record], job: LiveJob) -> None:
        """Wait until a list of the last version of every user has come."""
        wanted = versions_after(log)
        wait_until(lambda: self.lists.versions() == wanted, job.text, seconds=120)

    def assert_each_list_once(self) -> None:
        records = [one for one in self.lists.records() if one["trigger"] != "drift"]
        versions = [(one["user_id"], one["version"]) for one in records]
        assert len(versions) == len(set(versions)), "a list was sent twice"

    def assert_as_a_replay(self, log: Sequence[Record]) -> None:
        self.replay("reference", self.events_topic)
        compared = self.compare("reference", "live")
        assert compared.same, compared.first
        assert self.versions("live") == versions_after(log)


@pytest.fixture
def stage(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(broker.bootstrap, tmp_path)
    made.set()
    yield made
    made.lists.close()


Run = tuple[int, str]
"""How many processes, and how they are stopped."""


class Feeder:
    """Sends a log, about 500 events a second, until it is told to stop."""

    def __init__(self, stage: Stage, log: list[Record]) -> None:
        self._stage = stage
        self._log = log
        self.sent = 0

    def send(self, count: int) -> None:
        """So many events at once."""
        produce(self._stage.bootstrap, self._stage.events_topic, self._log[self.sent : self.sent + count])
        self.sent += count

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Send on meanwhile."""
        enough = threading.Event()

        def feed() -> None:
            while not enough.wait(0.1) and self.sent < len(self._log):
                self.send(50)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()


def stopped_in_the_midst(stage: Stage, log: list[Record], runs: Sequence[Run]) -> None:
    """Stop each run but the last while it works off a backlog and more events come; the last one ends it."""
    feeder = Feeder(stage, log)
    read = 0
    for number, (processes, how) in enumerate(runs):
        feeder.send(500)
        is_last = number == len(runs) - 1
        with feeder.feeding() if not is_last else nullcontext(), stage.job(processes) as job:
            stage.until_lists(job)
            if is_last:
                stage.until_delivered(log[: feeder.sent], job)
            children = job.children()
            assert len(children) == processes
            ASK[how](job)
            assert job.ended(f"{how}, {processes} process(es)") == 0, job.text()
            assert not any(alive(child) for child in children)
        account = stage.account(processes)
        assert (account.duplicate, account.absorbed, account.rejected) == (0, 0, 0), str(account)
        read += account.read
        print(f"it read {account.read}, and left {feeder.sent - read} of {feeder.sent}")
    assert read == feeder.sent, "each event is read once, by the runs together"
    stage.assert_each_list_once()
    stage.assert_as_a_replay(log[: feeder.sent])


def test_stopped_under_load_and_started_with_more_or_fewer_processes_nothing_is_read_again(
    stage: Stage,
) -> None:
    log = events(50_000, users=500, seed=1)
    stopped_in_the_midst(stage, log, [(1, "SIGTERM"), (2, "Ctrl-C"), (1, "Ctrl-C")])


def test_a_process_that_reads_no_partition_ends_with_the_others(stage: Stage) -> None:
    """Of three processes two at most have something to read: events and items have a partition each."""
    stage.set(partitions=1, run__epoch_s="2")
    log = events(2000, users=500, seed=12)
    produce(stage.bootstrap, stage.events_topic, log[:1500])
    with stage.job(3) as job:
        stage.until_lists(job)
        job.sigterm()
        assert job.ended("SIGTERM, 3 processes, 2 partitions") == 0, job.text()
    account = stage.account(3)
    assert (account.duplicate, account.absorbed, account.rejected) == (0, 0, 0), str(account)
    produce(stage.bootstrap, stage.events_topic, log[1500:])  # so that the next job has something to do
    with stage.job() as job:
        stage.until_delivered(log, job)
        job.sigterm()
        assert job.ended("SIGTERM, idle") == 0, job.text()
    assert stage.account().read == len(log) - account.read
    assert stage.account().absorbed == 0
    stage.assert_each_list_once()


@pytest.mark.slow
def test_from_one_process_to_three_to_two_to_one(stage: Stage) -> None:
    runs = [(1, "Ctrl-C"), (3, "SIGTERM"), (3, "Ctrl-C"), (2, "SIGTERM"), (1, "SIGTERM")]
    stopped_in_the_midst(stage, events(100_000, users=500, seed=2), runs)


@pytest.mark.slow
def test_stopped_while_the_tables_are_compacted_the_store_is_whole(stage: Stage) -> None:
    stage.set(store__compact_every_s="0.1", store__keep_versions_s="2", run__epoch_s="0.1")
    log = events(2000, users=500, seed=3)
    produce(stage.bootstrap, stage.events_topic, log[:200])
    read = 0
    for number in range(4):
        with stage.job() as job:
            produce(stage.bootstrap, stage.events_topic, log[200 + number * 450 : 650 + number * 450])
            stage.until_lists(job)
            time.sleep(0.3 * number)  # each at another point of the work
            if number == 3:
                stage.until_delivered(log, job)
            job.sigterm()
            assert job.ended("SIGTERM while compacting") == 0, job.text()
        account = stage.account()
        assert account.absorbed == 0
        read += account.read
    assert read == len(log)
    stage.assert_as_a_replay(log)


@pytest.mark.parametrize(
    ("processes", "after_s"),
    [
        (1, 0.5),
        *(
            pytest.param(1, after_s, marks=pytest.mark.slow)
            for after_s in (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
        ),
        *(
            pytest.param(2, after_s, marks=pytest.mark.slow)
            for after_s in (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
        ),
    ],
)
def test_stopped_while_it_starts_up_it_ends_at_once(stage: Stage, processes: int, after_s: float) -> None:
    log = events(60, seed=4)
    produce(stage.bootstrap, stage.events_topic, log[:50])
    with stage.job(processes) as job:
        wait_until(lambda: len(job.children()) == processes, job.text)
        time.sleep(after_s)
        job.sigterm()
        assert job.ended(f"{processes} process(es), SIGTERM {after_s} s after they began") == 0, job.text()
    produce(stage.bootstrap, stage.events_topic, log[50:])
    with stage.job() as job:
        stage.until_delivered(log, job)
        job.sigterm()
        assert job.ended("SIGTERM, idle") == 0, job.text()
    assert stage.account().absorbed == 0
    stage.assert_each_list_once()


def test_stopped_while_no_broker_answers_at_the_start_all_processes_end_without_waiting_for_it(
    stage: Stage,
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        stage.environ["RECSTREAM_KAFKA__BOOTSTRAP"] = f"127.0.0.1:{nobody.getsockname()[1]}"
        with stage.job(2, "--new-store") as job:
            wait_until(lambda: job.text().count("recstream.runtime.runner flow=") == 2, job.text)
            job.sigterm()
            assert job.ended("SIGTERM, no broker") == 0, job.text()
            assert "no broker" not in job.text()
            assert "stopped before anything was read" in job.text()


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("after_s", [2.0, 4.0, 6.0, 8.0])
def test_stopped_while_the_model_is_loaded_it_ends_at_once(stage: Stage, after_s: float) -> None:
    stage.set(encoder__backend="transformers")
    produce(stage.bootstrap, stage.events_topic, events(5, seed=5))
    with stage.job() as job:
        wait_until(lambda: len(job.children()) == 1, job.text)
        time.sleep(after_s)
        job.sigterm()
        assert job.ended(f"SIGTERM {after_s} s after it began to load a model") == 0, job.text()


def test_stopped_before_a_restart_it_ends_at_once_and_says_why_it_was_down(stage: Stage) -> None:
    log = events(20, seed=6)
    produce(stage.bootstrap, stage.events_topic, log[:10])
    with stage.job() as job:
        stage.until_delivered(log[:10], job)
        os.kill(job.children()[0], signal.SIGKILL)
        wait_until(lambda: "a process died" in job.text(), job.text)
        job.sigterm()
        assert job.ended("SIGTERM before a restart") == 1, job.text()
        assert "stopped while waiting to restart after a failure" in " ".join(job.text().split())
        assert job.text().count("restart=") == 1
    produce(stage.bootstrap, stage.events_topic, log[10:])
    with stage.job() as job:
        stage.until_delivered(log, job)
        job.sigterm()
        assert job.ended("SIGTERM") == 0, job.text()
    stage.assert_as_a_replay(log)


@pytest.mark.slow
def test_a_second_sigterm_changes_nothing(stage: Stage) -> None:
    log = events(2100, users=500, seed=7)
    produce(stage.bootstrap, stage.events_topic, log[:2000])
    with stage.job(2) as job:
        stage.until_lists(job)
        for _ in range(5):
            job.sigterm()
            time.sleep(0.02)
        assert job.ended("SIGTERM five times") == 0, job.text()
    first = stage.account(2)
    assert first.absorbed == 0
    produce(stage.bootstrap, stage.events_topic, log[2000:])
    with stage.job() as job:
        stage.until_delivered(log, job)
        job.sigterm()
        assert job.ended("SIGTERM") == 0
    assert stage.account().read == len(log) - first.read
    assert stage.account().absorbed == 0
    stage.assert_each_list_once()


@pytest.mark.slow
def test_a_second_ctrl_c_ends_it_without_waiting_and_loses_nothing(stage: Stage) -> None:
    log = events(2100, users=500, seed=8)
    produce(stage.bootstrap, stage.events_topic, log[:2000])
    with stage.job() as job:
        stage.until_lists(job)
        children = job.children()
        job.ctrl_c()
        time.sleep(0.02)
        job.ctrl_c()
        assert job.ended("Ctrl-C twice") == 128 + signal.SIGINT
        wait_until(lambda: not any(alive(child) for child in children), "the end of the children", seconds=5)
    produce(stage.bootstrap, stage.events_topic, log[2000:])
    with stage.job() as job:
        stage.until_delivered(log, job)
        job.sigterm()
        assert job.ended("SIGTERM") == 0
    stage.assert_as_a_replay(log)


@pytest.mark.slow
def test_stopped_while_the_encoder_does_not_answer_it_says_that_nothing_is_lost(stage: Stage) -> None:
    with embedding_server() as server:
        server.reply = lambda *_: (503, b"", {"Retry-After": "60"})
        stage.set(
            encoder__backend="openai", encoder__url=server.url, encoder__dim="4", run__stop_timeout_s="2"
        )
        produce(stage.bootstrap, stage.events_topic, events(5, seed=9))
        with stage.job() as job:
            wait_until(lambda: bool(server.questions), job.text)
            job.sigterm()
            assert job.ended("SIGTERM while the encoder does not answer") == 1
            assert "did not stop within 2 s and were killed; nothing is lost" in " ".join(job.text().split())


def may_unshare() -> bool:
    """Whether this user may make a process that is the first of its own."""
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    return done.returncode == 0


def stat_of(pid: int) -> tuple[str, int]:
    """State and parent of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class FirstProcess(TerminalJob):
    """``recstream run`` as process 1 of its own, as a container's entry point in exec form is."""

    def __init__(self, log: Path, settings: Mapping[str, str], *args: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--mount-proc", *command("run", *args)],
                env=environment(settings),
                stdout=out,
                stderr=out,
            )
        wait_until(lambda: bool(children_of(self.process.pid)), "the first process")
        (self.first,) = children_of(self.process.pid)

    def sigterm(self) -> None:
        """From outside, as a container's engine does."""
        os.kill(self.first, signal.SIGTERM)

    def children(self) -> list[int]:
        """As seen from outside."""
        return children_of(self.first)

    def kill(self) -> None:
        """With process 1 all others of its kind end."""
        os.kill(self.first, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def first_process(stage: Stage) -> Iterator[FirstProcess]:
    if not may_unshare():
        pytest.skip("this user may not make a PID namespace (unshare --pid)")
    job = FirstProcess(stage.folder / "job.log", stage.environ, "--processes", "2")
    yield job
    if job.process.poll() is None:
        job.kill()


def test_as_process_one_it_stops_when_asked_and_leaves_no_process(
    stage: Stage, first_process: FirstProcess
) -> None:
    job = first_process
    log = events(50, seed=10)
    produce(stage.bootstrap, stage.events_topic, log)
    stage.until_delivered(log, job)
    children = job.children()
    assert len(children) == 2
    job.sigterm()
    assert job.ended("SIGTERM to process 1") == 0, job.text()
    assert not any(alive(pid) for pid in [job.first, *children])
    assert stage.account(2) == (50, 50, 0, 0, 0, 0, True)


def test_as_process_one_it_buries_the_orphans_that_it_inherits(
    stage: Stage, first_process: FirstProcess
) -> None:
    job = first_process
    wait_until(lambda: len(job.children()) == 2, job.text)
    before = set(job.children())
    enter = ["nsenter", "-t", str(job.first), "-p", "sh", "-c", "sleep 0.5 & sleep 0.1"]
    subprocess.run(enter, check=True)
    wait_until(lambda: len(job.children()) == 3, "the orphan to be inherited", seconds=10)
    wait_until(lambda: set(job.children()) == before, "the orphan to be buried", seconds=10)
    job.sigterm()
    assert job.ended("SIGTERM to process 1") == 0, job.text()


def test_as_process_one_it_hears_the_signal_while_it_still_imports() -> None:
    if not may_unshare():
        pytest.skip("this user may not make a PID namespace (unshare --pid)")
    code = "import recstream.runtime.signals as f, time; print(f.IS_FIRST, flush=True); time.sleep(60)"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        (first,) = children_of(process.pid)
        os.kill(first, signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    code = "import recstream.cli, sys; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = loaded.stdout.splitlines()
    assert names.index("recstream.runtime.signals") < names.index("numpy"), "before all that takes long"
