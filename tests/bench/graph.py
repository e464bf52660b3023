"""Runs the real graph as the live job does, from memory to nowhere, with a real store, and times it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from typing_extensions import override

from recstream.config import Settings
from recstream.connectors.base import NullSink
from recstream.dataflow.decode import decode
from recstream.dataflow.encode import encode_events
from recstream.dataflow.graph import recommend_flow
from recstream.dataflow.outputs import Inputs, Outputs, dead_letters, emit, none_of
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.users import users
from recstream.dataflow.worker import PerWorker, Worker
from recstream.records.transport import RawBatch
from recstream.runtime.positions import positions_dir
from recstream.runtime.runner import run_flow
from recstream.runtime.wiring import Wiring
from tests.bench.world import DIM, item_rows


def settings_of(store: Path) -> Settings:
    """Defaults, but for an encoder that needs no model."""
    chosen = {"store.path": str(store), "encoder.backend": "hashing", "encoder.dim": DIM}
    return Settings.load(None, {}, chosen)


def prepared_store(folder: Path, items: int) -> Path:
    """A store that holds the items, to be copied for each run."""
    wiring = Wiring(settings_of(folder))
    wiring.database.items.upsert(item_rows(items))
    wiring.close()
    return folder


class _Memory(StatelessSourcePartition[RawBatch]):
    """Gives the first batch, waits until it is worked off (that opens the store), then gives the rest."""

    def __init__(
        self, batches: list[RawBatch], is_warm: Callable[[], bool], on_start: Callable[[], None]
    ) -> None:
        self._left = iter(batches)
        self._first: list[RawBatch] = [next(self._left)]
        self._is_warm = is_warm
        self._on_start: Callable[[], None] | None = on_start

    @override
    def next_batch(self) -> list[RawBatch]:
        if self._on_start is not None:
            if not self._is_warm():
                first, self._first = self._first, []
                return first
            self._on_start()
            self._on_start = None
        return [next(self._left)]  # StopIteration ends the source

    @override
    def next_awake(self) -> datetime | None:
        if self._on_start is None:
            return None
        return datetime.now(timezone.utc) + timedelta(milliseconds=2)


class MemorySource(DynamicSource[RawBatch]):
    """Batches made beforehand, for one worker."""

    def __init__(
        self, batches: list[RawBatch], is_warm: Callable[[], bool], on_start: Callable[[], None]
    ) -> None:
        self._parts = (batches, is_warm, on_start)

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Memory:
        return _Memory(*self._parts)


@dataclass(frozen=True)
class Timed:
    """One run of the graph; the first batch, and the opening of the store in it, are left out."""

    seconds: float
    """From the second batch until all is written and committed."""
    events: int
    lists: int
    flush_seconds: float
    """Part of it: spent at the barriers."""
    barriers: int


def build_state(
    inputs: Inputs, outputs: Outputs, services: Services, rules: DataflowRules, *, name: str = "recommend"
) -> Dataflow:
    """The graph without what belongs to ranking: no item statistics are counted, no list is made."""
    df = Dataflow(name)
    worker = PerWorker(lambda: Worker(services, rules))
    decoding = (rules.user_state.decode, services.meters, services.now, rules.reject_limit)
    decoded = decode("decode_events", op.input("events", df, inputs.events), "events", *decoding)
    encoded = encode_events(
        "encode_events", decoded.events, lambda: worker().encoder, services.meters, rules.reject_limit
    )
    results = users("users", encoded.events, worker, rules)
    unused: list[tuple[str, Stream[Any]]] = [
        ("items", decoded.items),
        ("due", results.due),
        ("lists", results.lists),
    ]
    unused += [("brought", encoded.items), ("touches", results.interactions), ("sessions", results.sessions)]
    rejects = [decoded.rejects, encoded.rejects, results.rejects]
    rejects += [none_of(f"no_{step}", stream) for step, stream in unused]
    rejected = dead_letters("dead_letters", op.merge("all_rejects", *rejects), services.now)
    emit("dead_letter", rejected, outputs.rejects)
    return df


def run_graph(
    store: Path,
    batches: list[RawBatch],
    *,
    lists: bool,
    graph: Callable[..., Dataflow] = recommend_flow,
    epoch_s: float | None = None,
) -> Timed:
    """Run the graph over the batches: recovery store, epochs (by default the live job's) and metrics.

    Raises:
        RuntimeError: not every event was applied.
    """
    settings = settings_of(store)
    wiring = Wiring(settings)
    started: list[float] = []
    before: dict[str, Any] = {}

    def is_warm() -> bool:
        return bool(wiring.summary()["events_applied"])

    def on_start() -> None:
        before.update(wiring.summary())
        started.append(time.perf_counter())

    flow = graph(
        Inputs(MemorySource(batches, is_warm, on_start)),
        Outputs(lists=NullSink(), rejects=NullSink()),
        wiring.services(),
        replace(wiring.rules(), lists=lists),
    )
    run_flow(flow, recovery=positions_dir(store, flow.flow_id), epoch_s=epoch_s or settings.run.epoch_s)
    took = time.perf_counter() - started[0]
    after = wiring.summary()
    wiring.close()
    wanted = sum(len(batch.values) for batch in batches)
    if after["events_applied"] != wanted:
        msg = f"{after['events_applied']} of {wanted} events were applied: {after}"
        raise RuntimeError(msg)
    return Timed(
        seconds=took,
        events=wanted - len(batches[0].values),
        lists=sum(after["lists_emitted"].values()) - sum(before["lists_emitted"].values()),
        flush_seconds=after["flush_seconds"]["sum"] - before["flush_seconds"]["sum"],
        barriers=int(after["epochs"] - before["epochs"]),
    )


def in_copy(prepared: Path, folder: Path, work: Callable[[Path], Timed]) -> Timed:
    """Do it with a fresh copy of the prepared store."""
    store = folder / "run"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(prepared, store)
    return work(store)
