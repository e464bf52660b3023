"""The live graph on memory: sources and sinks of a test, stores in dicts, one and two workers."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
from bytewax.testing import TestingSink, TestingSource

from recstream.dataflow.graph import recommend_flow, replay_rules
from recstream.dataflow.model_state.weights import WEIGHTS
from recstream.dataflow.outputs import Inputs, Outputs
from recstream.encoders import open_encoder
from recstream.items.statistics import SCALES
from recstream.ranking.signals.table import default_weights
from recstream.records.dead_letter import raw_of
from tests.support.builders import encoder_spec
from tests.support.logs import T0, Record, events, versions_after
from tests.support.memory_jobs import DIM, ITEMS, WORKERS, MemoryJob, Run, ScriptedSource, raw_batches, view
from tests.support.rules import learning_rules, reject_limit_rules
from tests.support.stored_users import assert_same_users

TEXT_ONLY = {
    name: weight if name in ("short_term", "long_term") else 0.0 for name, weight in default_weights().items()
}
EVER = SCALES.index(math.inf)
"""Where a row of statistics counts everything."""


@pytest.fixture
def job(run_flow: Run) -> MemoryJob:
    return MemoryJob(run_flow)


@WORKERS
def test_every_user_ends_with_a_list_of_their_last_version(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    log = events(300)
    job.absorb(log)
    lists = job.lists()
    assert {user: made[-1]["version"] for user, made in lists.items()} == versions_after(log)
    for user, made in lists.items():
        versions = [one["version"] for one in made]
        assert versions == sorted(set(versions)), "one list a state, in order"
        last = max(at for at, event in enumerate(log) if event["user_id"] == user)
        assert made[-1]["as_of"] == {"ts": log[last]["ts"], "partition": "events/0", "offset": last}
        assert {one["trigger"] for one in made} == {"event"}
        for one in made:
            assert [entry["rank"] for entry in one["items"]] == list(range(1, len(one["items"]) + 1))
    assert job.account() == (300, 300, 0, 0, 0, 0, True)
    assert not job.dead_letters


def test_two_workers_give_the_users_and_lists_of_one(run_flow: Run) -> None:
    log = events(300)
    one, two = MemoryJob(run_flow, 1, TEXT_ONLY), MemoryJob(run_flow, 2, TEXT_ONLY)
    for job in (one, two):
        job.load_items()
        job.absorb(log, learning=learning_rules(enabled=False))  # each worker would learn from its own users
    assert_same_users(one.users.rows, two.users.rows)
    mine, theirs = one.lists(), two.lists()
    for user in mine:
        last, other = mine[user][-1], theirs[user][-1]
        assert [entry["item_id"] for entry in last["items"]] == [entry["item_id"] for entry in other["items"]]
        assert last["version"] == other["version"]
    assert one.items.rows.keys() == two.items.rows.keys()
    assert set(one.statistics.rows) == set(two.statistics.rows)
    for item_id, row in one.statistics.rows.items():
        twin = two.statistics.rows[item_id]
        assert row.counts[EVER] == pytest.approx(twin.counts[EVER], rel=1e-5), item_id


@WORKERS
def test_hidden_and_seen_items_are_not_recommended(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    log = events(300)
    job.absorb(log)
    for user, made in job.lists().items():
        touched = {event.get("item_id") for event in log if event["user_id"] == user}
        assert not touched & {entry["item_id"] for entry in made[-1]["items"]}


@WORKERS
def test_an_event_waits_for_an_item_that_comes_later_in_the_same_run(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items(ITEMS[:30])
    event_source = ScriptedSource(
        *raw_batches([view("early", "i35"), view("early", "i3", T0 + 5), view("never", "i99")]),
        1.0,
        *raw_batches([view("other", "i1", T0 + 50)], first=3),
        0.3,
        *raw_batches([view("other", "i2", T0 + 60)], first=4),
        0.3,
    )
    item_source = ScriptedSource(0.3, *raw_batches([ITEMS[35]], "items/0"), 1.5)
    run_flow(job.flow(event_source, item_source), workers=workers)
    user_state, known = job.user_state("early")
    assert user_state.version == 2
    assert {known.ids[entry.item]: entry.ts for entry in user_state.recent} == {"i35": T0, "i3": T0 + 5}
    assert job.lists()["early"][-1]["version"] == 2
    assert job.account() == (5, 4, 0, 0, 0, 1, True), "one still waits"
    assert len(job.user_state("never")[0].waiting) == 1


@WORKERS
def test_an_item_that_arrives_in_silence_wakes_those_who_wait_for_it(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items(ITEMS[:30])
    event_source = ScriptedSource(*raw_batches([view("early", "i35")]), 1.5)
    item_source = ScriptedSource(0.3, *raw_batches([ITEMS[35]], "items/0"), 1.2)
    run_flow(job.flow(event_source, item_source), workers=workers)
    assert [one["version"] for one in job.lists()["early"]] == [1]
    assert job.account() == (1, 1, 0, 0, 0, 0, True)


@WORKERS
def test_an_event_whose_item_never_comes_is_rejected_in_time(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items(ITEMS[:5])
    log = [view("u1", "i99"), view("u1", "i1", T0 + 1)]
    run_flow(job.flow(ScriptedSource(*raw_batches(log), 1.5), wait_for_item_s=0.4), workers=workers)
    assert job.reasons() == {("events/0", 0): "unknown_item"}
    (message,) = job.dead_letters
    assert raw_of(orjson.loads(message.value or b"")) == orjson.dumps(log[0])
    assert job.account() == (2, 1, 0, 0, 1, 0, True)


@WORKERS
def test_events_that_wait_survive_a_restart(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items(ITEMS[:5])
    job.absorb([view("u1", "i7")])
    assert len(job.user_state("u1")[0].waiting) == 1
    job.load_items([ITEMS[7]])
    job.absorb([view("u1", "i1", T0 + 9)], first=1)
    user_state, known = job.user_state("u1")
    assert [known.ids[entry.item] for entry in user_state.recent] == ["i7", "i1"]
    assert not user_state.waiting
    assert job.account() == (2, 2, 0, 0, 0, 0, True)


def test_who_waits_at_a_restart_gets_their_list_without_coming_back(run_flow: Run, tmp_path: Path) -> None:
    job = MemoryJob(run_flow, 1)
    job.load_items(ITEMS[:5])
    run_flow(
        job.flow(ScriptedSource(*raw_batches([view("u1", "i7")]), 0.0), wait_for_item_s=60.0), store=tmp_path
    )
    assert len(job.user_state("u1")[0].waiting) == 1
    job.load_items([ITEMS[7]])
    run_flow(job.flow(ScriptedSource(1.0), wait_for_item_s=60.0), store=tmp_path)
    user_state, _ = job.user_state("u1")
    assert (user_state.version, user_state.waiting) == (1, [])


@WORKERS
def test_an_event_may_bring_its_item(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    log = [{"user_id": f"u{n}", "ts": T0 + n, "action": "like", "item": ITEMS[n % 10]} for n in range(20)]
    job.absorb(log)
    assert sorted(job.items.rows) == sorted(item["item_id"] for item in ITEMS[:10])
    assert job.account() == (20, 20, 0, 0, 0, 0, True)
    for n in range(20):
        user_state, known = job.user_state(f"u{n}")
        assert [known.ids[entry.item] for entry in user_state.recent] == [f"i{n % 10}"]
    assert job.items.rows["i3"].title == ITEMS[3]["title"]


def test_words_are_stored_as_the_encoder_gives_them_and_steer_the_list(job: MemoryJob) -> None:
    job.load_items()
    job.load_items([{"item_id": "z", "title": "Xylophone quartet"}])
    job.absorb(
        [
            {"user_id": "u1", "ts": T0, "action": "search", "text": "xylophone quartet"},
            {
                "user_id": "u2",
                "ts": T0,
                "action": "comment",
                "item_id": "i1",
                "text": "Wonderful!",
                "rating": 5,
            },
        ]
    )
    encoder = open_encoder(encoder_spec(backend="hashing", dim=DIM))
    for user, text in (("u1", "xylophone quartet"), ("u2", "Wonderful!")):
        (vector,) = job.user_state(user)[0].words.values()
        np.testing.assert_array_equal(vector, encoder.encode([text])[0])
    assert job.lists()["u1"][-1]["items"][0]["item_id"] == "z"


@WORKERS
def test_a_request_gives_a_fresh_list_and_teaches_nothing(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    job.absorb([view("u1", "i1"), view("u1", "i2", T0 + 5)])
    before = dict(job.users.rows)
    job.absorb(
        [
            {"user_id": "u1", "ts": T0 + 9, "action": "request"},
            {"user_id": "new", "ts": T0 + 9, "action": "request"},
        ],
        first=2,
    )
    asked, fresh = job.lists()["u1"][-1], job.lists()["new"][-1]
    assert (asked["trigger"], asked["version"], asked["as_of"]["offset"]) == ("request", 2, 2)
    assert asked["as_of"]["ts"] == T0 + 9
    assert (fresh["trigger"], fresh["version"]) == ("request", 0)
    assert fresh["items"]
    assert_same_users({"u1": job.users.rows["u1"]}, {"u1": before["u1"]})
    assert job.account() == (4, 4, 0, 0, 0, 0, True)


@WORKERS
def test_a_forgotten_user_is_erased_and_their_list_ends_in_a_tombstone(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    job.absorb([view("u1", "i1"), view("u2", "i2"), view("u1", "i3", T0 + 5)])
    job.absorb([{"user_id": "u1", "ts": T0 + 9, "action": "forget"}], first=3)
    assert sorted(job.users.rows) == ["u2"]
    last = [message for message in job.messages if message.key == b"u1"][-1]
    assert last.value is None
    job.absorb([view("u1", "i4", T0 + 20)], first=4)
    assert job.user_state("u1")[0].version == 1, "they begin anew"
    assert job.account() == (5, 5, 0, 0, 0, 0, True)


@WORKERS
def test_a_user_who_is_forgotten_in_the_batch_of_their_event_gets_no_list_of_it(
    run_flow: Run, workers: int
) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    job.absorb([view("u1", "i1"), {"user_id": "u1", "ts": T0 + 9, "action": "forget"}])
    assert [message.value for message in job.messages if message.key == b"u1"][-1] is None
    assert not job.users.rows


@WORKERS
def test_sessions_are_announced_once_by_event_time(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    log = [
        view("u1", "i1"),
        view("u1", "i2", T0 + 600),
        {"user_id": "u1", "ts": T0 + 700, "action": "like", "item_id": "i2"},
        view("u1", "i3", T0 + 9000),
        view("u1", "i4", T0 + 20_000),
    ]
    job.absorb(log, sessions=True)
    told = [orjson.loads(message.value or b"") for message in job.sessions]
    assert [(one["start"], one["end"], one["events"], one["actions"], one["items"]) for one in told] == [
        (T0, T0 + 700, 3, {"view": 2, "like": 1}, ["i1", "i2"]),
        (T0 + 9000, T0 + 9000, 1, {"view": 1}, ["i3"]),
    ]
    assert all(one["user_id"] == "u1" for one in told)
    assert len({one["session_id"] for one in told}) == 2


def test_a_session_is_announced_when_its_user_goes_quiet(job: MemoryJob) -> None:
    job.load_items()
    flow = job.flow(
        ScriptedSource(*raw_batches([view("u1", "i1")]), 1.5),
        sessions=True,
        session_gap_s=0.3,
        lateness_s=0.2,
    )
    job.run_flow(flow)
    (told,) = [orjson.loads(message.value or b"") for message in job.sessions]
    assert (told["user_id"], told["events"], told["items"]) == ("u1", 1, ["i1"])


BAD: list[tuple[Record | bytes, str]] = [
    (b"{", "not_json"),
    (b"\xff\xfe{}", "not_json"),
    (b'{"user_id": "\xff"}', "not_json"),
    (b"", "not_json"),
    (b"[1, 2]", "not_an_object"),
    (b"7", "not_an_object"),
    ({"ts": T0, "action": "view", "item_id": "i1"}, "missing_field"),
    ({"user_id": "u1", "action": "view", "item_id": "i1"}, "missing_field"),
    ({"user_id": "u1", "ts": T0, "action": "view"}, "missing_field"),
    ({"user_id": ["u1"], "ts": T0, "action": "view", "item_id": "i1"}, "bad_type"),
    ({"user_id": "u1", "ts": True, "action": "view", "item_id": "i1"}, "bad_type"),
    ({"user_id": "u1", "ts": T0, "action": "rate", "item_id": "i1", "rating": "4"}, "bad_type"),
    ({"user_id": "u1", "ts": T0, "action": "rate", "item_id": "i1", "rating": 9}, "bad_value"),
    ({"user_id": "", "ts": T0, "action": "view", "item_id": "i1"}, "bad_value"),
    ({"user_id": "u1", "ts": T0, "action": "veiw", "item_id": "i1"}, "unknown_action"),
    ({"user_id": "u1", "ts": "yesterday", "action": "view", "item_id": "i1"}, "bad_timestamp"),
    ({"user_id": "u1", "ts": T0 * 1000, "action": "view", "item_id": "i1"}, "bad_timestamp"),
    ({"user_id": "u1", "ts": -5, "action": "view", "item_id": "i1"}, "bad_timestamp"),
    ({"user_id": "u1", "ts": 4e9, "action": "view", "item_id": "i1"}, "in_the_future"),
    ({"user_id": "u1", "ts": T0, "action": "search", "text": " \t "}, "empty_text"),
    ({"user_id": "u1", "ts": T0, "action": "search", "text": "x" * 9000}, "too_large"),
    ({"user_id": "u1", "ts": T0, "action": "view", "item_id": "i1", "pad": "x" * 300_000}, "too_large"),
    ({"user_id": "u1", "ts": T0, "action": "view", "item_id": "i1", "rec": 5}, "bad_type"),
    ({"user_id": "u1", "ts": T0, "action": "view", "item": {"item_id": "i5"}}, "missing_field"),
]
"""Bad event records and their reasons."""


@WORKERS
def test_every_bad_record_is_a_dead_letter_and_nothing_is_lost(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    good = events(60, ids=True)
    log: list[Record | bytes] = []
    for at in range(60):
        log += [good[at], *([BAD[at][0]] if at < len(BAD) else [])]
    log += [good[7], good[30]]
    job.absorb(log)
    assert len(job.dead_letters) == len(BAD)
    for message in job.dead_letters:
        letter = orjson.loads(message.value or b"")
        offset = letter["source"]["offset"]
        record, reason = BAD[offset // 2]
        assert (letter["reason"], letter["source"]["partition"]) == (reason, "events/0"), letter["detail"]
        sent = record if isinstance(record, bytes) else orjson.dumps(record)
        assert raw_of(letter) == sent[:262_144]
        assert letter.get("raw_bytes", len(sent)) == len(sent)
        assert message.key == b"events/0"
    account = job.account()
    assert account == (len(log), 60, 2, 0, len(BAD), 0, True), "the repeated two are duplicates"
    rejected = job.meters.snapshot()["records_rejected"]
    wanted = {f"events/{reason}": sum(one == reason for _, one in BAD) for _, reason in BAD}
    assert rejected == wanted


def test_bad_items_are_dead_letters_under_their_own_source(job: MemoryJob) -> None:
    bad: list[tuple[Record | bytes, str]] = [
        (b"no", "not_json"),
        ({"item_id": "x"}, "missing_field"),
        ({"item_id": "x", "title": "<b></b>"}, "empty_text"),
        ({"item_id": "x", "title": "X", "vector": [1, 2]}, "bad_vector"),
    ]
    item_source = TestingSource(raw_batches([*(record for record, _ in bad), *ITEMS[:3]], "items/0"))
    flow = job.flow(TestingSource(raw_batches([view("u1", "i1")])), item_source)
    job.run_flow(flow)
    assert job.reasons() == {("items/0", at): reason for at, (_, reason) in enumerate(bad)}
    assert sorted(job.items.rows) == ["i0", "i1", "i2"]
    assert job.account().balanced


@WORKERS
def test_a_log_read_twice_changes_nothing_but_repeats_the_lists(run_flow: Run, workers: int) -> None:
    job = MemoryJob(run_flow, workers)
    job.load_items()
    log = events(100)
    job.absorb(log)
    before = dict(job.users.rows)
    job.messages.clear()
    job.absorb(log)
    assert_same_users(job.users.rows, before)
    assert job.account() == (200, 100, 0, 100, 0, 0, True)
    assert {user: made[-1]["version"] for user, made in job.lists().items()} == versions_after(log)


@WORKERS
def test_a_null_value_deletes_an_item_and_is_no_event(run_flow: Run, workers: int) -> None:
    """However many come in a row: a compacted topic keeps one for each item that went."""
    job = MemoryJob(run_flow, workers)
    job.load_items()
    (items,) = raw_batches([b""] * (len(ITEMS) + 99), "items/0", size=1000)
    keys = [*(str(one["item_id"]).encode() for one in ITEMS[1:]), *(b"gone%d" % n for n in range(100))]
    (log,) = raw_batches([*[b""] * 50, view("ann", "i0"), b"", b"no JSON"], size=1000)
    flow = job.flow(
        TestingSource([log._replace(tombstones=dict.fromkeys([*range(50), 51], b"ann"))]),
        TestingSource([items._replace(tombstones=dict(enumerate(keys)))]),
        reject_limit=reject_limit_rules(share=0.5, records=10, run=2),
    )
    run_flow(flow, workers=workers)
    assert {row.item_id for row in job.items.rows.values() if not row.deleted} == {"i0"}
    assert job.reasons() == {("events/0", 52): "not_json"}
    assert job.account() == (2, 1, 0, 0, 1, 0, True)
    assert job.meters.snapshot()["events_tombstone"] == 51
    assert job.user_state("ann")[0].version == 1, "nobody was erased"


def test_a_replay_learns_the_same_however_its_log_is_read(run_flow: Run) -> None:
    """Batches of any size, epochs of any length: bytewax then makes other micro-batches of it."""
    log = events(400)
    found = []
    for size, epoch_s in ((1, 0.0), (7, 0.0), (64, 10.0), (400, 10.0)):
        job = MemoryJob(run_flow)
        job.load_items()
        rules = replay_rules(job.rules(), "end")
        source = TestingSource(raw_batches(log, size=size), batch_size=3)
        outputs = Outputs(TestingSink(job.messages), TestingSink(job.dead_letters))
        flow = recommend_flow(Inputs(source), outputs, job.services(), rules, name="backfill")
        run_flow(flow, epoch=timedelta(seconds=epoch_s))
        assert job.account() == (400, 400, 0, 0, 0, 0, True)
        assert not job.messages, "lists are made at the end"
        learned = {name: row.state for name, row in job.models.rows.items() if name.startswith(WEIGHTS)}
        neighbours = {item_id: row.state for item_id, row in job.statistics.rows.items()}
        users = {user_id: row.state for user_id, row in job.users.rows.items()}
        found.append((learned, neighbours, users))
        assert learned
    assert all(one == found[0] for one in found)
