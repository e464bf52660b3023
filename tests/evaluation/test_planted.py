"""Planted worlds, in which it is known why who chooses what, are recovered by the default ranking."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from recstream.config import Settings
from recstream.evaluation.baselines import BASELINES
from recstream.evaluation.log import read_log
from recstream.evaluation.protocol import Protocol
from recstream.evaluation.replay_loop import OWN
from recstream.evaluation.runs import EvaluationRun, RunResult, evaluate
from recstream.evaluation.worker_driver import WorkerDriver, evaluation_rules
from recstream.ranking.signals.table import signal_groups
from recstream.runtime.wiring import Wiring
from tests.evaluation.logs import Record, write
from tests.support.planted_worlds import PlantedWorld, sequence_world, text_world, trend_world

WORLDS: dict[str, Callable[..., PlantedWorld]] = {
    "text": text_world,
    "sequence": sequence_world,
    "trends": trend_world,
}
"""By the group of signals that carries each."""
SEEDS = (0, 1)


def settings(folder: Path, **named: object) -> Settings:
    small = {"encoder.backend": "hashing", "encoder.dim": 64, "ranking.top_n": 10, "ranking.repeats": "never"}
    return Settings.load(None, {}, {**small, "store.path": str(folder / "state"), **named})


@cache
def evaluated(name: str, seed: int) -> RunResult:
    """What ``recstream eval`` finds in a world with the default ranking."""
    world = WORLDS[name](seed=seed)
    with TemporaryDirectory() as at:
        folder = Path(at)
        files = (str(write(folder / "e.jsonl", world.events)), str(write(folder / "i.jsonl", world.items)))
        protocol = Protocol(last_frac=0.4)
        run = EvaluationRun(settings(folder), *files, protocol=protocol, against=tuple(BASELINES), ks=(10,))
        return evaluate(run, lambda *_: None)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WORLDS)
def test_the_signals_that_carry_a_world_are_found_out_and_the_others_lose(name: str, seed: int) -> None:
    effects = evaluated(name, seed).replay.learned.effects
    first, last = effects[0][1], effects[-1][1]
    groups = signal_groups()
    gained = {group: sum(last[signal] - first[signal] for signal in groups[group]) for group in WORLDS}
    assert gained[name] > 1.0
    assert all(gained[other] < gained[name] - 1.0 for other in WORLDS if other != name), gained
    moved = {signal: worth for signal, worth in last.items() if signal != "words"}  # nobody searches here
    assert max(moved, key=lambda signal: moved[signal]) in groups[name]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WORLDS)
def test_the_model_is_better_than_every_single_baseline_in_every_world(name: str, seed: int) -> None:
    ndcg = {method: row["ndcg@10"] for method, row in evaluated(name, seed).methods.items()}
    best = max(BASELINES, key=lambda method: ndcg[method])
    assert ndcg[OWN] > ndcg[best] > 0.0, f"{best}: {ndcg}"


def visited(
    folder: Path, world: PlantedWorld, visits: dict[str, list[int]], seed: int, **named: object
) -> dict[str, list[list[str]]]:
    """Lists after each event of new users, who take items of these topics, one a minute, none twice.

    They come after the world's own users have taught the ranking.
    """
    rng = random.Random(seed)
    ts = world.events[-1]["ts"]
    taken: list[Record] = []
    for user_id, topics in visits.items():
        left = {topic: iter(rng.sample(world.about(topic), 40)) for topic in topics}
        for topic in topics:
            ts += 60
            item_id = next(left[topic])
            taken.append({"user_id": user_id, "ts": ts, "action": "view", "item_id": item_id})
    wiring = Wiring(settings(folder, **named))
    rules = evaluation_rules(wiring)
    events = str(write(folder / "e.jsonl", [*world.events, *taken]))
    log = read_log(wiring, rules, events, str(write(folder / "i.jsonl", world.items)), 0, lambda *_: None)
    driver = WorkerDriver(wiring, rules, log)
    before = len(world.events)
    driver.learn(log.events[:before])
    lists: dict[str, list[list[str]]] = {user_id: [] for user_id in visits}
    for event in log.events[before:]:
        driver.learn([event])
        lists[event.user_id].append(driver.request(event.user_id, event.ts))
    wiring.close()
    return lists


def pairs(seed: int, count: int) -> list[tuple[int, int]]:
    """Two different topics each."""
    rng = random.Random(seed)
    return [(one, other) for one, other in (rng.sample(range(12), 2) for _ in range(count))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_new_interest_leads_within_three_events(tmp_path: Path, seed: int) -> None:
    world = text_world(seed=seed)
    switches = pairs(seed, 8)
    visits = {f"v{n}": [old] * 20 + [new] * 3 for n, (old, new) in enumerate(switches)}
    lists = visited(tmp_path, world, visits, seed)
    before, after = (
        [[world.share(lists[f"v{n}"][place], topic) for topic in pair] for n, pair in enumerate(switches)]
        for place in (19, 22)
    )
    assert all(new <= 0.1 for _, new in before)
    assert np.mean([new for _, new in after]) > 0.5
    assert sum(new > old for old, new in after) >= 6, after


@pytest.mark.parametrize("seed", SEEDS)
def test_an_old_taste_survives_a_digression_of_ten_events(tmp_path: Path, seed: int) -> None:
    """One event brings it back, and more surely than it would bring up a topic that was never theirs."""
    world = text_world(seed=seed)
    homes = pairs(seed, 8)
    returns = {f"back{n}": [home] * 30 + [other] * 10 + [home] for n, (home, other) in enumerate(homes)}
    firsts = {f"new{n}": [other] * 10 + [home] for n, (home, other) in enumerate(homes)}
    lists = visited(tmp_path, world, {**returns, **firsts}, seed)

    def share(who: str, place: int) -> float:
        return float(
            np.mean([world.share(lists[f"{who}{n}"][place], home) for n, (home, _) in enumerate(homes)])
        )

    assert share("back", -2) < 0.1  # the digression had the list to itself
    assert share("back", -1) > 0.5
    assert share("back", -1) > share("new", -1) + 0.05


def test_what_the_short_term_has_forgotten_the_long_term_brings_back(tmp_path: Path) -> None:
    """After 25 events of another topic, more than the short term holds; against a ranking without it."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    for seed in SEEDS:
        world = text_world(seed=seed)
        homes = pairs(seed, 6)
        visits = {f"v{n}": [home] * 30 + [other] * 25 + [home] for n, (home, other) in enumerate(homes)}
        for has_it, named in ((True, {}), (False, {"ranking.weights.long_term": 0.0})):
            lists = visited(tmp_path, world, visits, seed, **named)
            shares[has_it] += [world.share(lists[f"v{n}"][-1], home) for n, (home, _) in enumerate(homes)]
    assert np.mean(shares[True]) > 0.3
    assert np.mean(shares[True]) > np.mean(shares[False]) + 0.05, shares
