"""What recstream relies on in bytewax beyond its documentation: a version that does otherwise fails here."""

from __future__ import annotations

import heapq
import itertools
import os
import pickle
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.runtime.bytewax_internals import (
    BYTEWAX_VERSION,
    AlignedEpochs,
    ErrorCapture,
    StoredState,
    committed_states,
    make_recovery_store,
    once_listed,
    set_states,
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


class Counters(FixedPartitionedSource[str, int]):
    """Partitions that count on from where they were, and note what they emit."""

    def __init__(self, names: list[str], until: int, emitted: list[str], *, fails: bool = False) -> None:
        self._names, self._until, self._emitted, self._fails = names, until, emitted, fails

    def list_parts(self) -> list[str]:
        return self._names

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Counter:
        return Counter(for_part, resume_state or 0, self._until, self._emitted, fails=self._fails)


class Counter(StatefulSourcePartition[str, int]):
    def __init__(self, name: str, at: int, until: int, emitted: list[str], *, fails: bool) -> None:
        self._name, self._at, self._until, self._emitted, self._fails = name, at, until, emitted, fails

    def next_batch(self) -> list[str]:
        if self._at >= self._until:
            if self._fails:
                raise ZeroDivisionError
            raise StopIteration
        self._emitted.append(f"{self._name}:{self._at}")
        self._at += 1
        return [self._name]

    def snapshot(self) -> int:
        return self._at


def count(store: Path, until: int, *, workers: int = 1, fails: bool = False) -> list[str]:
    """Let four partitions count; gives what they emitted."""
    emitted: list[str] = []
    df = Dataflow("flow")
    counters = Counters(["a", "b", "c", "d"], until, emitted, fails=fails)
    op.output("out", op.input("counters", df, counters), TestingSink([]))
    with pytest.raises(BytewaxRuntimeError) if fails else nullcontext():
        cluster_main(
            df,
            [],
            0,
            epoch_interval=timedelta(0),
            recovery_config=RecoveryConfig(str(store)),
            worker_count_per_proc=workers,
        )
    return emitted


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_goes_on_from_the_states_that_were_set(tmp_path: Path, workers: int, parts: int) -> None:
    """Those of other keys stay; and so after every run, with any number of workers before and after."""
    make_recovery_store(tmp_path, parts)
    count(tmp_path, 5)
    assert committed_states(tmp_path) == {("flow.counters", name): 5 for name in "abcd"}
    set_states(tmp_path, {("flow.counters", "b"): 3, ("flow.counters", "d"): 6})
    assert committed_states(tmp_path) == {
        ("flow.counters", k): v for k, v in zip("abcd", (5, 3, 5, 6), strict=True)
    }
    assert sorted(count(tmp_path, 7, workers=workers)) == [
        *("a:5", "a:6", "b:3", "b:4", "b:5", "b:6", "c:5", "c:6", "d:6")
    ]
    set_states(tmp_path, {("flow.counters", "a"): 0})
    assert count(tmp_path, 2, workers=3 - workers) == ["a:0", "a:1"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_crashed_run_did_not_commit_is_neither_read_nor_set(store: Path, workers: int) -> None:
    """The states are those that the next run begins with, whatever later rows the crash has left."""
    count(store, 4)
    count(store, 9, workers=workers, fails=True)
    states = committed_states(store)
    resumed = count(store, 10)
    assert sorted(resumed) == sorted(
        f"{name}:{at}" for (_, name), state in states.items() for at in range(state, 10)
    )


def test_a_crash_leaves_rows_of_an_epoch_that_is_not_committed_where_they_are(store: Path) -> None:
    """Which is why the newest row of a key is not always the one to read."""
    count(store, 4)
    committed = committed_states(store)
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as database, database:
        database.execute(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)",
            ("flow.counters", "a", 10_000, pickle.dumps(77)),
        )
    assert committed_states(store) == committed
    set_states(store, {("flow.counters", "a"): 2})
    assert count(store, 4) == ["a:2", "a:3"]


def test_states_are_set_all_or_none(store: Path) -> None:
    count(store, 4)
    before = committed_states(store)
    with pytest.raises(KeyError, match="nobody"):
        set_states(store, {("flow.counters", "a"): 2, ("flow.counters", "nobody"): 1})
    assert committed_states(store) == before


def test_committed_states_are_read_while_a_run_is_under_way(store: Path) -> None:
    """And no run is disturbed: it ends as it would have."""
    count(store, 3)
    seen: list[set[int]] = []

    class Watched(list[str]):
        def append(self, one: str) -> None:
            super().append(one)
            seen.append(set(committed_states(store).values()))

    df = Dataflow("flow")
    op.output("out", op.input("counters", df, Counters(["a", "b", "c", "d"], 30, Watched())), TestingSink([]))
    run_main(df, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(store)))
    assert seen[0] == {3}
    assert committed_states(store)["flow.counters", "a"] == 30


