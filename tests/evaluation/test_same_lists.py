"""Evaluation scores the lists that the dataflow makes: same ids, same order, same figures."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
import pytest

from recstream.config import Settings
from recstream.evaluation.log import Log, read_log
from recstream.evaluation.protocol import Plan, Protocol, When, plan_of
from recstream.evaluation.replay_loop import OWN, run_replay_loop
from recstream.evaluation.worker_driver import WorkerDriver, evaluation_rules
from recstream.ranking.signals.table import default_weights
from recstream.runtime.replay import replay
from recstream.runtime.signals import Stop
from recstream.runtime.wiring import Wiring
from tests.evaluation.logs import Record, items_of, log_of, with_requests, write

HASHING = {"encoder.backend": "hashing", "ranking.top_n": 30, "events.actions": {"ask": 1.0}}
EVENTS = 320


def records() -> list[Record]:
    """A log in which some items are known by their events alone, and one by none."""
    log = log_of(EVENTS, items=60, seed=3)
    for place in (*range(6, EVENTS // 2, 5), *range(EVENTS // 2, EVENTS, 31)):
        if "item_id" in log[place]:
            item_id = f"new{place}"
            log[place] |= {"item_id": item_id, "item": {"item_id": item_id, "title": f"ghost train {place}"}}
    log[100] |= {"action": "view", "item_id": "nobody knows it"}
    log[150] = log[149]
    return log


def settings(folder: Path, **named: object) -> Settings:
    return Settings.load(None, {}, {**HASHING, "store.path": str(folder / "state"), **named})


def backfilled(folder: Path, log: list[Record]) -> list[Record]:
    """The lists of `recstream backfill --refresh event`."""
    out = folder / "lists.jsonl"
    chosen = settings(
        folder,
        **{
            "backfill.events": str(write(folder / "log.jsonl", log)),
            "backfill.items": str(write(folder / "items.jsonl", items_of(60))),
            "backfill.out": str(out),
            "backfill.refresh": "event",
        },
    )
    assert replay(chosen, Stop(), lambda *_: None).account.balanced
    return [orjson.loads(line) for line in out.read_bytes().splitlines()]


def opened(
    folder: Path, log: list[Record], protocol: Protocol, *, repeats: bool = False
) -> tuple[Log, Plan, WorkerDriver]:
    folder.mkdir(exist_ok=True)
    wiring = Wiring(settings(folder, **{"ranking.repeats": "always" if repeats else "never"}))
    rules = evaluation_rules(wiring)
    items, events = write(folder / "items.jsonl", items_of(60)), write(folder / "log.jsonl", log)
    read = read_log(wiring, rules, str(events), str(items), 0, lambda *_: None)
    known = frozenset(row.item_id for row in read.rows)
    plan = plan_of(read.events, rules.user_state.decode.actions, known, protocol)
    return read, plan, WorkerDriver(wiring, rules, read)


def test_lists_at_request_time_are_those_of_a_backfill_of_the_log_with_requests(tmp_path: Path) -> None:
    log = records()
    read, plan, driver = opened(tmp_path / "eval", log, Protocol(last_frac=0.5))
    places = [trial.place for trial in plan.trials]
    made, fed = [], 0
    for trial in plan.trials:
        driver.learn(read.events[fed : trial.place])
        fed = trial.place
        made.append((trial.user_id, driver.request(trial.user_id, trial.ts)))
    moved = max(abs(worth - default_weights()[name]) for name, worth in driver.effects.items())
    assert driver.examples > EVENTS // 4
    assert moved > 1.0  # by what was learned, lists are others than they would be
    lists = backfilled(tmp_path, with_requests(log, places))
    asked = [record for record in lists if record["trigger"] == "request"]
    own = [
        n
        for n, record in enumerate(with_requests(log, places))
        if record.get("event_id", "").startswith("asked")
    ]
    answers = [record for record in asked if record["as_of"]["offset"] in own]
    assert len(made) > 40
    assert made == [(r["user_id"], [item["item_id"] for item in r["items"]]) for r in answers]


@pytest.mark.parametrize("when", ["request", "emitted"])
def test_figures_are_those_of_the_lists_a_backfill_wrote(tmp_path: Path, when: When) -> None:
    log = records()
    protocol = Protocol(last_frac=0.5, when=when)
    read, plan, driver = opened(tmp_path / "eval", log, protocol)
    result = run_replay_loop(read, plan, protocol, driver, (), most=30, on_progress=lambda _: None)
    places = [trial.place for trial in plan.trials] if when == "request" else []
    lists = backfilled(tmp_path, with_requests(log, places))
    line = {place: place + sum(p <= place for p in places) for place in range(len(log))}
    hits, gain, tests = 0, 0.0, 0
    for trial in plan.trials:
        before = [
            r for r in lists if r["user_id"] == trial.user_id and r["as_of"]["offset"] < line[trial.place]
        ]
        newest = max(before, key=lambda r: r["as_of"]["offset"])["items"] if before else []
        seen = {
            e["item_id"]
            for e in log[: trial.place]
            if e["user_id"] == trial.user_id and "item_id" in e and e["action"] != "impression"
        }
        ids = [item["item_id"] for item in newest if item["item_id"] not in seen]
        for target in trial.targets:
            tests += 1
            if target.item_id in ids[:10]:
                hits += 1
                gain += 1 / math.log2(ids.index(target.item_id) + 2)
    row = result.figures(OWN, (10,))
    assert (row["tests"], row["hr@10"]) == (tests, pytest.approx(hits / tests))
    assert row["ndcg@10"] == pytest.approx(gain / tests)
    assert 0.1 < row["hr@10"] < 1.0
    assert (row["events_behind"] > 0) == (when == "emitted")


def test_what_the_user_has_had_is_dropped_from_lists_that_hold_it(tmp_path: Path) -> None:
    log, protocol = records(), Protocol(last_frac=0.5)
    read, plan, driver = opened(tmp_path, log, protocol, repeats=True)
    result = run_replay_loop(read, plan, protocol, driver, (), most=30, on_progress=lambda _: None)
    again = Protocol(last_frac=0.5, repeats=True)
    read, plan, driver = opened(tmp_path, log, again, repeats=True)
    kept = run_replay_loop(read, plan, again, driver, (), most=30, on_progress=lambda _: None)
    lengths = [(found.methods[OWN].lists >= 0).sum(axis=1) for found in (result, kept)]
    assert (lengths[0] < 30).mean() > 0.5
    assert lengths[1].min() == 30


def test_lists_are_made_of_nothing_that_comes_later(tmp_path: Path) -> None:
    log, protocol = records(), Protocol(last_frac=0.5)
    whole, plan, driver = opened(tmp_path / "whole", log, protocol)
    place = plan.trials[10].place
    driver.learn(whole.events[:place])
    listed = driver.request(plan.trials[10].user_id, plan.trials[10].ts)
    cut, _, other = opened(tmp_path / "cut", log[:place], protocol)
    other.learn(cut.events)
    assert other.request(plan.trials[10].user_id, plan.trials[10].ts) == listed


def test_what_is_rejected_is_left_out_and_counted(tmp_path: Path) -> None:
    log: list[Record] = [
        *records(),
        {"user_id": "u1", "ts": 1_700_100_000, "action": "gaze", "item_id": "i1"},
    ]
    read, plan, driver = opened(tmp_path / "eval", log, Protocol())
    run_replay_loop(read, plan, Protocol(), driver, (), most=30, on_progress=lambda _: None)
    driver.learn(read.events[-1:])
    assert read.rejected == {"unknown_action": 1, "unknown_item": 1}
    assert len(read.events) == EVENTS
