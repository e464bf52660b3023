"""The supervisor of a job's processes."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recstream.config.settings import Settings
from recstream.connectors.base import ConnectorError, PartitionWatch
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.runtime.faults import EXIT_WAITED, JobError, RefusedError, exit_code, process_exit_code
from recstream.runtime.process import throttled_path
from recstream.runtime.signals import Stop
from recstream.runtime.supervisor import Supervisor


class Shells(Supervisor):
    """Its processes are shells that end as the test says, start by start."""

    def __init__(self, folder: Path, starts: list[list[str]], **more: object) -> None:
        chosen = {"store.path": str(folder), "run.restarts": 1, **more}
        super().__init__(Settings.load(None, {}, chosen), Stop(), {})
        self.starts: Iterator[list[str]] = iter(starts)
        self.started = 0

    def _check(self) -> None:
        """There is no broker."""

    def _start(self) -> None:
        self.started += 1
        self._children = [subprocess.Popen(["sh", "-c", end]) for end in next(self.starts)]


def test_the_process_to_blame_may_be_the_last_to_end(tmp_path: Path) -> None:
    supervisor = Shells(tmp_path, [["exit 1", "sleep 0.7; exit 4"]])
    supervisor._start()
    assert supervisor._last_words() == [1, 4]


@pytest.mark.parametrize(
    ("lasts_s", "throttled", "in_time"), [(3.0, 5, True), (60.0, 1, False)], ids=["throttled", "stuck"]
)
def test_a_stop_takes_longer_as_long_as_a_broker_throttles_what_is_left_to_be_written(
    tmp_path: Path, lasts_s: float, throttled: int, in_time: bool
) -> None:
    ready = tmp_path / "ready"
    process = f"trap '' TERM; touch {ready}; sleep {lasts_s}"
    supervisor = Shells(tmp_path, [[process]], **{"run.stop_timeout_s": 1.0})
    path = throttled_path(supervisor._settings.store_dir, 0)
    path.parent.mkdir(parents=True, exist_ok=True)

    def stop() -> None:
        while not ready.exists():
            time.sleep(0.01)
        supervisor._stop.ask()
        for _ in range(throttled):
            time.sleep(0.6)
            path.with_suffix(".new").write_text(f"{time.monotonic()}")
            path.with_suffix(".new").replace(path)

    stopping = threading.Thread(target=stop)
    stopping.start()
    if in_time:
        assert supervisor._keep_running(PartitionWatch()) == []
    else:
        with pytest.raises(JobError, match="did not stop within 1 s"):
            supervisor._keep_running(PartitionWatch())
    stopping.join()


@pytest.mark.parametrize(
    ("ends", "error", "code"),
    [
        ([f"exit {EXIT_WAITED}"], JobError, 1),
        (["exit 1", f"sleep 0.2; exit {EXIT_WAITED}"], JobError, 1),
        (["exit 2"], RefusedError, 2),
    ],
    ids=["away", "away, seen by one", "refused"],
)
def test_where_a_start_would_not_help_there_is_none(
    tmp_path: Path, ends: list[str], error: type[JobError], code: int
) -> None:
    supervisor = Shells(tmp_path, [ends])
    with pytest.raises(error) as caught:
        supervisor._keep_running(PartitionWatch())
    assert supervisor.started == 1
    assert exit_code(caught.value) == code


def test_other_ends_are_tried_again(tmp_path: Path) -> None:
    supervisor = Shells(tmp_path, [["exit 1"], ["exit 1"]])
    with pytest.raises(JobError, match="failed 2 times in a row"):
        supervisor._keep_running(PartitionWatch())
    assert supervisor.started == 2


def test_a_fault_says_to_the_supervisor_whether_to_start_again() -> None:
    class Waited(ConnectorError):
        was_waited_for = True

    class Refused(ConnectorError):
        exit_code = 2

    assert process_exit_code(ConnectorError()) == 1
    assert process_exit_code(Refused()) == 2
    assert (process_exit_code(Waited()), exit_code(Waited())) == (EXIT_WAITED, 1)


class NoStart(Supervisor):
    def _start(self) -> None:
        pytest.fail("processes were started")


def refused(**settings: object) -> ConnectorError:
    """Why a job with these settings is not started."""
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    with pytest.raises(ConnectorError) as caught:
        NoStart(Settings.load(None, {}, dotted), Stop(), {}).run()
    assert exit_code(caught.value) == 2
    return caught.value


def test_settings_that_the_client_refuses_start_nothing() -> None:
    assert "sasl.mechansim" in str(refused(kafka__client={"sasl.mechansim": "x"}))


@pytest.mark.kafka
def test_topics_that_lack_start_nothing_and_are_named_all(broker: EmbeddedBroker) -> None:
    names = {f"kafka__{kind}_topic": f"never-made-{kind}" for kind in ("events", "lists", "sessions")}
    told = str(refused(kafka__bootstrap=broker.bootstrap, **names))
    assert "has no topic" in told
    assert "create it" in told
    assert all(name in told for name in names.values())
