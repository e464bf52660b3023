"""The live dataflow on memory: sources and sinks of a test, stores in dicts, any number of workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, Source, StatefulSourcePartition
from bytewax.testing import TestingSink, TestingSource
from typing_extensions import override

from recstream.dataflow.graph import catalogue_flow, recommend_flow
from recstream.dataflow.outputs import Inputs, Outputs
from recstream.dataflow.services import DataflowRules, Services
from recstream.encoders import open_encoder
from recstream.items.catalogue import Catalogue
from recstream.metrics.accounting import Accounting, accounting
from recstream.metrics.prometheus import PrometheusMeters
from recstream.ranking.signals.table import default_weights
from recstream.records.actions import DecodeRules
from recstream.records.transport import Message, Partition, RawBatch
from recstream.stores.memory import MemoryItemStore, MemoryModelStore, MemoryStatisticsStore, MemoryUserStore
from recstream.users.codec import user_state_of
from recstream.users.state import UserState
from tests.support.builders import GENERATION, encoder_spec
from tests.support.logs import T0, Record, item
from tests.support.rules import dataflow_rules, ranking_rules, user_state_rules

Run = Callable[..., None]
DIM = 64
ITEMS = [item(number) for number in range(40)]
WORKERS = pytest.mark.parametrize("workers", [1, 2])
ScriptStep = RawBatch | float
"""What a scripted source does next: give a batch, or say nothing for so many seconds."""


def raw_batches(
    records: Iterable[Record | bytes], name: str = "events/0", *, size: int = 7, first: int = 0
) -> list[RawBatch]:
    """Records as a source gives them, in batches of ``size``."""
    values = [record if isinstance(record, bytes) else orjson.dumps(record) for record in records]
    log = Partition(name, name + "@test")
    return [
        RawBatch(
            log, list(range(first + at, first + at + len(values[at : at + size]))), values[at : at + size]
        )
        for at in range(0, len(values), size)
    ]


class ScriptedSource(FixedPartitionedSource[RawBatch, int]):
    """Batches with pauses between them: what happens while nothing is read can then be seen."""

    def __init__(self, *steps: ScriptStep) -> None:
        self._steps = steps

    @override
    def list_parts(self) -> list[str]:
        return ["script"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _ScriptedPartition:
        return _ScriptedPartition(list(self._steps))


class _ScriptedPartition(StatefulSourcePartition[RawBatch, int]):
    def __init__(self, steps: list[ScriptStep]) -> None:
        self._steps = steps
        self._awake: datetime | None = None

    @override
    def next_batch(self) -> list[RawBatch]:
        self._awake = None
        if not self._steps:
            raise StopIteration
        step = self._steps.pop(0)
        if isinstance(step, RawBatch):
            return [step]
        self._awake = datetime.now(timezone.utc) + timedelta(seconds=step)
        return []

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> int:
        return 0


@dataclass
class MemoryJob:
    """A job on memory: run it as often as wanted, its stores stay."""

    run_flow: Run
    workers: int = 1
    weights: dict[str, float] = field(default_factory=default_weights)
    users: MemoryUserStore = field(default_factory=lambda: MemoryUserStore(DIM))
    items: MemoryItemStore = field(default_factory=lambda: MemoryItemStore(DIM))
    statistics: MemoryStatisticsStore = field(default_factory=MemoryStatisticsStore)
    models: MemoryModelStore = field(default_factory=MemoryModelStore)
    meters: PrometheusMeters = field(default_factory=PrometheusMeters)
    messages: list[Message] = field(default_factory=list)
    dead_letters: list[Message] = field(default_factory=list)
    sessions: list[Message] = field(default_factory=list)

    def services(self) -> Services:
        encoder = open_encoder(encoder_spec(backend="hashing", dim=DIM))
        return Services(
            encoder=lambda: encoder,
            users=lambda: self.users,
            items=lambda: self.items,
            statistics=lambda: self.statistics,
            models=lambda: self.models,
            generation=lambda: GENERATION,
            meters=self.meters,
            now=time.time,
        )

    def rules(self, **more: Any) -> DataflowRules:
        return dataflow_rules(
            user_state=user_state_rules(DecodeRules(dim=DIM)),
            ranking=ranking_rules(top_n=5, weights=self.weights),
            processes=self.workers,
            **{"refresh_s": 0.05, **more},
        )

    def load_items(self, records: Sequence[Record] = ITEMS) -> None:
        """Load a catalogue, by the flow that does it."""
        flow = catalogue_flow(
            TestingSource(raw_batches(records, "items/0")),
            TestingSink(self.dead_letters),
            self.services(),
            self.rules(),
        )
        self.run_flow(flow, workers=self.workers)

    def flow(
        self, event_source: Source[RawBatch], items: Source[RawBatch] | None = None, **rules: Any
    ) -> Dataflow:
        outputs = Outputs(
            TestingSink(self.messages),
            TestingSink(self.dead_letters),
            TestingSink(self.sessions) if rules.get("sessions") else None,
        )
        return recommend_flow(Inputs(event_source, items), outputs, self.services(), self.rules(**rules))

    def absorb(self, records: Iterable[Record | bytes], *, first: int = 0, **rules: Any) -> None:
        """Work a log off."""
        self.run_flow(
            self.flow(TestingSource(raw_batches(records, first=first)), **rules), workers=self.workers
        )

    def lists(self) -> dict[str, list[Record]]:
        """Lists by user, in the order in which they left."""
        found: dict[str, list[Record]] = {}
        for message in self.messages:
            if message.value is not None:
                assert message.key is not None
                found.setdefault(message.key.decode(), []).append(orjson.loads(message.value))
        return found

    def account(self) -> Accounting:
        return accounting(self.meters.snapshot())

    def user_state(self, user_id: str) -> tuple[UserState, Catalogue]:
        known = Catalogue(DIM)
        return user_state_of(self.users.rows[user_id], known), known

    def reasons(self) -> dict[tuple[str, int], str]:
        """Dead letters: reason by source."""
        dead_letters = [orjson.loads(message.value or b"") for message in self.dead_letters]
        return {(one["source"]["partition"], one["source"]["offset"]): one["reason"] for one in dead_letters}


def view(user: str, item_id: str, ts: float = T0, **more: Any) -> Record:
    return {"user_id": user, "ts": ts, "action": "view", "item_id": item_id, **more}
