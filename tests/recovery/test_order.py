"""Guarantee G1 by real runs: one log, however it arrives, gives one state."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.support.logs import Record, versions_after
from tests.support.scenarios import PlacedRecord, Scenario, distinct, rich_log, spread
from tests.support.topics import produce

pytestmark = pytest.mark.kafka

LOG = rich_log(700)
BOUNDS = {"events__recent": "16", "events__history": "12"}
"""Fewer than a user's events and items, so that what is kept is a choice."""
LATENESS_S = 300.0


def shuffled(log: list[Record], seed: int = 0) -> list[Record]:
    """The log in any order."""
    return random.Random(f"shuffle {seed}").sample(log, len(log))


def within_lateness(log: list[Record]) -> list[Record]:
    """The log with each event at most so much too late."""
    rng = random.Random("late")
    return sorted(log, key=lambda one: one["ts"] + rng.uniform(0.0, LATENESS_S))


def placed(log: list[Record]) -> list[PlacedRecord]:
    return [PlacedRecord(0, record) for record in log]


@pytest.fixture(scope="module")
def scenario(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Where the log was replayed from a file, in its own order, into the store ``wanted``."""
    made = Scenario(broker.bootstrap, tmp_path_factory.mktemp("order"))
    made.replay("wanted", made.file("events.jsonl", LOG), **BOUNDS)
    return made


def assert_as_wanted(scenario: Scenario, store: str) -> None:
    found = scenario.compare(store, "wanted")
    assert found.first == []
    assert found.equal == 8


def test_the_log_is_such_that_its_order_could_matter(scenario: Scenario) -> None:
    assert scenario.versions("wanted") == versions_after(distinct(LOG))
    assert min(scenario.versions("wanted").values()) > 3 * int(BOUNDS["events__recent"])
    assert len(distinct(LOG)) < len(LOG), "some events are there twice"
    assert within_lateness(LOG) != LOG


@pytest.mark.parametrize("order", [within_lateness, shuffled])
def test_events_may_come_late(scenario: Scenario, order: Callable[[list[Record]], list[Record]]) -> None:
    name = order.__name__
    scenario.replay(name, scenario.file(f"{name}.jsonl", order(LOG)), **BOUNDS)
    assert_as_wanted(scenario, name)


def test_a_log_may_be_read_in_other_batches(scenario: Scenario) -> None:
    events = scenario.events(placed(LOG))
    for poll_max in (1, 13, 5000):
        name = f"batches-{poll_max}"
        scenario.replay(name, events, **BOUNDS, kafka__poll_max=poll_max, backfill__epoch_s=0.02)
        assert_as_wanted(scenario, name)


@pytest.mark.parametrize("refresh", ["event", "batch"])
def test_lists_may_be_made_meanwhile(scenario: Scenario, refresh: str) -> None:
    scenario.replay(refresh, scenario.file("again.jsonl", shuffled(LOG)), **BOUNDS, backfill__refresh=refresh)
    assert_as_wanted(scenario, refresh)


@pytest.mark.parametrize("partitions", [1, 3, 7])
def test_a_user_may_be_spread_over_partitions(scenario: Scenario, partitions: int) -> None:
    events = scenario.events(spread(LOG, partitions, seed=partitions), partitions=partitions)
    name = f"partitions-{partitions}"
    scenario.replay(name, events, **BOUNDS)
    assert_as_wanted(scenario, name)
    assert {len(one.offset_ranges) for one in scenario.user_states(name).values()} == {partitions}


@pytest.mark.parametrize(
    "processes", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_live_job_of_any_processes_gives_the_same_before_and_after_the_items(
    scenario: Scenario, processes: int
) -> None:
    name = f"live-{processes}"
    log = spread(shuffled(LOG, processes), 7, seed=processes)
    events, items = scenario.events(log[:300], partitions=7), scenario.topic("items")
    produce(scenario.bootstrap, items, scenario.catalogue[:10])
    waits = {"events__max_waiting": "500", "events__wait_for_item_s": "600"}
    with scenario.live(name, events, processes=processes, items=items, **BOUNDS, **waits) as live:
        sent = [record for _, record, _ in log]
        assert live.until_read(sent[:300]) > 100
        produce(scenario.bootstrap, items, scenario.catalogue[10:25])
        scenario.send(events, log[300:])
        assert live.until_read(sent) > 100
        produce(scenario.bootstrap, items, scenario.catalogue[25:])
        live.until(LOG)
        account = live.stop()
    assert account.read == len(LOG)
    assert (account.applied, account.duplicate) == (len(distinct(LOG)), len(LOG) - len(distinct(LOG)))
    assert_as_wanted(scenario, name)