def test_a_store_on_which_nothing_ran_has_no_states(store: Path) -> None:
    assert committed_states(store) == {}


# epochs of several sources

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)


class LookedAt:
    """A partition that wants to be looked at again after the next of its pauses, in milliseconds."""

    def __init__(self, clock: Callable[[], datetime], pauses: Sequence[float]) -> None:
        self._clock = clock
        self._pauses = itertools.cycle(pauses)

    def next_awake(self) -> datetime:
        return self._clock() + timedelta(milliseconds=next(self._pauses))

    def snapshot(self) -> None:
        return None


def closings(
    pauses: Sequence[Sequence[float]], *, aligned: bool = True, cluster: bool = False, epochs: int = 20
) -> list[list[float]]:
    """When each partition closes its epochs of a second, as bytewax does it; in milliseconds.

    In a ``cluster`` each is read by another process.
    """
    now = 0.0

    def utc() -> datetime:
        return BEGIN + timedelta(milliseconds=now)

    def process() -> AlignedEpochs:
        return AlignedEpochs(
            Dataflow("none"), 1.0, is_one_of_many=cluster, clock=lambda: now / 1000.0, now=utc
        )

    alone = process()
    parts: list[Any] = [LookedAt(utc, own) for own in pauses]
    begun = []
    for place, part in enumerate(parts):
        now = 7.0 * place  # they are built one after the other
        begun.append(now)
        if aligned:
            (process() if cluster else alone).align(part)
    looks = [(0.0, place) for place in range(len(parts))]
    found: list[list[float]] = [[] for _ in parts]
    while (done := min(map(len, found))) < epochs:
        now, place = heapq.heappop(looks)
        if (
            len(found[place]) == done and now - begun[place] >= 1000.0 * alone.epoch_s
        ):  # who is ahead waits for the others
            parts[place].snapshot()
            begun[place] = now
            found[place].append(now)
        at = (parts[place].next_awake() - BEGIN) / timedelta(milliseconds=1)
        heapq.heappush(looks, (max(at, now + 0.1), place))
    return found


def apart(found: list[list[float]]) -> float:
    """The greatest time between two closings of the same epoch."""
    return max((max(times) - min(times) for times in zip(*found, strict=False)), default=0.0)


PAUSES = st.lists(st.floats(1.0, 20.0), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None)
@given(st.lists(PAUSES, min_size=2, max_size=3), st.booleans())
def test_sources_close_their_epochs_together_whenever_they_are_looked_at(
    pauses: list[list[float]], cluster: bool
) -> None:
    longest = max(max(own) for own in pauses)
    found = [times[5:] for times in closings(pauses, cluster=cluster)]  # once they have met
    assert apart(found) <= longest + 0.1


def test_left_alone_two_sources_drift_apart() -> None:
    assert apart(closings([[2.0], [17.0, 11.0, 13.0]], aligned=False)) > 50.0
    assert apart(closings([[2.0], [17.0, 11.0, 13.0]])) < 20.0


def test_the_processes_of_a_cluster_close_their_epochs_at_whole_seconds_of_the_wall_clock() -> None:
    late = closings([[1.0], [2.0], [3.0]], cluster=True)
    assert [round(times[-1]) % 1000 for times in late] == [0, 0, 0]


def test_the_epochs_of_a_job_are_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its two sources; one alone has nothing to be aligned with."""
    aligned: list[str] = []

    def align(_: AlignedEpochs, part: Any) -> Any:
        aligned.append(type(part).__name__)
        return part

    monkeypatch.setattr(AlignedEpochs, "align", align)
    for sources, count in ((1, 0), (2, 2)):
        flow = Dataflow("some")
        streams = [op.input(f"in{k}", flow, TestingSource([k])) for k in range(sources)]
        op.output("out", op.merge("all", *streams), TestingSink([]))
        aligned.clear()
        run_flow(flow, recovery=None, epoch_s=10.0)
        assert len(aligned) == count
