"""Events to stored user states, without ranking, beside bytewax's own windows and loops without an engine.

Run: ``python -m tests.bench.bench_state [--quick]``; prints one JSON line.

``state`` is the real job from memory to LanceDB: parse, route to shards, the ring that sessions are cut
from, decayed sums, seen items, fences, rows written every second, positions committed.
``replay`` is the same with a backfill's epochs instead of the live job's. ``with_statistics`` also
counts what followed what; ``stored_users`` too, and each user is looked up when first met.

The references do less: parse, 30-minute sessions by event time, one decayed vector a user, a result per
event; nothing is stored. ``windows``: bytewax's `SessionWindower` and `EventClock`, tuned: the clock never
asks to be woken; ``windows_unordered`` does not sort the values by time either (both
on the first eighth of the log, for they slow down as it grows). ``loop``: a dict and numpy
a user. ``vectorised``: numpy over each batch. ``core_loop`` is recstream's own decoder and profiles
without bytewax and without a store.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SessionWindower, WindowLogic, window
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from bytewax.testing import TestingSource
from typing_extensions import override

from recstream.config import Settings
from recstream.dataflow.graph import recommend_flow
from recstream.items.catalogue import Catalogue
from recstream.records.actions import DecodeRules
from recstream.records.decode import decode_events
from recstream.records.transport import RawBatch
from recstream.users.decayed_sum import decay
from recstream.users.state import UserState
from tests.bench.graph import Timed, build_state, in_copy, prepared_store, run_graph
from tests.bench.report import emit, interleaved, is_quick, ratio, seconds, spread
from tests.bench.world import DIM, batches, item_rows, log
from tests.support.rules import user_state_rules

HALF_LIFE_S = 30 * 86400.0
GAP_S = 1800.0
Vectors = dict[str, Any]
Parsed = tuple[str, float, str]


def parse(line: bytes) -> Parsed:
    """What the references read of an event."""
    record = orjson.loads(line)
    return record["user_id"], record["ts"], record["item_id"]


class _Decayed(WindowLogic[Parsed, float, Any]):
    """The session's decayed vector; its events counted."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        self.total = np.zeros(DIM)
        self.at = float("-inf")

    @override
    def on_value(self, value: Parsed) -> Iterable[float]:
        _, ts, item = value
        self.total *= decay(ts - self.at, HALF_LIFE_S) if self.at > 0.0 else 0.0
        self.total += self.vectors[item]
        self.at = ts
        return (float(self.total[0]),)

    @override
    def on_merge(self, original: _Decayed) -> Iterable[float]:
        self.total += original.total
        return ()

    @override
    def on_close(self) -> Iterable[float]:
        return ()

    @override
    def snapshot(self) -> Any:
        return self.total.copy(), self.at


class _Nowhere(StatelessSinkPartition[Any]):
    @override
    def write_batch(self, items: list[Any]) -> None:
        """Drop them."""


class _NullSink(DynamicSink[Any]):
    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Nowhere:
        return _Nowhere()


def _never(_: datetime) -> None:
    return None


def _time(value: Parsed) -> datetime:
    return datetime.fromtimestamp(value[1], tz=timezone.utc)


def windows(made: list[RawBatch], vectors: Vectors, *, ordered: bool) -> None:
    """The job on bytewax's own windowing operators."""
    df = Dataflow("windows")
    raw = op.input("in", df, TestingSource(made))
    parsed = op.flat_map_batch(
        "parse", raw, lambda some: [(p[0], p) for batch in some for p in map(parse, batch.values)]
    )
    clock = EventClock(_time, timedelta(0), to_system_utc=_never)
    windower = SessionWindower(timedelta(seconds=GAP_S))
    out = window("sessions", parsed, clock, windower, lambda _: _Decayed(vectors), ordered)
    op.output("results", out.down, _NullSink())
    op.output("late", out.late, _NullSink())
    op.output("meta", out.meta, _NullSink())
    cli_main(df, epoch_interval=timedelta(seconds=1))


def loop(made: list[RawBatch], vectors: Vectors) -> None:
    """The job as one loop over a dict."""
    states: dict[str, list[Any]] = {}
    for batch in made:
        results = []
        for line in batch.values:
            user, ts, item = parse(line)
            state = states.get(user)
            if state is None:
                state = states[user] = [np.zeros(DIM), ts, 0]
            total, last, sessions = state
            if ts - last > GAP_S:
                state[2] = sessions + 1
            total *= decay(ts - last, HALF_LIFE_S)
            total += vectors[item]
            state[1] = ts
            results.append((user, float(total[0]), state[2]))


