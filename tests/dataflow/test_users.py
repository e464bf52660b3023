"""User shards under bytewax: worked off within the activation, written before the epoch commits."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource

from recstream.dataflow.items import count_interactions, store_items
from recstream.dataflow.messages import EventBatch
from recstream.dataflow.recommend import recommend
from recstream.dataflow.users import BarrierError, _ShardLogic, users
from recstream.dataflow.worker import PerWorker, Worker
from recstream.items.codec import ItemRow
from recstream.items.statistics import SCALES
from recstream.records.event import Event
from recstream.records.transport import shard_of
from tests.support.builders import WorkerHarness, arrived, decoded, event, item_row

ITEMS = [f"i{k}" for k in range(6)]
EPOCHS = [timedelta(0), timedelta(seconds=1)]
EVER = SCALES.index(math.inf)
"""Where a row of statistics counts everything."""


def log(count: int = 40) -> list[Event]:
    return arrived([event(float(k), "view", ITEMS[k % 6], user=f"u{k % 7}") for k in range(count)])


class Job:
    """The graph of the live job on fakes; what its workers made is in `lists`, what they are in `workers`."""

    def __init__(
        self, harness: WorkerHarness, events: list[Event | TestingSource.ABORT], *, batch: int = 5
    ) -> None:
        self.harness = harness
        self.lists: list[Any] = []
        self.workers: list[Worker] = []
        self.source = TestingSource(events, batch_size=batch)
        self.items: list[list[ItemRow]] = [[item_row(item_id) for item_id in ITEMS]]

    def flow(self) -> Dataflow:
        rules = self.harness.rules

        def make() -> Worker:
            self.workers.append(Worker(self.harness.services(), rules))
            return self.workers[-1]

        worker = PerWorker(make)
        flow = Dataflow("users_logic")
        events = op.input("events", flow, self.source)
        stored = store_items("items", op.input("item_rows", flow, TestingSource(self.items)), worker, rules)
        received = op.map("receive", events, lambda one: EventBatch(self.harness.clock(), [one]))
        out = users("users", received, worker, rules)
        listed = recommend("recommend", out.due, worker)
        counted = count_interactions("count", out.interactions, worker, rules)
        op.output("lists", op.merge("all", listed, out.lists), TestingSink(self.lists))
        for name, stream in (
            ("stored", stored),
            ("counted", counted),
            ("rejects", out.rejects),
            ("sessions", out.sessions),
        ):
            op.output(name, stream, TestingSink([]))
        return flow


def stocked(harness: WorkerHarness) -> WorkerHarness:
    """The items are stored already, so that no event has to wait."""
    harness.items.upsert([item_row(item_id, seq=at) for at, item_id in enumerate(ITEMS)])
    return harness


def versions(harness: WorkerHarness) -> dict[str, int]:
    return {user: row.version for user, row in harness.users.rows.items()}


WANTED = {f"u{k}": len(range(k, 40, 7)) for k in range(7)}


def test_the_barrier_refuses_to_commit_what_was_not_worked_off() -> None:
    harness = stocked(WorkerHarness())
    harness.again()
    logic = _ShardLogic(harness.worker)
    assert list(logic.on_batch([EventBatch(0.0, log(3))])[0]) == []
    with pytest.raises(BarrierError, match="3 events were not applied"):
        logic.snapshot()
    assert harness.users.rows == {}


def test_the_first_shard_notified_works_off_for_all_and_the_first_asked_writes_for_all() -> None:
    harness = stocked(WorkerHarness())
    harness.again()
    one, other = _ShardLogic(harness.worker), _ShardLogic(harness.worker)
    one.on_batch([EventBatch(0.0, log()[:3])])
    other.on_batch([EventBatch(0.0, log()[3:5])])
    now = datetime.now(timezone.utc)
    for logic in (one, other):
        look = logic.notify_at()
        assert look is not None
        assert look < now
    ((step,), discard) = one.on_notify()
    assert not discard
    assert [query.user_id for query in step.queries] == ["u0", "u1", "u2", "u3", "u4"]
    assert other.notify_at() is None
    shards = [shard_of(user, harness.rules.shards) for user in ("u0", "u3")]
    snapshots = [one.snapshot(), other.snapshot()]  # no state: that is in the store
    assert [shard for shard, _ in snapshots] == shards
    assert snapshots[0][1] == snapshots[1][1]
    assert [name for name, _ in harness.users.calls].count("upsert") == 1


def test_the_end_of_the_source_announces_and_gives_up_nothing() -> None:
    harness = WorkerHarness(sessions=True)
    logic = _ShardLogic(harness.worker)
    harness.step(event(0.0, "view", "unknown"))
    assert logic.on_eof() == ((), False)


def test_a_look_is_asked_for_when_something_waits() -> None:
    harness = WorkerHarness(sessions=True, session_gap_s=100.0, lateness_s=0.0)
    harness.know("i0")
    harness.step(event(0.0, "view", "i0"))
    look = _ShardLogic(harness.worker).notify_at()
    assert look == datetime.fromtimestamp(harness.clock() + 100.0, tz=timezone.utc)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("epoch", EPOCHS)
def test_events_are_worked_off_before_the_epoch_closes(
    run_flow: Callable[..., None], workers: int, epoch: timedelta
) -> None:
    """A BarrierError would end the flow: bytewax notifies within the activation that brought the events."""
    harness = stocked(WorkerHarness())
    job = Job(harness, list(log()))
    run_flow(job.flow(), workers=workers, epoch=epoch)
    assert versions(harness) == WANTED
    last: dict[str, int] = {}
    for one in job.lists:
        last[one.user_id] = max(last.get(one.user_id, 0), one.version)
    assert last == WANTED
    assert len(job.workers) == workers
    assert harness.meters.values["events_applied",] == 40


def test_rows_do_not_depend_on_workers_or_epochs(run_flow: Callable[..., None]) -> None:
    found = []
    for workers in (1, 2):
        for epoch in EPOCHS:
            harness = stocked(WorkerHarness())
            run_flow(Job(harness, list(log())).flow(), workers=workers, epoch=epoch)
            found.append({user: (row.version, row.state) for user, row in harness.users.rows.items()})
    assert all(rows == found[0] for rows in found)


def test_each_touch_is_counted_once_and_written(run_flow: Callable[..., None]) -> None:
    for workers in (1, 2):
        harness = stocked(WorkerHarness(processes=workers))
        run_flow(Job(harness, list(log())).flow(), workers=workers)
        counts = {item: round(row.counts[EVER]) for item, row in harness.statistics.rows.items()}
        assert counts == {item: len(range(k, 40, 6)) for k, item in enumerate(ITEMS)}


def test_a_crash_and_a_resume_end_as_if_there_had_been_none(
    run_flow: Callable[..., None], tmp_path: Path
) -> None:
    harness = stocked(WorkerHarness())
    for cut in (11, 29):
        events: list[Event | TestingSource.ABORT] = list(log())
        events.insert(cut, TestingSource.ABORT())
        run_flow(Job(harness, events, batch=1).flow(), store=tmp_path)
        assert versions(harness) != WANTED
    harness.again()
    run_flow(Job(harness, list(log()), batch=1).flow(), store=tmp_path)
    assert versions(harness) == WANTED


@pytest.mark.parametrize("epoch", EPOCHS)
def test_one_key_works_a_log_off_in_its_order(run_flow: Callable[..., None], epoch: timedelta) -> None:
    harness = stocked(WorkerHarness(in_order=True, every_event=True))
    job = Job(harness, list(log()))
    run_flow(job.flow(), epoch=epoch)
    assert [decoded(one.value)["as_of"]["offset"] for one in job.lists] == list(range(40))
    assert versions(harness) == WANTED
    assert {item: row.counts[EVER] for item, row in harness.statistics.rows.items()} == {
        item: float(len(range(k, 40, 6))) for k, item in enumerate(ITEMS)
    }


def test_items_and_their_events_may_come_in_the_same_epoch(run_flow: Callable[..., None]) -> None:
    harness = WorkerHarness(refresh_s=0.0, wait_for_item_s=600.0)
    job = Job(harness, list(log()))
    run_flow(job.flow())
    waiting = harness.meters.values["events_waiting",]
    assert harness.meters.values["events_applied",] + waiting == 40
    assert set(harness.items.rows) == set(ITEMS)
    harness.again()
    harness.clock.now += 1.0
    harness.step(*(event(99.0, "request", user=f"u{k}", offset=99) for k in range(7)))
    harness.flush()
    assert versions(harness) == WANTED


def test_at_a_clean_end_every_shard_is_resumed_from_the_last_barrier(
    run_flow: Callable[..., None], tmp_path: Path
) -> None:
    """Bytewax snapshots the shards that were awake in an epoch, and at an end wakes them all.

    So after a clean end nothing is sent again, not even what one shard made for another that slept.
    """
    harness = stocked(WorkerHarness())
    log_of = arrived([event(float(k), "view", "i0", user=f"u{k}") for k in range(7)])
    job = Job(harness, [*log_of], batch=1)
    run_flow(job.flow(), store=tmp_path)
    last = job.workers[0].commits.close()
    harness.again()
    again = Job(harness, [*log_of, event(99.0, "view", "i0", user="u3", offset=99)], batch=1)
    run_flow(again.flow(), store=tmp_path)
    assert again.workers[0].commits._resumed == {
        shard_of(f"u{k}", harness.rules.shards): last for k in range(7)
    }
