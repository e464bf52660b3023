"""The barrier: what no event waits for is written meanwhile, whole at the end, and fails as loudly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from recstream.dataflow.background import Background
from recstream.dataflow.model_state.session_index import SESSIONS
from tests.support.builders import WorkerHarness, event

ITEMS = [f"i{k}" for k in range(6)]


class DiskError(Exception):
    """A store cannot be written."""


class Held:
    """A store's writes wait until they are let go."""

    def __init__(self, write: Callable[[Sequence[Any]], None]) -> None:
        self._write = write
        self.gate = threading.Event()

    def __call__(self, rows: Sequence[Any]) -> None:
        assert self.gate.wait(20.0), "nobody let it go"
        self._write(rows)


@contextmanager
def held_statistics(harness: WorkerHarness) -> Iterator[Held]:
    """The statistics of a harness are written no further than their store's door."""
    held = Held(harness.statistics.upsert)
    harness.statistics.upsert = held  # type: ignore[method-assign]  # a slow disk
    try:
        yield held
    finally:
        held.gate.set()


def heard(count: int, *, first: int = 0) -> WorkerHarness:
    harness = WorkerHarness()
    harness.know(*ITEMS)
    listen(harness, count, first=first)
    return harness


def listen(harness: WorkerHarness, count: int, *, first: int = 0) -> None:
    for k in range(first, first + count):
        step = harness.step(event(float(k), "view", ITEMS[k % 6], user=f"u{k % 3}", offset=k))
        harness.count(step.interactions)
    harness.clock.now += 0.01
    harness.step()  # between events


def fail(_: Any) -> None:
    raise DiskError("no room")


def test_users_and_items_are_written_while_statistics_are_not_yet() -> None:
    harness = heard(12)
    with held_statistics(harness):
        harness.worker.flush()
        assert sorted(harness.users.rows) == ["u0", "u1", "u2"]
        assert sorted(harness.items.rows) == ITEMS
        assert not harness.statistics.rows
    harness.worker.checkpoint.background.wait()
    assert sorted(harness.statistics.rows) == ITEMS


def test_a_barrier_that_finds_the_one_before_at_work_begins_nothing_new() -> None:
    harness = heard(12)
    with held_statistics(harness):
        harness.worker.flush()
        for first in (12, 24):
            listen(harness, 12, first=first)
            harness.worker.flush()
            assert {row.version for row in harness.users.rows.values()} == {(first + 12) // 3}
    harness.worker.checkpoint.background.wait()
    writes = [what for what, _ in harness.statistics.calls if what == "upsert"]
    assert len(writes) == 1
    listen(harness, 12, first=36)
    harness.flush()
    assert {row.tick for row in harness.statistics.rows.values()} == {48.0}


def test_at_the_end_all_is_written_before_the_barrier_is_done() -> None:
    harness = heard(12)
    with held_statistics(harness) as held:
        harness.worker.flush()
        listen(harness, 12, first=12)
        harness.worker.is_ending = True
        threading.Timer(0.1, held.gate.set).start()
        harness.worker.flush()
        assert {row.tick for row in harness.statistics.rows.values()} == {24.0}
    assert any(name.startswith(SESSIONS) for name in harness.models.rows)


def test_what_is_written_later_begins_when_events_that_waited_have_their_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or as soon as somebody waits for it: the end does."""
    monkeypatch.setattr("recstream.dataflow.background.AFTER_BARRIER_S", 30.0)
    background, done = Background(), threading.Event()
    background.run_after_barrier(done.set)
    assert not done.wait(0.05)
    background.wait()
    assert done.is_set()
    background.run_after_barrier(done.clear)
    background.wait()
    assert not done.is_set()


@pytest.mark.parametrize("ending", [False, True])
def test_what_cannot_be_written_stops_the_next_barrier(ending: bool) -> None:
    harness = heard(12)
    harness.statistics.upsert = fail  # type: ignore[method-assign, assignment]  # a full disk
    harness.worker.flush()
    while not harness.worker.checkpoint.background.is_idle:
        pass
    harness.worker.is_ending = ending
    with pytest.raises(DiskError, match="no room"):
        harness.worker.flush()


def test_compaction_holds_up_no_barrier() -> None:
    gate, runs = threading.Event(), []

    def compact() -> None:
        runs.append(gate.wait(20.0))

    class Tidied(WorkerHarness):
        maintain = staticmethod(compact)

    harness = Tidied()
    harness.know(*ITEMS)
    for first in (0, 12, 24):
        listen(harness, 12, first=first)
        harness.worker.flush()
    assert {row.version for row in harness.users.rows.values()} == {12}
    assert not runs, "it was waited for"
    gate.set()
    harness.worker.checkpoint.upkeep.wait()
    assert runs == [True]


def test_of_somebody_forgotten_nothing_is_left_that_was_being_written() -> None:
    harness = heard(12)
    with held_statistics(harness) as held:
        harness.worker.flush()
        harness.step(event(99.0, "forget", user="u1", offset=99))
        threading.Timer(0.1, held.gate.set).start()
        harness.worker.flush()
        assert "u1" not in harness.users.rows
        assert not any(b"u1" in row.state for row in harness.models.rows.values())