def vectorised(made: list[RawBatch], rows: dict[str, int], matrix: Any, users: int) -> None:
    """The job as numpy over each batch: the k-th events of all its users at once."""
    handles: dict[str, int] = {}
    totals = np.zeros((users, DIM))
    last = np.zeros(users)
    sessions = np.zeros(users, np.int64)
    for batch in made:
        records = [orjson.loads(line) for line in batch.values]
        who = np.array([handles.setdefault(record["user_id"], len(handles)) for record in records])
        when = np.array([record["ts"] for record in records])
        what = np.array([rows[record["item_id"]] for record in records])
        order = np.argsort(who, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(who[order]) > 0])
        turn = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
        for k in range(int(turn.max()) + 1):
            now = order[turn == k]
            one, ts = who[now], when[now]
            sessions[one] += ts - last[one] > GAP_S
            left = np.exp2(-(ts - last[one]) / HALF_LIFE_S)
            totals[one] = totals[one] * left[:, None] + matrix[what[now]]
            last[one] = ts
            list(zip(one.tolist(), totals[one, 0].tolist(), sessions[one].tolist(), strict=True))


def core_loop(made: list[RawBatch], catalogue: Catalogue) -> None:
    """Recstream's decoder and profiles in a loop: what the engine and the store add to is this."""
    rules = user_state_rules(DecodeRules())
    user_states: dict[str, UserState] = {}
    for batch in made:
        now = time.time()
        for event in decode_events(batch, rules=rules.decode, now=now, loads=orjson.loads)[0]:
            user_state = user_states.get(event.user_id)
            if user_state is None:
                user_state = user_states[event.user_id] = UserState(event.user_id)
            user_state.observe(event, catalogue, rules, now)


def measure(folder: Path, *, events: int, users: int, items: int, rounds: int) -> dict[str, Any]:
    """All figures, interleaved."""
    made = batches(log(events, users=users, items=items))
    some = made[: max(1, len(made) // 8)]
    part = sum(len(batch.values) for batch in some)
    prepared = prepared_store(folder / "prepared", items)
    rows = item_rows(items)
    vectors = {row.item_id: row.vector for row in rows}
    matrix = np.stack([row.vector for row in rows])
    catalogue = Catalogue(DIM)
    numbers = {row.item_id: catalogue.put(row.item_id, row.vector) for row in rows}
    timed: dict[str, list[Timed]] = {"state": [], "replay": [], "with_statistics": [], "stored_users": []}

    def ours(name: str, graph: Any, epoch_s: float | None = None) -> float:
        def run(store: Path) -> Timed:
            return run_graph(store, made, lists=False, graph=graph, epoch_s=epoch_s)

        one = in_copy(prepared, folder, run)
        timed[name].append(one)
        return one.events / one.seconds

    def again() -> float:
        """The users of the run before are stored: each is looked up when first met."""
        later = [
            batch._replace(partition=batch.partition._replace(identity="events/0@later")) for batch in made
        ]
        one = run_graph(folder / "run", later, lists=False, graph=recommend_flow)
        timed["stored_users"].append(one)
        return one.events / one.seconds

    found = interleaved(
        {
            "state": lambda: ours("state", build_state),
            "replay": lambda: ours("replay", build_state, Settings().backfill.epoch_s),
            "with_statistics": lambda: ours("with_statistics", recommend_flow),
            "stored_users": again,
            "windows": lambda: part / seconds(lambda: windows(some, vectors, ordered=True)),
            "windows_unordered": lambda: part / seconds(lambda: windows(some, vectors, ordered=False)),
            "loop": lambda: events / seconds(lambda: loop(made, vectors)),
            "vectorised": lambda: events / seconds(lambda: vectorised(made, numbers, matrix, users)),
            "core_loop": lambda: events / seconds(lambda: core_loop(made, catalogue)),
        },
        rounds,
    )
    return {
        "events": events,
        "users": users,
        "items": items,
        "dim": DIM,
        "rounds": rounds,
        "windows_events": part,
        "events_per_s": {name: spread(values) for name, values in found.items()},
        "state_over": {
            name: ratio(found["state"], values) for name, values in found.items() if name not in timed
        },
        "flush_share": {
            name: spread([one.flush_seconds / one.seconds for one in runs], 3) for name, runs in timed.items()
        },
        "barriers": {name: runs[-1].barriers for name, runs in timed.items()},
    }


def main() -> None:
    """Print one JSON line."""
    quick = is_quick(__doc__)
    sizes = {"events": 20_000, "users": 4_000, "items": 2_000, "rounds": 1}
    if not quick:
        sizes = {"events": 200_000, "users": 20_000, "items": 10_000, "rounds": 3}
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), **sizes)
    emit("state", figures, "bytewax", "lancedb", "numpy", "orjson")


if __name__ == "__main__":
    main()
