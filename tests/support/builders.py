"""Builders of events, catalogues and user states, and a worker on fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from recstream.config import Settings
from recstream.dataflow.messages import BatchResult, EventBatch
from recstream.dataflow.services import Services
from recstream.dataflow.worker import Worker
from recstream.encoders import open_encoder
from recstream.encoders.base import EncoderSpec
from recstream.items.catalogue import Catalogue
from recstream.items.codec import ItemRow
from recstream.items.statistics import Interaction, ItemStatistics
from recstream.ranking.query import Query, query_of
from recstream.records.actions import DecodeRules
from recstream.records.arrays import Vector
from recstream.records.event import Event
from recstream.records.transport import Partition
from recstream.runtime import wiring
from recstream.stores.memory import MemoryItemStore, MemoryModelStore, MemoryStatisticsStore, MemoryUserStore
from recstream.users.decayed_sum import DecayedSum
from recstream.users.sessions import NO_ITEM
from recstream.users.state import AsOf, UserState, UserStateRules, Visits, visit_of
from tests.support.meters import MemoryMeters
from tests.support.rules import dataflow_rules, user_state_rules

DIM = 8
RULES = user_state_rules(DecodeRules())
HOUR = 3600.0
GENERATION = 1_690_000_000_000


def encoder_spec(**changes: Any) -> EncoderSpec:
    """What an encoder is opened with by default, some fields replaced."""
    return replace(wiring.encoder_spec(Settings()), **changes)


def unit(seed: int | str, dim: int = DIM) -> Vector:
    """A unit vector that depends on the seed alone."""
    rng = np.random.default_rng(list(str(seed).encode()))
    row = rng.standard_normal(dim)
    vector: Vector = (row / np.linalg.norm(row)).astype(np.float32)
    return vector


def event(
    ts: float,
    action: str = "view",
    item_id: str | None = None,
    *,
    user: str = "u1",
    text: str | None = None,
    rating: float | None = None,
    event_id: str | None = None,
    partition: str = "events/0",
    offset: int = 0,
) -> Event:
    """An event as it leaves the encode step."""
    vector = unit(text) if text is not None else None
    log = Partition(partition, partition + "@1")
    raw = f"{user} {ts} {action} {item_id}".encode()
    return Event(user, ts, action, item_id, text, rating, event_id, None, None, log, offset, raw, vector)


def arrived(events: Sequence[Event]) -> list[Event]:
    """The events with offsets that say the order in which they arrive."""
    return [one._replace(offset=at) for at, one in enumerate(events)]


def catalogue_of(item_ids: Sequence[str], dim: int = DIM) -> Catalogue:
    """A catalogue of these items, in this order of handles, each with its own vector."""
    catalogue = Catalogue(dim)
    for item_id in item_ids:
        catalogue.put(item_id, unit(item_id, dim))
    return catalogue


def user_state_after(
    events: Sequence[Event], catalogue: Catalogue, rules: UserStateRules = RULES, user: str = "u1"
) -> UserState:
    """The state after these events, in their order."""
    user_state = UserState(user)
    for one in events:
        user_state.observe(one, catalogue, rules, now=0.0)
    return user_state


@dataclass(frozen=True)
class View:
    """All of a state that must not depend on the order of arrival, by item id."""

    version: int
    ring: list[tuple[float, int, str | None, float, str]]
    seen: dict[str, float]
    earlier: dict[tuple[int, str], int]
    counted_from: int
    hidden: dict[str, float]
    shown: dict[str, float]
    words: dict[int, bytes]
    ids: list[tuple[float, int]]
    sums: tuple[Any, Any] = field(compare=False)


def view(user_state: UserState, catalogue: Catalogue) -> View:
    """What two equal states have in common; sums are compared by `assert_same_state`."""
    ids = catalogue.ids
    ring = [
        (r.ts, r.digest, None if r.item == NO_ITEM else ids[r.item], r.weight, r.action)
        for r in user_state.recent
    ]

    def named(latest: dict[int, float]) -> dict[str, float]:
        return {ids[item]: ts for item, ts in latest.items()}

    return View(
        user_state.version,
        ring,
        named(user_state.seen),
        visits_by_id(user_state.earlier, ids),
        user_state.counted_from,
        named(user_state.hidden),
        named(user_state.shown),
        {digest: vector.tobytes() for digest, vector in user_state.words.items()},
        list(user_state.ids),
        (user_state.long_term, user_state.disliked),
    )


def visits_by_id(visits: Visits, ids: list[str]) -> dict[tuple[int, str], int]:
    """Number of events by day and item id."""
    days = [(visit_of(key), count) for key, count in visits.items()]
    return {(day, ids[item]): count for (day, item), count in days}


def assert_same_state(one: View, other: View) -> None:
    """Equal up to 1e-9 in the sums, exactly elsewhere."""
    assert one == other
    for mine, theirs in zip(one.sums, other.sums, strict=True):
        assert_same_sum(mine, theirs)


def assert_same_sum(mine: DecayedSum | None, theirs: DecayedSum | None) -> None:
    """Equal landmark, and weight and total within 1e-9."""
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert mine.as_of == theirs.as_of
        assert abs(mine.weight - theirs.weight) < 1e-9
        np.testing.assert_allclose(mine.total, theirs.total, atol=1e-9, rtol=0)


def query(user_state: UserState) -> Query:
    """The user's view for ranking."""
    return query_of(user_state, user_state.as_of or AsOf(0.0, "events/0", 0), "event", 0.0)


