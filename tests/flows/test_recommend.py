"""The live graph on memory: sources and sinks of a test, stores in dicts, one and two workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
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
from recstream.items.statistics import SCALES
from recstream.metrics.accounting import Accounting, accounting
from recstream.metrics.prometheus import PrometheusMeters
from recstream.ranking.online_learning import LearningRules
from recstream.ranking.recommender import RankingRules
from recstream.ranking.signals import DEFAULT_WEIGHTS
from recstream.records.actions import DecodeRules
from recstream.records.dead_letter import raw_of
from recstream.records.transport import Message, Partition, RawBatch
from recstream.stores.memory import MemoryItemStore, MemoryModelStore, MemoryStatisticsStore, MemoryUserStore
from recstream.users.codec import user_state_of
from recstream.users.state import UserState, UserStateRules
from tests.support.builders import encoder_spec
from tests.support.live import T0, Record, assert_same_users, events, item, versions_after

Run = Callable[..., None]
DIM = 64
ITEMS = [item(number) for number in range(40)]
TEXT_ONLY = {
    name: weight if name in ("short_term", "long_term") else 0.0 for name, weight in DEFAULT_WEIGHTS.items()
}
EVER = SCALES.index(math.inf)
"""Where a row of statistics counts everything."""
WORKERS = pytest.mark.parametrize("workers", [1, 2])
BatchResult = RawBatch | float
"""What a scripted source does next: give a batch, or say nothing for so many seconds."""


def raw(
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


class Script(FixedPartitionedSource[RawBatch, int]):
    """Batches with pauses between them: what happens while nothing is read can then be seen."""

    def __init__(self, *steps: BatchResult) -> None:
        self._steps = steps

    @override
    def list_parts(self) -> list[str]:
        return ["script"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Steps:
        return _Steps(list(self._steps))


class _Steps(StatefulSourcePartition[RawBatch, int]):
    def __init__(self, steps: list[BatchResult]) -> None:
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
class Job:
    """A job on memory: run it as often as wanted, its stores stay."""

    run_flow: Run
    workers: int = 1
    weights: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    users: MemoryUserStore = field(default_factory=lambda: MemoryUserStore(DIM))
    items: MemoryItemStore = field(default_factory=lambda: MemoryItemStore(DIM))
    statistics: MemoryStatisticsStore = field(default_factory=MemoryStatisticsStore)
    models: MemoryModelStore = field(default_factory=MemoryModelStore)
    meters: PrometheusMeters = field(default_factory=PrometheusMeters)
    messages: list[Message] = field(default_factory=list)
    letters: list[Message] = field(default_factory=list)
    sessions: list[Message] = field(default_factory=list)

    def services(self) -> Services:
        encoder = open_encoder(encoder_spec(backend="hashing", dim=DIM))
        return Services(
            encoder=lambda: encoder,
            users=lambda: self.users,
            items=lambda: self.items,
            statistics=lambda: self.statistics,
            models=lambda: self.models,
            meters=self.meters,
            now=time.time,
        )

    def rules(self, **more: Any) -> DataflowRules:
        return DataflowRules(
            user_state=UserStateRules(DecodeRules(dim=DIM)),
            ranking=RankingRules(top_n=5, weights=self.weights),
            processes=self.workers,
            **{"refresh_s": 0.05, **more},
        )

    def know(self, records: Sequence[Record] = ITEMS) -> None:
        """Load a catalogue, by the flow that does it."""
        flow = catalogue_flow(
            TestingSource(raw(records, "items/0")), TestingSink(self.letters), self.services(), self.rules()
        )
        self.run_flow(flow, workers=self.workers)

    def flow(self, heard: Source[RawBatch], items: Source[RawBatch] | None = None, **rules: Any) -> Dataflow:
        outputs = Outputs(
            TestingSink(self.messages),
            TestingSink(self.letters),
            TestingSink(self.sessions) if rules.get("sessions") else None,
        )
        return recommend_flow(Inputs(heard, items), outputs, self.services(), self.rules(**rules))

    def hear(self, records: Iterable[Record | bytes], *, first: int = 0, **rules: Any) -> None:
        """Work a log off."""
        self.run_flow(self.flow(TestingSource(raw(records, first=first)), **rules), workers=self.workers)

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

    def profile(self, user_id: str) -> tuple[UserState, Catalogue]:
        known = Catalogue(DIM)
        return user_state_of(self.users.rows[user_id], known), known

    def reasons(self) -> dict[tuple[str, int], str]:
        """Dead letters: reason by source."""
        letters = [orjson.loads(message.value or b"") for message in self.letters]
        return {(one["source"]["partition"], one["source"]["offset"]): one["reason"] for one in letters}


@pytest.fixture
def job(run_flow: Run) -> Job:
    return Job(run_flow)


def view(user: str, item_id: str, ts: float = T0, **more: Any) -> Record:
    return {"user_id": user, "ts": ts, "action": "view", "item_id": item_id, **more}


@WORKERS
def test_every_user_ends_with_a_list_of_their_last_version(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know()
    log = events(300)
    job.hear(log)
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
    assert not job.letters


def test_two_workers_give_the_users_and_lists_of_one(run_flow: Run) -> None:
    log = events(300)
    one, two = Job(run_flow, 1, TEXT_ONLY), Job(run_flow, 2, TEXT_ONLY)
    for job in (one, two):
        job.know()
        job.hear(log, learning=LearningRules(enabled=False))  # each worker would learn from its own users
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
    job = Job(run_flow, workers)
    job.know()
    log = events(300)
    job.hear(log)
    for user, made in job.lists().items():
        touched = {event.get("item_id") for event in log if event["user_id"] == user}
        assert not touched & {entry["item_id"] for entry in made[-1]["items"]}


@WORKERS
def test_an_event_waits_for_an_item_that_comes_later_in_the_same_run(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know(ITEMS[:30])
    heard = Script(
        *raw([view("early", "i35"), view("early", "i3", T0 + 5), view("never", "i99")]),
        1.0,
        *raw([view("other", "i1", T0 + 50)], first=3),
        0.3,
        *raw([view("other", "i2", T0 + 60)], first=4),
        0.3,
    )
    listed = Script(0.3, *raw([ITEMS[35]], "items/0"), 1.5)
    run_flow(job.flow(heard, listed), workers=workers)
    profile, known = job.profile("early")
    assert profile.version == 2
    assert {known.ids[entry.item]: entry.ts for entry in profile.recent} == {"i35": T0, "i3": T0 + 5}
    assert job.lists()["early"][-1]["version"] == 2
    assert job.account() == (5, 4, 0, 0, 0, 1, True), "one still waits"
    assert len(job.profile("never")[0].waiting) == 1


@WORKERS
def test_an_item_that_arrives_in_silence_wakes_those_who_wait_for_it(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know(ITEMS[:30])
    heard = Script(*raw([view("early", "i35")]), 1.5)
    listed = Script(0.3, *raw([ITEMS[35]], "items/0"), 1.2)
    run_flow(job.flow(heard, listed), workers=workers)
    assert [one["version"] for one in job.lists()["early"]] == [1]
    assert job.account() == (1, 1, 0, 0, 0, 0, True)


@WORKERS
def test_an_event_whose_item_never_comes_is_rejected_in_time(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know(ITEMS[:5])
    log = [view("u1", "i99"), view("u1", "i1", T0 + 1)]
    run_flow(job.flow(Script(*raw(log), 1.5), wait_for_item_s=0.4), workers=workers)
    assert job.reasons() == {("events/0", 0): "unknown_item"}
    (letter,) = job.letters
    assert raw_of(orjson.loads(letter.value or b"")) == orjson.dumps(log[0])
    assert job.account() == (2, 1, 0, 0, 1, 0, True)


@WORKERS
def test_events_that_wait_survive_a_restart(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know(ITEMS[:5])
    job.hear([view("u1", "i7")])
    assert len(job.profile("u1")[0].waiting) == 1
    job.know([ITEMS[7]])
    job.hear([view("u1", "i1", T0 + 9)], first=1)
    profile, known = job.profile("u1")
    assert [known.ids[entry.item] for entry in profile.recent] == ["i7", "i1"]
    assert not profile.waiting
    assert job.account() == (2, 2, 0, 0, 0, 0, True)


def test_who_waits_at_a_restart_gets_their_list_without_coming_back(run_flow: Run, tmp_path: Path) -> None:
    job = Job(run_flow, 1)
    job.know(ITEMS[:5])
    run_flow(job.flow(Script(*raw([view("u1", "i7")]), 0.0), wait_for_item_s=60.0), store=tmp_path)
    assert len(job.profile("u1")[0].waiting) == 1
    job.know([ITEMS[7]])
    run_flow(job.flow(Script(1.0), wait_for_item_s=60.0), store=tmp_path)
    profile, _ = job.profile("u1")
    assert (profile.version, profile.waiting) == (1, [])


@WORKERS
def test_an_event_may_bring_its_item(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    log = [{"user_id": f"u{n}", "ts": T0 + n, "action": "like", "item": ITEMS[n % 10]} for n in range(20)]
    job.hear(log)
    assert sorted(job.items.rows) == sorted(item["item_id"] for item in ITEMS[:10])
    assert job.account() == (20, 20, 0, 0, 0, 0, True)
    for n in range(20):
        profile, known = job.profile(f"u{n}")
        assert [known.ids[entry.item] for entry in profile.recent] == [f"i{n % 10}"]
    assert job.items.rows["i3"].title == ITEMS[3]["title"]


def test_words_are_stored_as_the_encoder_gives_them_and_steer_the_list(job: Job) -> None:
    job.know()
    job.know([{"item_id": "z", "title": "Xylophone quartet"}])
    job.hear(
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
        (vector,) = job.profile(user)[0].words.values()
        np.testing.assert_array_equal(vector, encoder.encode([text])[0])
    assert job.lists()["u1"][-1]["items"][0]["item_id"] == "z"


@WORKERS
def test_a_request_gives_a_fresh_list_and_teaches_nothing(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know()
    job.hear([view("u1", "i1"), view("u1", "i2", T0 + 5)])
    before = dict(job.users.rows)
    job.hear(
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
    job = Job(run_flow, workers)
    job.know()
    job.hear([view("u1", "i1"), view("u2", "i2"), view("u1", "i3", T0 + 5)])
    job.hear([{"user_id": "u1", "ts": T0 + 9, "action": "forget"}], first=3)
    assert sorted(job.users.rows) == ["u2"]
    last = [message for message in job.messages if message.key == b"u1"][-1]
    assert last.value is None
    job.hear([view("u1", "i4", T0 + 20)], first=4)
    assert job.profile("u1")[0].version == 1, "they begin anew"
    assert job.account() == (5, 5, 0, 0, 0, 0, True)


@WORKERS
def test_a_user_who_is_forgotten_in_the_batch_of_their_event_gets_no_list_of_it(
    run_flow: Run, workers: int
) -> None:
    job = Job(run_flow, workers)
    job.know()
    job.hear([view("u1", "i1"), {"user_id": "u1", "ts": T0 + 9, "action": "forget"}])
    assert [message.value for message in job.messages if message.key == b"u1"][-1] is None
    assert not job.users.rows


@WORKERS
def test_sessions_are_announced_once_by_event_time(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know()
    log = [
        view("u1", "i1"),
        view("u1", "i2", T0 + 600),
        {"user_id": "u1", "ts": T0 + 700, "action": "like", "item_id": "i2"},
        view("u1", "i3", T0 + 9000),
        view("u1", "i4", T0 + 20_000),
    ]
    job.hear(log, sessions=True)
    told = [orjson.loads(message.value or b"") for message in job.sessions]
    assert [(one["start"], one["end"], one["events"], one["actions"], one["items"]) for one in told] == [
        (T0, T0 + 700, 3, {"view": 2, "like": 1}, ["i1", "i2"]),
        (T0 + 9000, T0 + 9000, 1, {"view": 1}, ["i3"]),
    ]
    assert all(one["user_id"] == "u1" for one in told)
    assert len({one["session_id"] for one in told}) == 2


def test_a_session_is_announced_when_its_user_goes_quiet(job: Job) -> None:
    job.know()
    flow = job.flow(Script(*raw([view("u1", "i1")]), 1.5), sessions=True, session_gap_s=0.3, lateness_s=0.2)
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
    job = Job(run_flow, workers)
    job.know()
    good = events(60, ids=True)
    log: list[Record | bytes] = []
    for at in range(60):
        log += [good[at], *([BAD[at][0]] if at < len(BAD) else [])]
    log += [good[7], good[30]]
    job.hear(log)
    assert len(job.letters) == len(BAD)
    for message in job.letters:
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


def test_bad_items_are_dead_letters_under_their_own_source(job: Job) -> None:
    bad: list[tuple[Record | bytes, str]] = [
        (b"no", "not_json"),
        ({"item_id": "x"}, "missing_field"),
        ({"item_id": "x", "title": "<b></b>"}, "empty_text"),
        ({"item_id": "x", "title": "X", "vector": [1, 2]}, "bad_vector"),
    ]
    listed = TestingSource(raw([*(record for record, _ in bad), *ITEMS[:3]], "items/0"))
    flow = job.flow(TestingSource(raw([view("u1", "i1")])), listed)
    job.run_flow(flow)
    assert job.reasons() == {("items/0", at): reason for at, (_, reason) in enumerate(bad)}
    assert sorted(job.items.rows) == ["i0", "i1", "i2"]
    assert job.account().balanced


@WORKERS
def test_a_log_heard_twice_changes_nothing_but_repeats_the_lists(run_flow: Run, workers: int) -> None:
    job = Job(run_flow, workers)
    job.know()
    log = events(100)
    job.hear(log)
    before = dict(job.users.rows)
    job.messages.clear()
    job.hear(log)
    assert_same_users(job.users.rows, before)
    assert job.account() == (200, 100, 0, 100, 0, 0, True)
    assert {user: made[-1]["version"] for user, made in job.lists().items()} == versions_after(log)
