"""Workers on fakes that learn from a log: one, or two of one job on the same stores."""

from __future__ import annotations

import random
from typing import Any

from recstream.ranking.models.shallow_network import ShallowNetwork
from recstream.records.event import Event
from tests.support.builders import WorkerHarness, arrived, decoded, event
from tests.support.rules import learning_rules, ranking_rules

ITEMS = [f"i{k}" for k in range(12)]
REPEATS = ranking_rules(top_n=5, repeats=True)
FROZEN = learning_rules(enabled=False)


def habitual_log(
    count: int, *, seed: int = 0, users: int = 6, begin: int = 0, name: str = "u"
) -> list[Event]:
    """Events of users who mostly take the item after their last one."""
    rng = random.Random(seed)
    at = {f"{name}{k}": rng.randrange(len(ITEMS)) for k in range(users)}
    events = []
    for k in range(count):
        user = rng.choice(list(at))
        at[user] = (at[user] + 1) % len(ITEMS) if rng.random() < 0.8 else rng.randrange(len(ITEMS))
        events.append(event(float(begin + k), "view", ITEMS[at[user]], user=user))
    return [one._replace(offset=begin + k) for k, one in enumerate(arrived(events))]


def learning_harness(**rules: Any) -> WorkerHarness:
    """A worker that knows all items and may list an item again."""
    harness = WorkerHarness(ranking=REPEATS, **rules)
    harness.know(*ITEMS)
    return harness


def play(harness: WorkerHarness, events: list[Event]) -> list[dict[str, Any]]:
    """The lists of micro-batches of ten, with a barrier after each."""
    made = []
    for at in range(0, len(events), 10):
        done = harness.step(*events[at : at + 10])
        harness.count(done.interactions)
        made += [decoded(one.value) for one in harness.worker.rank(done.queries)]
        harness.flush()
    return made


def stop(harness: WorkerHarness) -> None:
    """End the sources, so that the last barrier is passed."""
    harness.worker.is_ending = True
    harness.flush()


def model(harness: WorkerHarness) -> ShallowNetwork:
    """The ranking model of its worker."""
    found = harness.worker.recommender.model
    assert isinstance(found, ShallowNetwork)
    return found


def effect(harness: WorkerHarness) -> list[float]:
    """What each feature adds to a score at most, as learned so far."""
    return list(model(harness).feature_effects.values())


class TwoWorkers:
    """Two workers of one job on the same stores, each with users of its own."""

    def __init__(self) -> None:
        self.one = learning_harness(processes=2)
        self.other = WorkerHarness(self.one.clock, ranking=REPEATS, processes=2)
        for name in ("users", "items", "statistics", "models"):
            setattr(self.other, name, getattr(self.one, name))
        self.again()

    def again(self) -> None:
        """Restart both."""
        for shard, harness in enumerate((self.one, self.other)):
            harness.again()
            harness.know(*ITEMS)
            harness.worker.own_shard(shard + 3, None)
