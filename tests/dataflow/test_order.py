"""Guarantee G1 of workers: any order, cuts, partitions, workers, crashes and late items give one state."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.dataflow.messages import EventBatch
from recstream.dataflow.worker import Worker
from recstream.operations.verify import compare_users
from recstream.records.event import Event
from recstream.records.transport import Partition, shard_of
from tests.support.builders import RULES, WorkerHarness, item_row
from tests.support.user_events import ITEMS, user_events

USERS = [f"u{k}" for k in range(5)]
TIGHT = dataclasses.replace(RULES, recent=4, history=3)
BROKEN_UP: dict[str, Any] = {"hot_users": 1, "shards": 8, "wait_for_item_s": 1e9, "refresh_s": 0.0}


class Job:
    """Workers that share stores, each with the shards it owns: what the processes of a job are."""

    def __init__(self, workers: int) -> None:
        self.harness = WorkerHarness(user_state=TIGHT, processes=workers, sessions=True, **BROKEN_UP)
        self.start(workers)

    def start(self, workers: int) -> None:
        """Start anew, perhaps with another number; what was not flushed is lost."""
        self.workers = [Worker(self.harness.services(), self.harness.rules) for _ in range(workers)]
        for shard in range(self.harness.rules.shards):
            self.workers[shard % workers].own_shard(shard, None)

    def flush(self) -> None:
        for worker in self.workers:
            worker.flush()

    def take(self, events: list[Event]) -> None:
        """A micro-batch, each event at the owner of its user."""
        shards = self.harness.rules.shards
        for number, worker in enumerate(self.workers):
            own = [one for one in events if shard_of(one.user_id, shards) % len(self.workers) == number]
            if own:
                worker.inbox.append(EventBatch(self.harness.clock(), own))
            worker.step()

    def bring(self, item_id: str) -> None:
        """An item arrives at the first worker; the others hear of it from the store."""
        self.workers[0].replica.put(item_row(item_id))
        self.workers[0].flush()
        self.harness.clock.now += 1.0


def spread(events: list[Event], by: random.Random, partitions: int) -> list[Event]:
    """Each event in some partition, with the offset that its place in the log gives it there."""
    logs = [Partition(f"events/{k}", f"events/{k}@1") for k in range(partitions)]
    ends = dict.fromkeys(logs, 0)
    placed = []
    for one in events:
        log = by.choice(logs)
        placed.append(one._replace(partition=log, offset=ends[log]))
        ends[log] += 1
    return placed


def interleaved(events: list[Event], by: random.Random) -> list[Event]:
    """As a job may read them: each partition in its order, in any mixture."""
    logs: dict[Partition, list[Event]] = {}
    for one in events:
        logs.setdefault(one.partition, []).append(one)
    turns = [log for log, own in logs.items() for _ in own]
    by.shuffle(turns)
    queues = {log: iter(own) for log, own in logs.items()}
    return [next(queues[log]) for log in turns]


def of_users(events: list[Event], by: random.Random) -> list[Event]:
    """The events, each of some user; those with an id are there twice now and then."""
    log = []
    for one in events:
        of_user = one._replace(user_id=by.choice(USERS))
        log += [of_user] * (2 if one.event_id is not None and by.random() < 0.3 else 1)
    return log


@given(
    user_events(max_size=30), st.integers(0, 2**32), st.sampled_from([1, 3, 7]), st.sampled_from([1, 2, 3])
)
@settings(max_examples=80, deadline=None)
def test_any_order_batches_partitions_workers_crashes_and_late_items_give_one_state(
    events: list[Event], seed: int, partitions: int, workers: int
) -> None:
    by = random.Random(seed)
    log = of_users(events, by)
    wanted = Job(1)
    for item_id in ITEMS:
        wanted.bring(item_id)
    wanted.take(spread(log, by, 1))
    wanted.flush()

    job = Job(workers)
    coming = by.sample(ITEMS, len(ITEMS))
    arrival = interleaved(spread(by.sample(log, len(log)), by, partitions), by)
    read = flushed = 0
    while read < len(arrival) or coming:
        cut = by.randint(0, 8)
        job.take(arrival[read : read + cut])
        read += cut
        if coming and by.random() < 0.5:
            job.bring(coming.pop())
        if by.random() < 0.2:
            job.flush()
            flushed = read
        if by.random() < 0.1:  # a crash: some is read again
            job.start(by.randint(1, 3))
            read = by.randint(0, flushed)
    job.flush()
    job.start(workers)
    job.take([])  # whoever still waits is looked at, though nothing of theirs comes
    job.flush()
    found = compare_users(job.harness.users, wanted.harness.users)
    assert found.first == []
    assert found.users == len({one.user_id for one in log})