def popular(counts: dict[int, int], cap: int = 8) -> ItemStatistics:
    """Statistics with so many interactions with each of these handles."""
    statistics = ItemStatistics(cap)
    statistics.count([Interaction(item, ()) for item, times in counts.items() for _ in range(times)])
    return statistics


def item_row(item_id: str, *, text: str | None = None, deleted: bool = False, **more: Any) -> ItemRow:
    """An item as it leaves the encode step."""
    vector = np.zeros(DIM, np.float32) if deleted else unit(text or item_id)
    row = ItemRow(item_id, f"Title of {item_id}", (), (), None, True, deleted, text or item_id, vector, 0)
    return row._replace(**more)


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class WorkerHarness:
    """A worker on memory stores and a clock that stands still; `again` restarts it on the same stores."""

    maintain: Callable[[], None] | None = None
    """As in `Services`."""

    def __init__(self, clock: Clock | None = None, **rules: Any) -> None:
        self.clock = clock or Clock()
        self.users = MemoryUserStore(DIM)
        self.items = MemoryItemStore(DIM)
        self.statistics = MemoryStatisticsStore()
        self.models = MemoryModelStore()
        self.rules = dataflow_rules(**rules)
        self.again()

    def again(self) -> None:
        """Start anew: memory and meters are empty, the stores are as they were last written."""
        self.meters = MemoryMeters()
        self.worker = Worker(self.services(), self.rules)

    def services(self) -> Services:
        """Ports of the fakes."""

        def same(store: Any) -> Callable[[], Any]:
            return lambda: store

        return Services(
            encoder=lambda: open_encoder(encoder_spec(backend="hashing", dim=DIM)),
            users=same(self.users),
            items=same(self.items),
            statistics=same(self.statistics),
            models=same(self.models),
            generation=lambda: GENERATION,
            meters=self.meters,
            now=self.clock,
            maintain=self.maintain,
            steady=self.clock,
        )

    def know(self, *item_ids: str) -> None:
        """Put items into the worker's replica."""
        for item_id in item_ids:
            self.worker.replica.put(item_row(item_id))

    def step(self, *events: Event) -> BatchResult:
        """One micro-batch, read now."""
        if events:
            self.worker.inbox.append(EventBatch(self.clock(), list(events)))
            self.meters.add("records_read", len(events), stream="events")
        return self.worker.step()

    def count(self, interactions: Sequence[Interaction]) -> None:
        """Count interactions in the worker's statistics, as the step after it does."""
        replica = self.worker.replica
        replica.statistics.count(list(interactions), ticks_each=replica.ticks_each)

    def flush(self) -> None:
        """The checkpoint at the barrier, and all that it begins; no event has come meanwhile."""
        self.worker.flush()
        self.worker._caught_up_from = float("-inf")
        self.worker.checkpoint.background.wait()
        self.worker.checkpoint.upkeep.wait()


def decoded(value: bytes) -> dict[str, Any]:
    """A list as a consumer reads it, without the time at which it was made."""
    record: dict[str, Any] = orjson.loads(value)
    del record["generated_at"]
    return record
