"""What recstream relies on in bytewax beyond its documentation: a version that does otherwise fails here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

from recstream.runtime.bytewax_internals import (
    BYTEWAX_VERSION,
    ErrorCapture,
    StoredState,
    make_recovery_store,
    once_listed,
    stored_keys,
    stored_states,
)
from recstream.runtime.positions import PositionsError
from recstream.runtime.runner import run_flow
from tests.support.documents import page

NEVER_DUE = datetime(2999, 1, 1, tzinfo=timezone.utc)
LONG_PAST = datetime(2000, 1, 1, tzinfo=timezone.utc)


class Logic(StatefulBatchLogic[int, int, int]):
    """Notes what it is asked, in order."""

    def __init__(self, calls: list[str], notify_at: datetime) -> None:
        self._calls, self._notify_at = calls, notify_at

    def on_batch(self, values: list[int]) -> tuple[Iterable[int], bool]:
        self._calls.append(f"batch {values}")
        return values, self.RETAIN

    def on_notify(self) -> tuple[Iterable[int], bool]:
        self._calls.append("notify")
        self._notify_at = NEVER_DUE
        return (), self.RETAIN

    def notify_at(self) -> datetime:
        return self._notify_at

    def snapshot(self) -> int:
        self._calls.append("snapshot")
        return 7


def flow(source: TestingSource[int], calls: list[str], notify_at: datetime = NEVER_DUE) -> Dataflow:
    df = Dataflow("flow")
    keyed = op.key_on("key", op.input("numbers", df, source), lambda _: "k")
    logic: Callable[[int | None], Logic] = lambda _: Logic(calls, notify_at)  # noqa: E731 - needs its type
    counted = op.stateful_batch("logic", keyed, logic)
    op.output("out", counted, TestingSink([]))
    return df


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "positions"
    make_recovery_store(folder)
    return folder


def test_the_version_is_the_one_that_was_looked_at_and_is_pinned() -> None:
    assert version("bytewax") == BYTEWAX_VERSION
    assert re.search(rf'"bytewax=={re.escape(BYTEWAX_VERSION)}"', page("pyproject.toml"))


def test_a_recovery_store_has_keys_and_states_by_step(store: Path) -> None:
    source = TestingSource([1, 2])
    run_main(flow(source, []), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(store)))
    assert stored_keys(store) == {"flow.numbers": {"iterable"}, "flow.logic": {"k"}}
    assert StoredState("flow.logic", "k", 7) in list(stored_states(store))
    assert max(one.state for one in stored_states(store) if one.step == "flow.numbers") == 2


def test_where_no_store_is_nothing_is_stored(tmp_path: Path) -> None:
    assert stored_keys(tmp_path) == {}
    assert list(stored_states(tmp_path)) == []


def test_a_logic_is_notified_before_the_snapshot_of_the_same_epoch(store: Path) -> None:
    calls: list[str] = []
    run_main(
        flow(TestingSource([1]), calls, LONG_PAST),
        epoch_interval=timedelta(hours=1),
        recovery_config=RecoveryConfig(str(store)),
    )
    assert calls[:2] == ["batch [1]", "notify"]
    assert "snapshot" in calls[2:]


def test_a_notification_is_compared_with_the_clock_of_the_machine() -> None:
    calls: list[str] = []
    run_main(flow(TestingSource([1]), calls, datetime.now(timezone.utc) + timedelta(hours=1)))
    assert "notify" not in calls


def test_only_keys_that_were_awake_in_an_epoch_are_asked_for_a_snapshot(store: Path) -> None:
    calls: list[str] = []
    source = TestingSource([1, 1, 1])
    run_main(flow(source, calls), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(store)))
    assert calls.count("snapshot") <= calls.count("batch [1]") + 1
    assert calls.index("batch [1]") < calls.index("snapshot")


def test_a_fault_of_the_store_says_what_sqlite_said(store: Path) -> None:
    for part in store.glob("part-*.sqlite3"):
        part.write_bytes(b"this is no database" * 100)
    with pytest.raises(PositionsError, match="cannot be kept: file is not a database; check the folder"):
        run_flow(flow(TestingSource([1]), []), recovery=store, epoch_s=1.0)


def test_the_wrapped_steps_are_those_that_bytewax_calls() -> None:
    """In a logic, in a function of a step, and where a source is read."""

    def fails(_: object) -> bool:
        raise ZeroDivisionError

    for place in ("logic", "filter", "source"):
        df = Dataflow("flow")
        source = TestingSource([1, TestingSource.ABORT()] if place == "source" else [1])
        numbers = op.input("numbers", df, source)
        if place == "filter":
            numbers = op.filter("filter", numbers, fails)
        keyed = op.key_on("key", numbers, lambda _: "k")
        if place == "logic":
            keyed = op.stateful_map("logic", keyed, lambda *_: fails(0))  # type: ignore[arg-type]  # fails
        op.output("out", keyed, TestingSink([]))
        captured: list[BaseException] = []
        ErrorCapture(df, captured.append)
        if place == "source":
            run_main(df)  # an abort is how this source ends
        else:
            with pytest.raises((ZeroDivisionError, BytewaxRuntimeError)):
                run_main(df)
        assert [type(error).__name__ for error in captured] == [
            "AbortExecution" if place == "source" else "ZeroDivisionError"
        ]


def failing(place: str) -> Dataflow:
    """A dataflow that fails there."""

    class Lacking(TestingSource[int]):
        def list_parts(self) -> list[str]:
            raise PositionsError(Path("state"), "it lacks")

    df = Dataflow("flow")
    numbers = op.input("numbers", df, Lacking([1]) if place == "source" else TestingSource([1]))
    divided = op.map("divide", numbers, lambda one: one // (0 if place == "step" else 1))
    op.output("out", divided, TestingSink([]))
    return df


def words_of(code: str) -> str:
    """What a process writes to its standard error that runs this code.

    Another one than that of the tests: a cluster that ran there has changed what Rust writes of a panic.
    """
    begin = (
        "import os\n"
        "from bytewax.testing import run_main\n"
        "from recstream.runtime.runner import run_flow\n"
        "from tests.runtime import test_bytewax_internals as own\n"
    )
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, check=True)
    return done.stderr


@pytest.mark.parametrize("place", ["source", "step"])
def test_a_fault_of_a_lone_process_arrives_before_any_word_of_rust(place: str) -> None:
    code = """
try:
    {run}
    raise SystemExit("it did not fail")
except BaseException as error:
    assert not isinstance(error, SystemExit), error
os.write(2, b"heard again")
"""
    assert "panicked" in words_of(code.format(run=f"run_main(own.failing({place!r}))")), "what it is about"
    run = f"run_flow(own.failing({place!r}), recovery=None, epoch_s=1.0)"
    assert words_of(code.format(run=run)) == "heard again"


class FailingSink(DynamicSink[int]):
    """A sink that can be made to fail."""

    fails = False

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[int]:
        if self.fails:
            raise ZeroDivisionError
        return TestingSink[int]([]).build(step_id, worker_index, worker_count)


def run_twice() -> None:
    """Two dataflows with one sink; the second one fails."""
    sink = FailingSink()
    for fails in (False, True):
        df = Dataflow("flow")
        op.output("out", op.input("numbers", df, TestingSource([1])), sink)
        sink.fails = fails
        with pytest.raises((ZeroDivisionError, BytewaxRuntimeError)) if fails else nullcontext():
            run_flow(df, recovery=None, epoch_s=1.0)
    os.write(2, b"heard again")


def test_a_sink_that_another_run_has_used_takes_no_words() -> None:
    assert words_of("own.run_twice()") == "heard again"


def test_every_worker_lists_before_anything_is_read() -> None:
    calls: list[str] = []
    df = Dataflow("flow")
    read = op.inspect("read", op.input("numbers", df, TestingSource([1, 2])), lambda *_: calls.append("read"))
    op.output("out", read, TestingSink([]))
    once_listed(df, lambda: calls.append("listed"))
    cluster_main(df, [], 0, worker_count_per_proc=2)
    assert calls[-2:] == ["read", "read"]
    assert set(calls[:-2]) == {"listed"}
